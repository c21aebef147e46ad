"""Run one of our statements on Django's own connection, in the transaction that is open there, on either database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, NamedTuple

from django.db import connections, transaction

from outbox.session import Row

Params = Sequence[Any] | Mapping[str, Any]


class Asked(NamedTuple):
    """Rows with the names of their columns; none of either where a statement gives no rows."""

    names: Sequence[str]
    rows: list[Row]


def ask(alias: str, sql: str, params: Params = ()) -> list[Row]:
    """The rows of one statement."""
    return ask_named(alias, sql, params).rows


def ask_named(alias: str, sql: str, params: Params = ()) -> Asked:
    """The same with the names of the columns."""
    connection = connections[alias]
    if connection.vendor == "sqlite":
        return Asked(*_lite("answer").ask(connection, sql, params))
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        if cursor.description is None:
            return Asked((), [])
        return Asked([column[0] for column in cursor.description], list(cursor.fetchall()))


def writing(alias: str) -> AbstractContextManager[None]:
    """`atomic` for a transaction of ours that writes: on SQLite it takes the one writer's turn when it begins."""
    connection = connections[alias]
    if connection.vendor == "sqlite":
        block: AbstractContextManager[None] = _lite("lane").writing(connection)
        return block
    return transaction.atomic(using=alias)


def not_for_workers(alias: str) -> str | None:
    """Why processes of their own cannot use that database; None when they can."""
    if connections[alias].vendor != "sqlite":
        return None
    why: str | None = _lite("fitness").not_for_workers(alias)
    return why


def limited(alias: str, seconds: float) -> AbstractContextManager[None]:
    """On SQLite: what is read in here is interrupted after so long. PostgreSQL has a setting for that."""
    block: AbstractContextManager[None] = _lite("lane").limited(connections[alias], seconds)
    return block


def _lite(room: str) -> Any:
    """Imported when asked for: whoever is on PostgreSQL never reads it."""
    return import_module(f"outbox.lite.{room}")
