"""The one way to the database for people: read only, two seconds at most, on the queue's database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError, connections, transaction

from jobs.conf import jobs_settings
from outbox.ask import ask_named
from outbox.ask import limited as interrupted_after

MOST_SECONDS = 2.0

# What was set before comes back: the read may be part of a transaction of the request.
LIMIT = """SELECT current_setting('statement_timeout'), set_config('statement_timeout', %s, true),
 current_setting('jit'), set_config('jit', 'off', true)"""
UNLIMIT = "SELECT set_config('statement_timeout', %s, true), set_config('jit', %s, true)"

CANCELED = "57014"


class TooSlow(Exception):
    """A read took longer than a page may take. The page says so and what to narrow."""


class Found(dict[str, Any]):
    """A row, its columns as attributes for templates and code alike."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def rows(sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> list[Found]:
    """The rows of one query, by the names of their columns; raises TooSlow."""
    alias = jobs_settings().DATABASE
    try:
        with transaction.atomic(using=alias), limited(alias):
            names, found = ask_named(alias, sql, params)
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) == CANCELED or str(error) == "interrupted":
            raise TooSlow from error
        raise
    return [Found(zip(names, row, strict=True)) for row in found]


@contextmanager
def limited(alias: str) -> Iterator[None]:
    """What is read in here takes two seconds at most, or ends with an error."""
    if connections[alias].vendor == "sqlite":
        with interrupted_after(alias, MOST_SECONDS):
            yield
        return
    with connections[alias].cursor() as cursor:
        cursor.execute(LIMIT, (str(int(MOST_SECONDS * 1000)),))
        before = cursor.fetchone()
        yield
        cursor.execute(UNLIMIT, (before[0], before[2]))


def one(sql: str, params: Sequence[Any] = ()) -> Found | None:
    return next(iter(rows(sql, params)), None)
