"""The session on SQLite: a connection of our own beside Django's; each verb that writes is one IMMEDIATE transaction.

It takes turns with every other writer of the file: `statement_timeout` is how long it waits for its turn before it says
so, and the loop above tries again. There is no server that could notify anybody: `wait` looks, some times a second, at
the number that SQLite keeps of other connections' commits, which reads one word of shared memory. A crash leaves what
the last commit left, and the kernel drops a dead process's lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.lite.answer import answer, reads
from outbox.lite.functions import teach
from outbox.session import Query, Row, Session, wait_readable

logger = logging.getLogger("outbox")

LOOK_EVERY = 0.02
"""Seconds between two looks for other connections' commits."""

SIGNS = {
    "outbox_written": "SELECT 1 FROM outbox_message LIMIT 1",
    "jobs_ready": "SELECT 1 FROM jobs_job WHERE state = 'ready' LIMIT 1",
}
"""What a commit must have left for a listener to be woken, by channel."""


class Answered:
    """The rows of one statement, as a cursor has them."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self.rowcount = len(rows)

    def fetchall(self) -> list[Row]:
        rows, self._rows = self._rows, []
        return rows

    def fetchone(self) -> Row | None:
        return self._rows.pop(0) if self._rows else None

    def __iter__(self) -> Iterator[Row]:
        return iter(self.fetchall())


class LiteConnection:
    """What a transaction executes on: statements in PostgreSQL's words, done in SQLite's."""

    def __init__(self, wrapper: BaseDatabaseWrapper) -> None:
        self.wrapper = wrapper

    def execute(self, sql: str, params: Sequence[Any] = ()) -> Answered:
        with self.wrapper.wrap_database_errors:
            return Answered(answer(self._execute, sql, params).rows)

    def plainly(self, sql: str) -> list[Row]:
        """A statement in SQLite's own words."""
        with self.wrapper.wrap_database_errors:
            cursor = self.wrapper.connection.execute(sql)
            return list(cursor.fetchall())

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A savepoint: what fails in it is undone alone."""
        self.plainly("SAVEPOINT one")
        try:
            yield
        except BaseException:
            self.plainly("ROLLBACK TO one")
            self.plainly("RELEASE one")
            raise
        self.plainly("RELEASE one")

    @property
    def closed(self) -> bool:
        return self.wrapper.connection is None

    @property
    def in_transaction(self) -> bool:
        return bool(self.wrapper.connection.in_transaction)

    def _execute(self, sql: str, params: Any) -> Any:
        # Without Django's log of queries, which would keep thousands of ours under DEBUG.
        cursor = self.wrapper.create_cursor()
        cursor.execute(sql, params)
        return cursor


class LiteSession(Session):
    """A copy of Django's wrapper for the alias: the same file, options and functions, a connection of its own."""

    vendor = "sqlite"

    def __init__(self, alias: str, *, statement_timeout: float = 10.0, application_name: str | None = None) -> None:
        super().__init__(alias)
        self._patience = statement_timeout
        self._channels: list[str] = []
        self._connection: LiteConnection | None = None
        self._durable: bool | None = None
        self._version = -1
        self._looked_at = 0.0

    @property
    def connection(self) -> LiteConnection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def _connect(self) -> LiteConnection:
        wrapper = connections[self.alias].copy()
        wrapper.inc_thread_sharing()  # the two threads of a slot take turns
        wrapper.connect()
        raw: Any = wrapper.connection
        teach(raw)
        made = LiteConnection(wrapper)
        self._durable = None
        try:
            made.plainly(f"PRAGMA busy_timeout = {int(self._patience * 1000)}")
            made.plainly("PRAGMA journal_mode = WAL")  # readers and the writer do not wait for one another
        except BaseException:
            wrapper.close()
            raise
        return made

    def run_all(self, queries: Iterable[Query], *, durable: bool = True) -> list[list[Row]]:
        queries = list(queries)
        if all(reads(query.sql) for query in queries):
            with self._transaction("BEGIN", durable=durable) as connection:  # one moment for all of them
                return [connection.execute(query.sql, query.params).fetchall() for query in queries]
        with self.transaction(durable=durable) as connection:
            return [connection.execute(query.sql, query.params).fetchall() for query in queries]

    def glance(self, query: Query) -> list[Row]:
        if not reads(query.sql):
            return self.run(query, durable=False)
        try:
            return self.connection.execute(query.sql, query.params).fetchall()
        except BaseException:
            self._give_up()
            raise

    @contextmanager
    def transaction(self, *, durable: bool, pipelined: bool = True) -> Iterator[LiteConnection]:
        with self._transaction("BEGIN IMMEDIATE", durable=durable) as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str, *, durable: bool) -> Iterator[LiteConnection]:
        connection = self.connection
        try:
            if durable is not self._durable:
                connection.plainly(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            connection.plainly(begin)
            yield connection
            connection.plainly("COMMIT")
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """After an error: end the transaction, or the connection where that is not possible."""
        if self._connection is None:
            return
        try:
            if self._connection.in_transaction:
                self._connection.plainly("ROLLBACK")
        except Exception:
            self.close()

    def listen(self, channel: str) -> None:
        self._channels.append(channel)

    def unlisten(self, channel: str) -> None:
        self._channels.remove(channel)

    def wait(self, seconds: float, *fds: int, besides: Collection[int] = ()) -> bool:
        """`besides` has no meaning here: whose commit it was does not show."""
        if not self._channels:
            wait_readable(fds, seconds)
            return False
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if now - self._looked_at >= LOOK_EVERY:  # no oftener, however much is committed
                self._looked_at = now
                if self._something_new():
                    return True
            if now >= until or wait_readable(fds, min(until - now, self._looked_at + LOOK_EVERY - now)):
                return False

    def _something_new(self) -> bool:
        """Whether another connection has committed since the last look, and left what we listen for."""
        try:
            ((version,),) = self.connection.plainly("PRAGMA data_version")
            if version == self._version:
                return False
            self._version = version
            return any(self.connection.plainly(SIGNS[channel]) for channel in self._channels if channel in SIGNS)
        except OperationalError:
            self._give_up()
            return False

    @property
    def backend(self) -> int:
        return 0

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._version = -1
        if connection is not None:
            with suppress(Exception):
                connection.wrapper.connection.close()
            connection.wrapper.connection = None
