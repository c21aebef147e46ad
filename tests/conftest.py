"""A real PostgreSQL for the tests, and the fixtures that more than one file uses.

`DATABASE_URL=sqlite:////tmp/x.db uv run pytest` plays the same suite on SQLite, but for what is marked `postgresql`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import environ
import pytest
from django.conf import settings

from outbox.session import Session, session_on
from project.postgres import running
from tests.support.database import on_sqlite
from tests.support.processes import Program
from tests.support.side_file import SideFile
from tests.support.wheel import build

_server = ExitStack()


def pytest_configure(config: pytest.Config) -> None:
    """Start a server of our own where DATABASE_URL names none; workers of pytest-xdist inherit the first one's."""
    if not os.environ.get("DATABASE_URL"):
        os.environ["DATABASE_URL"] = _server.enter_context(running("tests", fresh=True))
        # pytest-django has read the settings already; nobody has connected yet.
        for config in settings.DATABASES.values():
            config.update(environ.Env.db_url_config(os.environ["DATABASE_URL"]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On SQLite leave out what only PostgreSQL has; each such test says what that is."""
    for item in items:
        for marker in item.iter_markers("postgresql"):
            (reason,) = marker.args
            if on_sqlite():
                item.add_marker(pytest.mark.skip(reason=f"only PostgreSQL: {reason}"))
        if item.get_closest_marker("sqlite") is not None and not on_sqlite():
            item.add_marker(pytest.mark.skip(reason="only where the tests play on SQLite"))


@pytest.fixture
def runworkers(transactional_db: None, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start real `manage.py runworkers` processes on the test database; all are killed at the end."""
    yield from _starter("runworkers", tmp_path)


@pytest.fixture
def relay(transactional_db: None, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """The same for `manage.py relay`."""
    yield from _starter("relay", tmp_path)


def _starter(command: str, folder: Path) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def start(*arguments: str, **options: Any) -> Program:
        programs.append(Program(command, *arguments, folder=folder, **options))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


@pytest.fixture
def side_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SideFile:
    """A file that tasks append lines to: what they did, whatever the tables say."""
    path = tmp_path / "effects"
    path.touch()
    monkeypatch.setenv("SIDE_FILE", str(path))
    return SideFile(path)


@pytest.fixture
def session(transactional_db: None) -> Iterator[Session]:
    """A connection of ours, as a worker has one."""
    made = session_on("default")
    yield made
    made.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    _server.close()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as users get it."""
    return build(tmp_path_factory.mktemp("dist"))
