"""Races seen from outside: who waits for whom stands in pg_stat_activity, and nobody sleeps and hopes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg

from outbox.postgresql import rows
from outbox.session import Query, Row, Session, session_on
from outbox.terms import BEGIN, SETTINGS
from tests.support.wait import wait_until

T = TypeVar("T")

BLOCKED = """SELECT 1 FROM pg_stat_activity
WHERE application_name = %s AND state = 'active' AND cardinality(pg_blocking_pids(pid)) > 0"""


_sessions: list[Session] = []


def named(name: str, *, patience: float = 10.0) -> Session:
    """A session that can be found by its name; the fixture `ours` closes it."""
    session = session_on("default", application_name=name, statement_timeout=patience)
    _sessions.append(session)
    return session


def close_all() -> None:
    while _sessions:
        _sessions.pop().close()


def wait_until_blocked(name: str) -> None:
    """Wait until the session of that name waits for a lock somebody else holds.

    It looks from a connection of its own in autocommit: inside a transaction pg_stat_activity never changes.
    """
    watcher = named("watcher")
    wait_until(lambda: watcher.glance(Query(BLOCKED, (name,))), what=f"{name} is blocked")
    watcher.close()


class Open:
    """One of our transactions that is not committed yet: what it does, it holds."""

    def __init__(self, session: Session) -> None:
        self._connection = session.connection
        self._connection.execute(BEGIN)
        self._connection.execute(SETTINGS, ("10000", False))

    def run(self, query: Query) -> list[Row]:
        return rows(self._connection.execute(query.sql, query.params))

    def run_all(self, queries: Sequence[Query]) -> list[list[Row]]:
        return [self.run(query) for query in queries]

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        self._connection.execute("ROLLBACK")


@contextmanager
def open_transaction(name: str) -> Iterator[Open]:
    """A transaction in a session of its own; rolled back where nobody has committed it."""
    session = named(name)
    try:
        yield Open(session)
    finally:
        with suppress(psycopg.Error):  # some tests end its session; else it has let go of everything by now
            session.connection.execute("ROLLBACK")
        session.close()


@contextmanager
def meanwhile(do: Callable[..., T], *args: Any) -> Iterator[Future[T]]:
    """Do something in a thread; its result is asked for after the race has been set up and resolved."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(do, *args)


def together(*doers: Callable[[], T]) -> list[T]:
    """Do all at once, each in its thread; their results."""
    with ThreadPoolExecutor(len(doers)) as pool:
        return [future.result() for future in [pool.submit(doer) for doer in doers]]
