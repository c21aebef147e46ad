"""Django's database connections in a slot: they belong to the tasks, and each carries the slot's name.

Between jobs a connection is kept, checked before its next use, and closed where a job left a transaction open. The
name lets the keeper end, on the server, what a killed slot was doing: a killed client does not stop PostgreSQL.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any

from django.conf import settings as django_settings
from django.db import connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

_threads_with_connections: set[int] = set()


def _created(**_: Any) -> None:
    _threads_with_connections.add(threading.get_ident())


def prepare_connections(name: str, max_age: float) -> None:
    """Set up this process's connections before any is opened. `max_age` is in seconds."""
    # libpq reads it, so programs that a task starts and aliases on other servers carry the name as well.
    os.environ["PGAPPNAME"] = name
    for alias in connections:
        config = connections.settings[alias]
        if "postgresql" in config["ENGINE"] or connections[alias].vendor == "postgresql":
            config["OPTIONS"] = {**config.get("OPTIONS", {}), "application_name": name}
            # Django's default closes at the end of each request; here that would be a new connection for each job. A
            # pool keeps them itself, and Django refuses both at once.
            if config["CONN_MAX_AGE"] == 0 and not config["OPTIONS"].get("pool"):
                config["CONN_MAX_AGE"] = max_age
            config["CONN_HEALTH_CHECKS"] = True
        elif connections[alias].vendor == "sqlite" and config["CONN_MAX_AGE"] == 0:
            config["CONN_MAX_AGE"] = max_age
    connection_created.connect(_created, weak=False)


def close_before_forking() -> None:
    """Close all connections and pools: two processes on one connection mix their answers, and the threads that serve a
    pool are not forked."""
    for connection in connections.all(initialized_only=True):
        connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()


def tidy_connections() -> None:
    """After a job, in the thread it ran in: end what it left open, drop what is broken or old."""
    if threading.get_ident() not in _threads_with_connections:
        return
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        if connection.in_atomic_block or not connection.autocommit:
            _abandon(connection)
            continue
        connection.close_if_unusable_or_obsolete()
    if django_settings.DEBUG:
        reset_queries()


def any_connection() -> bool:
    """Whether any thread of this process has opened one."""
    return bool(_threads_with_connections)


def _abandon(connection: BaseDatabaseWrapper) -> None:
    """Roll back what a job left open. Django's wrapper keeps the wreck of its atomic blocks, so it gets a new one."""
    with suppress(Exception):
        connection.needs_rollback = False
        connection.in_atomic_block = False
        connection.close()
    del connections[connection.alias]
