"""A real PostgreSQL and databases of our own on it, each made from one that was migrated once.

DATABASE_URL where it is set, else an embedded server that is thrown away. Every round gets a new database: nothing of
an earlier one, neither dead rows nor statistics, is in its figures.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg

from project.postgres import running
from tests.benchmarks import fill, programs
from tests.benchmarks.measures import Wrong

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

MUST_BE_ON = ("fsync", "synchronous_commit", "full_page_writes")


@dataclass(frozen=True)
class Database:
    """A database for one round, and a folder for what its processes leave."""

    url: str
    folder: Path

    def connect(self) -> Connection:
        return psycopg.connect(self.url, autocommit=True)

    def execute(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            cursor = connection.execute(statement, parameters)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []


@dataclass
class Server:
    """Makes databases. `url` is any database of the server where a database may be created."""

    url: str
    folder: Path
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self._prefix = f"benchmarks_{os.getpid()}_{id(self):x}"
        self._template = f"{self._prefix}_template"

    def prepare(self) -> None:
        """Make the template: our tables by the migrations, the raw ones beside them."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for name in MUST_BE_ON:
                if (value := connection.execute(f"SHOW {name}").fetchone()) != ("on",):
                    raise Wrong(f"{name} is {value and value[0]} on this server: its figures would not count")
            connection.execute(f"CREATE DATABASE {self._template}")
        template = self._database(self._template)
        migration = ("migrate", "--run-syncdb", "--verbosity", "0")
        with programs.manage(template.url, template.folder, *migration) as program:
            program.ended()
        template.execute(fill.RAW_TABLES)

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A new database, dropped at the end."""
        name = f"{self._prefix}_{next(self._numbers)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        try:
            yield self._database(name)
        finally:
            self._drop(name)

    def close(self) -> None:
        self._drop(self._template)

    def _database(self, name: str) -> Database:
        folder = self.folder / name
        folder.mkdir()
        return Database(urlunsplit(urlsplit(self.url)._replace(path=f"/{quote(name)}")), folder)

    def _drop(self, name: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def serving() -> Iterator[Server]:
    """A server that is ready to make databases."""
    given = os.environ.get("DATABASE_URL")
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        if given:
            yield from _on(given, Path(folder))
        else:
            with running("benchmarks", fresh=True) as url:
                yield from _on(url, Path(folder))


def _on(url: str, folder: Path) -> Iterator[Server]:
    server = Server(url, folder)
    try:
        server.prepare()
        yield server
    finally:
        server.close()


def settle(database: Database, *, analyze: bool) -> None:
    """Have the server done with what filling has left it to do, so that it does not do it while the clock runs."""
    with database.connect() as connection:
        if analyze:
            connection.execute("VACUUM ANALYZE")
        else:
            for table in fill.HOT_TABLES:  # or a statistics run by itself would spoil "never analysed"
                connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute("CHECKPOINT")
