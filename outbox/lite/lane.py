"""The writer's turn: SQLite has one writer at a time, and our transactions ask for the turn when they begin.

A transaction that reads first and asks only at its first write is refused on the spot where another has written in
between, however patient it is ("database is locked"). One that asks at its beginning waits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

PATIENCE = 60.0
"""Seconds that a transaction of ours on the application's own connection waits for its turn, at least."""


def busy(error: BaseException) -> bool:
    """Whether somebody else is writing: nothing is wrong but the time."""
    return isinstance(error, OperationalError) and "locked" in str(error)


@contextmanager
def writing(connection: BaseDatabaseWrapper, patience: float = PATIENCE) -> Iterator[None]:
    """`atomic` on Django's connection; outermost on SQLite, it has the writer's turn from its beginning."""
    block = transaction.atomic(using=connection.alias)
    with ExitStack() as stack:
        if connection.vendor != "sqlite" or connection.in_atomic_block or not connection.get_autocommit():
            stack.enter_context(block)
        else:
            _begin(connection, lambda: stack.enter_context(block), patience)
        yield


def _begin(connection: Any, enter: Any, patience: float) -> None:
    until = time.monotonic() + patience
    connection.ensure_connection()
    mode, connection.transaction_mode = connection.transaction_mode, "IMMEDIATE"
    try:
        while True:
            try:
                enter()
                return
            except OperationalError as error:  # Django's own patience, `timeout` in OPTIONS, has ended
                if not busy(error) or time.monotonic() > until:
                    raise
    finally:
        connection.transaction_mode = mode


@contextmanager
def limited(connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
    """Statements on this connection are interrupted once the time is over."""
    until = time.monotonic() + seconds
    connection.ensure_connection()
    raw: Any = connection.connection
    raw.set_progress_handler(lambda: time.monotonic() > until, 20_000)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)
