"""The errors of a database, whichever it is, as a connection of ours raises them.

PostgreSQL's are psycopg's own; a session on SQLite raises Django's. psycopg need not be there where nobody uses it.
Each name is a tuple for `except` and `isinstance`.
"""

from __future__ import annotations

from django.db import DataError, Error, IntegrityError, OperationalError

ANY: tuple[type[Exception], ...] = (Error,)
"""Whatever the database said."""

OPERATIONAL: tuple[type[Exception], ...] = (OperationalError,)
"""It is in trouble: gone, restarting, full, or busy for too long. Nothing is wrong with what it was asked."""

REFUSED: tuple[type[Exception], ...] = (DataError, IntegrityError)
"""It does not take these values, now or ever."""

DEADLOCK: tuple[type[Exception], ...] = ()
"""It has undone this one of two that waited for each other. SQLite has one writer, and so no deadlocks."""

PSYCOPG: tuple[type[Exception], ...] = ()
"""psycopg's own errors, which carry a `diag`."""

try:
    import psycopg
except ImportError:  # a site on SQLite has none
    pass
else:
    ANY = (psycopg.Error, *ANY)
    OPERATIONAL = (psycopg.OperationalError, *OPERATIONAL)
    REFUSED = (psycopg.DataError, psycopg.IntegrityError, *REFUSED)
    DEADLOCK = (psycopg.errors.DeadlockDetected,)
    PSYCOPG = (psycopg.Error,)


def primary(error: BaseException) -> str | None:
    """The first part of what PostgreSQL says: its details quote whole rows."""
    diag = getattr(error, "diag", None) if isinstance(error, PSYCOPG) else None
    return getattr(diag, "message_primary", None)
