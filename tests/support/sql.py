"""Raw SQL in tests, in PostgreSQL's words, on whichever database the tests play."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from outbox.ask import ask_named


class Asking:
    """A cursor on SQLite: statements are respelled, and values come back with PostgreSQL's types."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1

    def execute(self, sql: str, params: Any = ()) -> Asking:
        asked = ask_named(self._alias, sql, params or ())
        self._rows, self.rowcount = list(asked.rows), len(asked.rows)
        self.description = [(name,) for name in asked.names] or None
        return self

    def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())


@contextmanager
def a_cursor(alias: str = "default") -> Iterator[Any]:
    """Django's own on PostgreSQL."""
    if connections[alias].vendor == "sqlite":
        yield Asking(alias)
        return
    with connections[alias].cursor() as cursor:
        yield cursor
