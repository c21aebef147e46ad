"""The session on PostgreSQL: one psycopg connection in autocommit; each verb is BEGIN, statement, COMMIT in one go.

A pipeline of one round trip. Behind a pooler there is no session state either, so it works through PgBouncer in
transaction mode.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import psycopg
from django.db import connections
from psycopg import sql
from psycopg.pq import TransactionStatus

from outbox import terms
from outbox.conf import outbox_settings
from outbox.session import Query, Row, Session, wait_readable

if TYPE_CHECKING:
    from psycopg.abc import PQGen

logger = logging.getLogger("outbox")

T = TypeVar("T")

# A peer that vanished without a word (power, network) is noticed within half a minute instead of hours.
SOCKET = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


STRANGER = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement)
"""What a pooler between us and the server makes of prepared statements."""


class Silence(psycopg.OperationalError):
    """The server has said nothing for too long."""


class Patient(psycopg.Connection[Row]):
    """A connection that does not wait for an answer for ever.

    A network that swallows packets, or a proxy whose other side is gone, keeps the socket open and silent: no error
    comes, and `statement_timeout` is the server's. The limit is for each wait, past what the statement itself may take.
    """

    patience = 60.0

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        try:
            return super().wait(_bounded(gen, time.monotonic() + self.patience), *args, **kwargs)
        except Silence:
            self.close()  # what is under way on it can never be told from what comes next
            logger.warning("the database has not answered in %g s; the connection is given up", self.patience)
            raise


def _bounded(gen: PQGen[T], until: float) -> PQGen[T]:
    """`gen`, ended by an error where it is resumed past `until` with nothing to read."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > until:
                gen.close()
                raise Silence("no answer from the server in time")
            wanted = gen.send(ready)
    except StopIteration as end:
        return cast(T, end.value)


class PostgresSession(Session):
    """`statement_timeout` is the server's; two seconds later a connection that has said nothing is given up."""

    vendor = "postgresql"

    def __init__(self, alias: str, *, statement_timeout: float = 10.0, application_name: str | None = None) -> None:
        super().__init__(alias)
        self._patience = statement_timeout + 2.0
        self._timeout = str(int(statement_timeout * 1000))
        self._application_name = application_name
        self._channels: list[str] = []
        self._direct = True
        """Nobody stands between us and the server, as far as is known."""
        self._told = False
        """This connection holds our terms, so that no transaction need say them."""
        self._connection: Patient | None = None

    @property
    def connection(self) -> Patient:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.closed

    def _connect(self) -> Patient:
        params = own_params(self.alias)
        if self._application_name:
            params["application_name"] = self._application_name
        direct = self._direct and outbox_settings().NOTIFY
        connection = (self._open_on_terms(params) if direct else None) or Patient.connect(**params, autocommit=True)
        connection.patience = self._patience
        # Our few statements come again and again, and to plan one costs as much as to run it for a few rows. Behind
        # PgBouncer, where LISTEN is off as well, the next transaction may be on another server connection.
        connection.prepare_threshold = 2 if self._told else None
        try:
            role = connections.settings[self.alias].get("OPTIONS", {}).get("assume_role")
            if role:
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            for channel in self._channels:
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_on_terms(self, params: dict[str, Any]) -> Patient | None:
        """A connection that holds our terms; None where somebody in between does not pass them on."""
        options = terms.options(params.get("options") or "", self._timeout)
        self._told = False
        try:
            connection = Patient.connect(**{**params, "options": options}, autocommit=True)
        except psycopg.OperationalError as error:
            if not terms.refused(error):
                raise
        else:
            if terms.hold(connection):
                self._told = True
                return connection
            connection.close()
        self._not_direct("a connection does not keep what it is told as it is opened")
        return None

    def run_all(self, queries: Iterable[Query], *, durable: bool = True) -> list[list[Row]]:
        queries = list(queries)
        if durable and len(queries) == 1 and self.connected and self._told:
            return [self.glance(queries[0])]  # a statement alone is a transaction
        with self.transaction(durable=durable) as connection:
            cursors = [connection.execute(query.sql, query.params) for query in queries]
        return [rows(cursor) for cursor in cursors]

    def glance(self, query: Query) -> list[Row]:
        try:
            return rows(self.connection.execute(query.sql, query.params))
        except BaseException as error:
            self._give_up(error)
            raise

    @contextmanager
    def transaction(self, *, durable: bool, pipelined: bool = True) -> Iterator[psycopg.Connection[Row]]:
        connection = self.connection
        try:
            with connection.pipeline() if pipelined else nullcontext():
                connection.execute(terms.BEGIN)
                if not self._told:
                    connection.execute(terms.SETTINGS, (self._timeout, durable))
                elif not durable:
                    connection.execute(terms.NOT_DURABLE)
                yield connection
                connection.execute("COMMIT")
        except BaseException as error:
            self._give_up(error)
            raise

    def _not_direct(self, why: str) -> None:
        """Our statements and settings may be on another server connection: do without, from the next try on."""
        self._direct = self._told = False
        self.close()
        logger.warning(
            "%s: %s, so a pooler in transaction mode stands in between; set"
            ' OUTBOX = {"NOTIFY": False}, since it loses notifications as well',
            self.alias,
            why,
        )

    def _give_up(self, error: BaseException) -> None:
        """After an error: end the transaction, or the connection where that is not possible."""
        if isinstance(error, STRANGER):
            self._not_direct("a prepared statement was lost")
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.closed or connection.info.transaction_status == TransactionStatus.ACTIVE:
                raise psycopg.OperationalError  # lost, or an answer is still under way
            connection.execute("ROLLBACK")
        except Exception:
            self.close()

    def listen(self, channel: str) -> None:
        self._channels.append(channel)
        if self.connected:
            self.connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

    def unlisten(self, channel: str) -> None:
        self._channels.remove(channel)
        if self.connected:
            self.connection.execute(sql.SQL("UNLISTEN {}").format(sql.Identifier(channel)))

    def wait(self, seconds: float, *fds: int, besides: Collection[int] = ()) -> bool:
        if not self._channels:
            wait_readable(fds, seconds)
            return False
        if not self._notified(besides):  # one that came with the answer to a statement is no longer on the socket
            wait_readable((*fds, self.connection.fileno()), seconds)
            return self._notified(besides)
        return True

    def _notified(self, besides: Collection[int]) -> bool:
        # All of them are taken, or the next wait would end at once.
        return sum(notify.pid not in besides for notify in self.connection.notifies(timeout=0)) > 0

    @property
    def backend(self) -> int:
        return self._connection.info.backend_pid if self.connected and self._connection is not None else 0

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()


def rows(cursor: psycopg.Cursor[Row]) -> list[Row]:
    return cursor.fetchall() if cursor.description is not None else []


def own_params(alias: str) -> dict[str, Any]:
    """psycopg's parameters for a connection of ours to a Django alias, with limits on every wait."""
    params = dict(connections[alias].get_connection_params())
    # Django's cursor and its adapters give Django's types; here plain ones are wanted, and server-side binding.
    for name in ("cursor_factory", "context", "row_factory"):
        params.pop(name, None)
    unset = {name: value for name, value in SOCKET.items() if name not in params}
    return params | unset
