"""A database for a program that is not a test: a server of its own, with nothing in it, gone at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from project.postgres import running


@contextmanager
def a_database(name: str) -> Iterator[str]:
    """Start one and name it in DATABASE_URL, for the settings to read; its address."""
    with running(name, fresh=True) as url:
        os.environ["DATABASE_URL"] = url
        yield url


def on_sqlite(alias: str = "default") -> bool:
    """Whether the tests play on SQLite."""
    return connections[alias].vendor == "sqlite"
