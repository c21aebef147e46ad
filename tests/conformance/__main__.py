"""`python -m tests.conformance`: the table of docs/django-tasks.md, as it is on this machine today.

Each backend gets a process, a database and a worker of its own, and is the default one of `TASKS` there, so that every
task is declared for it as an application would. django-tasks-db takes part where it is installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import django

from project.postgres import running

MARKS = {"yes": "yes", "no": "**no**", "unasked": ""}


class Subject(NamedTuple):
    """A backend, and the command that runs its tasks."""

    backend: str
    worker: tuple[str, ...] = ()
    runs: bool = True


def subjects() -> dict[str, Subject]:
    package = "django.tasks" if find_spec("django.tasks") else "django_tasks"
    found = {
        "JobsBackend": Subject("jobs.backend.JobsBackend", ("runworkers", "--slots", "1")),
        "Immediate": Subject(f"{package}.backends.immediate.ImmediateBackend"),
        "Dummy": Subject(f"{package}.backends.dummy.DummyBackend", runs=False),
    }
    if find_spec("django_tasks_db"):
        found["django-tasks-db"] = Subject(
            "django_tasks_db.DatabaseBackend", ("db_worker", "--queue-name", "*", "--interval", "0.05")
        )
    return found


def main() -> int:
    if len(sys.argv) > 1:
        print(json.dumps(_ask(subjects()[sys.argv[1]])))
        return 0
    verdicts: dict[str, list[Any]] = {}
    for name, subject in subjects().items():
        answer = subprocess.run(
            [sys.executable, "-m", "tests.conformance", name],
            env={**os.environ, "TEST_DEFAULT_BACKEND": subject.backend},
            stdout=subprocess.PIPE,
            check=True,
        )
        verdicts[name] = json.loads(answer.stdout)
    return _print(verdicts)


def _ask(subject: Subject) -> list[Any]:
    """Judge it; for each behaviour its topic, its text, the verdict and why."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ |= {
            "DATABASE_URL": stack.enter_context(running("conformance", fresh=True)),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "SIDE_FILE": str(folder / "effects"),
            "TELL_SIGNALS": "1",
        }
        (folder / "effects").touch()
        django.setup()
        from django.core.management import call_command
        from django.db import connection

        from tests.conformance import suite
        from tests.conformance.ground import telling
        from tests.support.processes import Program
        from tests.support.side_file import SideFile

        call_command("migrate", verbosity=0, run_syncdb=True)
        stack.callback(connection.close)
        if subject.worker:
            stack.callback(Program(*subject.worker, folder=folder).kill)
        ground = suite.Ground("default", SideFile(folder / "effects"), runs=subject.runs)
        stack.enter_context(telling())
        judged = [(one, suite.judge(ground, one)) for one in suite.BEHAVIOURS]
        return [(one.topic, one.text, verdict.word, verdict.why) for one, verdict in judged]


def _print(verdicts: dict[str, list[Any]]) -> int:
    packages = [name for name in ("django", "django-tasks", "django-tasks-db") if find_spec(name.replace("-", "_"))]
    versions = [f"Python {sys.version.split()[0]}", *(f"{name} {version(name)}" for name in packages)]
    print(f"{datetime.now(UTC):%Y-%m-%d}: {', '.join(versions)}\n")
    print(f"| | {' | '.join(verdicts)} |")
    print(f"| --- |{' --- |' * len(verdicts)}")
    before = ""
    for rows in zip(*verdicts.values(), strict=True):
        topic, text, *_ = rows[0]
        if topic != before:
            print(f"| **{topic}** |{' |' * len(rows)}")
            before = topic
        print(f"| {text} | {' | '.join(MARKS[row[2]] for row in rows)} |")
    for name, rows in verdicts.items():
        for _, text, word, why in rows:
            if word == "no":
                print(f"\n{name}: {text}\n{why}", file=sys.stderr)
    return sum(row[2] != "yes" for row in verdicts["JobsBackend"])


if __name__ == "__main__":
    sys.exit(main())
