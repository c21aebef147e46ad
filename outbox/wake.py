"""Tell the relay that something was committed: after the commit, best effort, never inside the transaction.

A NOTIFY inside the business transaction takes a lock over the whole cluster until that commit is on disk, so such
commits go one at a time. Here it is a transaction of its own that waits for no disk, sent once the caller's commit
has succeeded. A wake-up that is lost costs a poll interval and nothing else.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import partial

from django.db import connections, transaction

from outbox.conf import outbox_settings

logger = logging.getLogger("outbox")

CHANNEL = "outbox_written"

WAKE = f"BEGIN; SET LOCAL synchronous_commit = off; NOTIFY {CHANNEL}; COMMIT"

IDLE, IN_TRANSACTION = 0, 2
"""libpq's numbers for the state of a connection. psycopg need not be there to read this module."""

QUIET_FOR = 0.005
"""Seconds in which one process wakes the relay at most once: bursts need one wake-up, not thousands."""

_woken_at: dict[str, float] = {}


def wake_after_commit(alias: str) -> None:
    """Arrange one wake-up for when the transaction that is open on `alias` has committed."""
    connection = connections[alias]
    if connection.vendor != "postgresql" or not outbox_settings().NOTIFY:
        return
    if not connection.in_atomic_block and not connection.get_autocommit():
        return  # a transaction the caller drives by hand: Django offers no hook for its commit, the poll finds it
    transaction.on_commit(partial(wake, alias), using=alias, robust=True)


def wake(alias: str) -> None:
    """Notify now, unless this process did a moment ago (the relay looks again for that long)."""
    now = time.monotonic()
    if now - _woken_at.get(alias, -QUIET_FOR) < QUIET_FOR:
        return
    _woken_at[alias] = now
    connection = connections[alias].connection
    if connection is None or connection.info.transaction_status == IN_TRANSACTION:
        return  # a test that runs commit hooks inside its transaction: a COMMIT of ours would end it
    try:
        # psycopg's own connection: no query log, no wrapper that counts or forbids queries sees it.
        connection.execute(WAKE)
    except Exception:
        if not connection.closed:
            with suppress(Exception):
                connection.execute("ROLLBACK")  # the BEGIN above would otherwise be left open
        logger.warning("outbox: the wake-up after a commit on %r was lost; the relay finds it by itself", alias)
        logger.debug("outbox: lost wake-up", exc_info=True)
