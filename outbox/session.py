"""A database connection of our own, beside Django's, for the processes that move rows.

It takes a Django database alias; it leaves one connection whose every verb is one transaction. Which one it is depends
on the database: `outbox.postgresql` for PostgreSQL, `outbox.lite` for SQLite. A crash here leaves whatever the last
commit left.
"""

from __future__ import annotations

import os
import random
import select
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

from django.db import connections
from django.utils.module_loading import import_string

Row: TypeAlias = tuple[Any, ...]


class Query(NamedTuple):
    """A statement and its parameters: what a verb is before it is run."""

    sql: str
    params: Sequence[Any] = ()


Run: TypeAlias = Callable[[Query], list[Row]]
"""Runs one query and gives its rows: `Session.run` in a worker, a Django cursor in a test or an atomic task."""


class Session(ABC):
    """One connection to `alias`, opened at the first use and again after each loss.

    `session_on(alias)` makes the one for the alias's database. `statement_timeout` is in seconds and bounds every
    statement, or on SQLite the wait for the one writer's turn. What goes wrong is one of `outbox.faults`; after it
    the transaction is rolled back, or the connection is closed if it was lost.
    """

    vendor: str
    alias: str

    def __init__(self, alias: str, *, statement_timeout: float = 10.0, application_name: str | None = None) -> None:
        self.alias = alias

    @property
    @abstractmethod
    def connection(self) -> Any:
        """The connection itself, opened where there is none."""

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether there is one."""

    def run(self, query: Query, *, durable: bool = True) -> list[Row]:
        """One verb, one transaction. Not durable: the commit does not wait for the disk."""
        return self.run_all([query], durable=durable)[0]

    @abstractmethod
    def run_all(self, queries: Iterable[Query], *, durable: bool = True) -> list[list[Row]]:
        """Several verbs in one transaction; the rows of each."""

    @abstractmethod
    def glance(self, query: Query) -> list[Row]:
        """One statement by itself, for a look that is cheap under any plan: behind a pooler without our terms."""

    @abstractmethod
    def transaction(self, *, durable: bool, pipelined: bool = True) -> AbstractContextManager[Any]:
        """One transaction on the connection; pipelined, a round trip happens only where rows are fetched."""

    @abstractmethod
    def listen(self, channel: str) -> None:
        """Have `wait` end early when somebody notifies `channel`; kept over reconnects."""

    @abstractmethod
    def unlisten(self, channel: str) -> None:
        """Hear of it no more."""

    @abstractmethod
    def wait(self, seconds: float, *fds: int, besides: Collection[int] = ()) -> bool:
        """Sleep until a notification, something to read on one of `fds`, or the time is over; whether notified.

        `besides` are the server processes whose notifications say nothing new.
        """

    @property
    @abstractmethod
    def backend(self) -> int:
        """The server's process for this connection, as its notifications name it; 0 without one."""

    @abstractmethod
    def close(self) -> None:
        """End it; the next verb opens another."""


SESSIONS = {"postgresql": "outbox.postgresql.PostgresSession", "sqlite": "outbox.lite.session.LiteSession"}
"""Imported when asked for: a site on SQLite need not have psycopg, and one on PostgreSQL reads nothing of SQLite."""


def session_on(alias: str, *, statement_timeout: float = 10.0, application_name: str | None = None) -> Session:
    """A session on the alias's database; nothing is opened yet."""
    made: type[Session] = import_string(SESSIONS.get(connections[alias].vendor, SESSIONS["postgresql"]))
    return made(alias, statement_timeout=statement_timeout, application_name=application_name)


def wait_readable(fds: Iterable[int], seconds: float) -> bool:
    """Sleep until one of `fds` can be read (True) or the time is over. poll, not select: a descriptor may be over
    1023."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def backoff(failures: int) -> float:
    """Seconds to wait before the next try to reach the database: exponential with full jitter, at most 3."""
    return random.uniform(0.05, min(3.0, 0.1 * 2 ** min(failures, 10)))  # noqa: S311


def process_name() -> str:
    return f"{os.uname().nodename}:{os.getpid()}"
