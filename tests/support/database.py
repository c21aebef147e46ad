"""A database for a program that is not a test: a server of its own, with nothing in it, gone at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
from django.db import connections
from psycopg import sql

from project.postgres import running


@contextmanager
def a_database(name: str) -> Iterator[str]:
    """Start one and name it in DATABASE_URL, for the settings to read; its address."""
    with running(name, fresh=True) as url:
        os.environ["DATABASE_URL"] = url
        yield url


@contextmanager
def a_database_of_its_own(name: str) -> Iterator[str]:
    """An empty database on the server of the tests, for somebody else's project; its address."""
    url, named = urlsplit(os.environ["DATABASE_URL"])._replace(scheme="postgresql"), sql.Identifier(name)
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(named)
    with psycopg.connect(urlunsplit(url), autocommit=True) as connection:
        connection.execute(drop)
        connection.execute(sql.SQL("CREATE DATABASE {}").format(named))
        yield urlunsplit(url._replace(path=f"/{name}"))
        connection.execute(drop)


def on_sqlite(alias: str = "default") -> bool:
    """Whether the tests play on SQLite."""
    return connections[alias].vendor == "sqlite"
