"""What a row stands on: a database of its own, real workers, producers, a side file, and dice with a known seed."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

from project.shop.demo.processes import end_with_parent
from tests.support.processes import ROOT, Program, environment, named
from tests.trust.evidence import Evidence
from tests.trust.server import Server

QUICK = {"HEARTBEAT": 0.3, "DEAD_AFTER": 1.0}
"""A worker is given up after 1.6 s instead of 16."""

SETTINGS = "tests.trust.settings"


class Worker(Program):
    """A `manage.py` command, under another program where asked; it ends with the row."""

    def __init__(
        self,
        *arguments: str,
        folder: Path,
        prefix: Sequence[str] = (),
        jobs: dict[str, Any] | None = None,
        outbox: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self.log = folder / f"{len(list(folder.glob('*.log')))}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, *([sys.executable, *arguments] if arguments else [])],
                cwd=cwd,
                env={**environment(jobs, outbox), "DJANGO_SETTINGS_MODULE": SETTINGS, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )
        self.pid = self.process.pid

    def slots(self) -> list[int]:
        return [pid for name, pid in named(self.pid).items() if name.startswith("slot-")]

    def all(self) -> list[int]:
        """The supervisor and its children."""
        return [self.pid, *named(self.pid).values()]


@dataclass
class Ground:
    """One row's own."""

    url: str
    folder: Path
    evidence: Evidence
    scale: float
    rolls: random.Random
    server: Server | None = None
    started: list[Worker] = field(default_factory=list)
    _connection: psycopg.Connection[Any] | None = None

    def size(self, full: int, least: int = 1) -> int:
        """How many at this scale."""
        return max(least, round(full * self.scale))

    def worker(self, *arguments: str, **options: Any) -> Worker:
        """Start `manage.py runworkers`."""
        return self.program("manage.py", "runworkers", *arguments, **options)

    def program(self, *arguments: str, **options: Any) -> Worker:
        self.started.append(Worker(*arguments, folder=self.folder, **options))
        return self.started[-1]

    def shell(self, command: Sequence[str]) -> Worker:
        """Start a command as it stands."""
        self.started.append(Worker(folder=self.folder, prefix=command))
        return self.started[-1]

    def ready(self, *workers: Worker) -> None:
        """Wait until they have registered and all their slots stand."""
        for worker in workers:
            self.wait(lambda worker=worker: worker.slots() and "relay" in named(worker.pid), 30, worker.said)
        self.wait(lambda: self.value("SELECT count(*) FROM jobs_worker") >= len(workers), 30)

    def sql(self, text: str, *params: Any) -> list[tuple[Any, ...]]:
        """Ask the tables, on a connection nobody else has."""
        try:
            return self._ask(text, params)
        except psycopg.OperationalError:
            self._connection = None
            return self._ask(text, params)

    def _ask(self, text: str, params: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self.url, autocommit=True, application_name="the checker", prepare_threshold=None
            )
        cursor = self._connection.execute(text, params or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def value(self, text: str, *params: Any) -> Any:
        return self.sql(text, *params)[0][0]

    def wait(self, condition: Any, within: float, what: Any = "") -> Any:
        """Ask again until it is true; RowFailed after `within` seconds."""
        until = time.monotonic() + within
        while not (answer := condition()):
            if time.monotonic() > until:
                raise RowFailed(f"not within {within:g} s: {what() if callable(what) else what}"[-3000:])
            time.sleep(0.01)
        return answer

    def settled(self) -> bool:
        """Nothing is left to relay or to run."""
        return not self.value("SELECT EXISTS (SELECT 1 FROM outbox_message) OR EXISTS (SELECT 1 FROM jobs_job)")

    def settle(self, within: float) -> bool:
        """Wait until nothing is left, or until the time is over: what is left then is stuck."""
        with suppress(RowFailed):
            return bool(self.wait(self.settled, within))
        return False

    def close(self) -> None:
        for worker in self.started:
            with suppress(ProcessLookupError):
                for pid in worker.all():
                    os.kill(pid, signal.SIGCONT)
            worker.kill()
        if self._connection is not None:
            self._connection.close()


class RowFailed(Exception):
    """A row could not be played to its end; it is not met."""


@contextmanager
def ground(row: str, scale: float, seed: int, own_server: dict[str, str] | None) -> Iterator[Ground]:
    """Set up for one row, and take everything down after it. Django is set up on the row's database."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix=f"trust-{row}-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        given, server = os.environ.get("DATABASE_URL"), None
        if own_server is not None or not given:
            server = Server(settings=own_server)
            stack.callback(server.close)
            given = server.url()
        name = f"trust_{row.lower()}_{os.getpid()}"
        make_database(given, name)
        url = with_name(given, name)
        if server is None:
            stack.callback(drop_database, given, name)
        os.environ |= {
            "DATABASE_URL": url, "SIDE_FILE": str(folder / "evidence"), "DJANGO_SETTINGS_MODULE": SETTINGS,
        }  # fmt: skip
        made = Ground(url, folder, Evidence(folder / "evidence"), scale, random.Random(seed), server)
        import django

        django.setup()
        for logger in ("jobs", "outbox"):  # what the library says of itself is no evidence
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        stack.callback(_close_django)
        stack.callback(made.close)
        yield made


def _close_django() -> None:
    from django.db import connections

    connections.close_all()


def with_name(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def make_database(url: str, name: str) -> None:
    """A copy of a migrated template, which is made the first time a server is used."""
    template = f"trust_template_{_hash()}"
    with psycopg.connect(with_name(url, "postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(782364)")
        if not connection.execute("SELECT FROM pg_database WHERE datname = %s", (template,)).rowcount:
            connection.execute(f"CREATE DATABASE {template}_making")  # type: ignore[arg-type]
            subprocess.run(
                [sys.executable, "manage.py", "migrate", "--run-syncdb", "--verbosity=0"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "DATABASE_URL": with_name(url, f"{template}_making"),
                    "DJANGO_SETTINGS_MODULE": SETTINGS,
                },
                check=True,
            )
            connection.execute(f"ALTER DATABASE {template}_making RENAME TO {template}")  # type: ignore[arg-type]
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")  # type: ignore[arg-type]


def drop_database(url: str, name: str) -> None:
    with psycopg.connect(with_name(url, "postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]


def _hash() -> str:
    """What the template was made of."""
    parts = sorted([*ROOT.glob("*/migrations/*.py"), ROOT / "tests/trust/models.py"])
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()[:10]
