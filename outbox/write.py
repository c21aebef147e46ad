"""Write messages: the one INSERT, over the caller's own connection, in the caller's own transaction.

It takes what the caller made; it leaves rows that commit with the business data or vanish with it. A crash here is
the caller's rollback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

from django.db import OperationalError, ProgrammingError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.ask import ask
from outbox.conf import outbox_settings
from outbox.errors import OutboxMissing, TransactionRequired
from outbox.models import Message
from outbox.wake import wake_after_commit

INSERT = "INSERT INTO outbox_message (uid, headers, body) VALUES (%s, %s, %s)"
COPY = "COPY outbox_message (uid, headers, body) FROM STDIN"

UNDEFINED_TABLE = "42P01"


class Draft(NamedTuple):
    """A message about to be written. `headers` and `body` are JSON text and are stored as they are."""

    uid: UUID
    headers: str
    body: str


def write(draft: Draft, *, database: str | None = None) -> str:
    """Write one message; returns the alias it was written to.

    `database` is a Django alias; without one, the only alias that has a transaction open, else the alias the router
    gives for writing messages. Raises TransactionRequired under OUTBOX["REQUIRE_TRANSACTION"] outside one, and
    OutboxMissing where the table is not migrated.
    """
    alias = alias_for(database)
    require_transaction(alias)
    with missing_table(alias):
        ask(alias, INSERT, draft)
    wake_after_commit(alias)
    return alias


def write_many(drafts: Iterable[Draft], *, database: str | None = None) -> str:
    """Write all of them or none, as fast as the database takes them; otherwise like `write`."""
    alias = alias_for(database)
    connection = connections[alias]
    require_transaction(alias)
    with transaction.atomic(using=alias, savepoint=False), missing_table(alias):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                connection.validate_no_broken_transaction()
                with connection.wrap_database_errors, cursor.cursor.copy(COPY) as copy:
                    for draft in drafts:
                        copy.write_row(draft)
        else:
            for draft in drafts:
                ask(alias, INSERT, draft)
        wake_after_commit(alias)
    return alias


def alias_for(database: str | None) -> str:
    """The alias a message goes to when the caller says `database`."""
    if database is not None:
        return database
    open_ones = [
        connection.alias for connection in connections.all(initialized_only=True) if in_transaction(connection)
    ]
    return open_ones[0] if len(open_ones) == 1 else router.db_for_write(Message)


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether what is written now commits with something else: in `atomic`, or in a transaction driven by hand."""
    return connection.in_atomic_block or (connection.connection is not None and not connection.autocommit)


def require_transaction(alias: str) -> None:
    """Raise TransactionRequired outside a transaction, where the settings want one."""
    if outbox_settings().REQUIRE_TRANSACTION and not in_transaction(connections[alias]):
        raise TransactionRequired(alias)


@contextmanager
def missing_table(alias: str, app: str = "outbox") -> Iterator[None]:
    """Say which app is not migrated where a table is not there."""
    try:
        yield
    except (ProgrammingError, OperationalError) as error:
        cause: Any = error.__cause__
        # SQLite has no code for it, and no other way to say it.
        if getattr(cause, "sqlstate", None) == UNDEFINED_TABLE or str(error).startswith("no such table"):
            raise OutboxMissing(alias, app) from error
        raise
