"""A database of the demo's own, made fresh and dropped at the end. Nothing else on the server is touched."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from django.core.management import CommandError
from django.db import Error, connection


@contextmanager
def own_database() -> Iterator[str]:
    """Point this process at a new, empty database; yields its URL for others."""
    if connection.vendor != "postgresql":
        raise CommandError("The demo runs on PostgreSQL: unset DATABASE_URL, and a server of its own is started.")
    name, before = f"outbox_demo_{secrets.token_hex(4)}", connection.settings_dict["NAME"]
    try:
        _execute(f"CREATE DATABASE {name}")
    except Error as error:
        raise CommandError(
            f"The demo makes a database of its own, and the server said: {str(error).strip()}\n"
            "Name a user in DATABASE_URL who may create databases, or unset it: then a server is started."
        ) from error
    connection.settings_dict["NAME"] = name
    try:
        given = urlsplit(os.environ.get("DATABASE_URL", "postgres:///"))
        yield given._replace(path=f"/{name}").geturl()
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before
        # A child that had to be killed may have left a session behind.
        _execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _execute(statement: str) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
