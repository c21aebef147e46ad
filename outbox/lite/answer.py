"""Run one of our statements on SQLite, on any cursor that takes Django's placeholders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.lite.book import Answer, Row, find
from outbox.lite.functions import teach
from outbox.lite.lane import writing
from outbox.lite.spell import spell
from outbox.lite.values import read

Execute = Callable[[str, Any], Any]
"""Executes one statement with SQLite's values; its answer is a cursor."""

Params = Sequence[Any] | Mapping[str, Any]


class Doing:
    """Runs plain statements for a verb."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    def __call__(self, sql: str, params: Params = ()) -> list[Row]:
        return self.answer(sql, params).rows

    def as_said(self, sql: str, params: Params = ()) -> list[Row]:
        return answer(self._execute, sql, params).rows

    def answer(self, sql: str, params: Params = ()) -> Answer:
        spelled = spell(sql)
        cursor = self._execute(spelled.sql, spelled.params(params))
        if cursor.description is None:
            return Answer((), [])
        names = [column[0] for column in cursor.description]
        return Answer(names, read(names, cursor.fetchall()))


def answer(execute: Execute, sql: str, params: Params = ()) -> Answer:
    """Do what the statement says, in its own room or as it is spelled."""
    doing = Doing(execute)
    found = find(sql)
    if found is None:
        return doing.answer(sql, params)
    if found.room.verb is None:
        return doing.answer(_filled(found.room.text, found.parts), params)
    done = found.room.verb(doing, params, **found.parts)
    return done if isinstance(done, Answer) else Answer((), done)


def reads(sql: str) -> bool:
    """Whether the statement writes nothing."""
    found = find(sql)
    if found is None:
        return spell(sql).reads
    return found.room.reads if found.room.verb is not None else spell(_filled(found.room.text, found.parts)).reads


def ask(connection: BaseDatabaseWrapper, sql: str, params: Params = ()) -> Answer:
    """The same on a connection of Django's, in the transaction that is open there."""
    connection.ensure_connection()
    teach_once(connection)
    found = find(sql)
    several = found is not None and found.room.verb is not None and not found.room.reads
    with writing(connection) if several else nullcontext(), connection.cursor() as cursor:

        def execute(text: str, values: Any) -> Any:
            cursor.execute(text, values)
            return cursor

        return answer(execute, sql, params)


def teach_once(connection: BaseDatabaseWrapper) -> None:
    """Our functions are the raw connection's, which Django may open anew at any time."""
    raw: Any = connection.connection
    if getattr(connection, "_jobs_taught", None) is not raw:
        teach(raw)
        connection._jobs_taught = raw  # type: ignore[attr-defined]  # noqa: SLF001


def _filled(text: str, parts: dict[str, str]) -> str:
    for name, part in parts.items():
        text = text.replace(f"{{{name}}}", part)
    return text
