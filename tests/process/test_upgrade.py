"""New code before the schema is new: who enqueues goes on, and new workers wait and say for what."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.db import connection

from tests.support.processes import ROOT, environment

pytestmark = [pytest.mark.kills, pytest.mark.postgresql("a database of its own on a server, of the release before")]

OLDER = "0006_events"
"""Before the column that every claim of this code names."""

ENQUEUE = f"""
import django; django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0, run_syncdb=True)
call_command("migrate", "jobs", "{OLDER}", verbosity=0)
from datetime import timedelta
from django.db import transaction
from jobs import publish
from tests import tasks
with transaction.atomic():
    tasks.noop.enqueue(1)
    tasks.noop.using(delay=timedelta(0), priority="high", idempotency_key="once").enqueue(2)
    tasks.noop.using(idempotency_key="a while", unique_for=60).enqueue(3)
    tasks.noop.using(on_success=tasks.noop.callback(5)).enqueue(4)
    tasks.noop.enqueue_many([(6,), (7,)])
    publish(tasks.placed, {{"order": 1}})
"""


@pytest.fixture
def older(db: None) -> Iterator[dict[str, str]]:
    """The environment of processes on a database of the older schema, where this code has enqueued."""
    env = environment()
    url = urlsplit(env["DATABASE_URL"])
    name = f"older_{connection.settings_dict['NAME']}"
    with psycopg.connect(urlunsplit(url._replace(path="/postgres")), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]
        admin.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        env["DATABASE_URL"] = urlunsplit(url._replace(path=f"/{name}"))
        made = manage(env, "-c", ENQUEUE)
        assert made.returncode == 0, made.stderr
        yield env
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


SAID = "SELECT state, count(*) FROM jobs_finishedjob WHERE task <> 'tests.tasks.remind_placed' GROUP BY state"
"""Without the one that is due half a minute later."""


def manage(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(arguments if arguments[0] == "-c" else ("manage.py", *arguments))]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def ended(env: dict[str, str]) -> list[Any]:
    with psycopg.connect(env["DATABASE_URL"]) as here:
        return here.execute(SAID).fetchall()


def test_code_first_schema_later(older: dict[str, str], side_file: Any) -> None:
    older["SIDE_FILE"] = str(side_file.path)
    with psycopg.connect(older["DATABASE_URL"]) as here:
        assert here.execute("SELECT count(*) FROM outbox_message").fetchone() == (9,)

    refused = manage(older, "runworkers", "--burst", "--slots", "1")
    assert refused.returncode != 0
    assert "are an older release's: run `manage.py migrate` first" in refused.stderr
    assert not ended(older)

    assert manage(older, "migrate", "--verbosity=0").returncode == 0
    run = manage(older, "runworkers", "--burst", "--slots", "1")
    assert run.returncode == 0, run.stderr
    assert ended(older) == [("succeeded", 9)]
