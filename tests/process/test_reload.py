"""`runworkers --reload`: the workers run the newest code, and outlive code that cannot be loaded."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import child
from jobs.declare import registry, task
from jobs.models import FinishedJob, Job, Worker
from jobs.tasks import Task
from tests.support.processes import ROOT, Program
from tests.support.wait import wait_until

pytestmark = pytest.mark.kills

SETTINGS = """
from tests.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "errand"]
"""

CODE = """
import time
from pathlib import Path
from jobs import task

@task
def run(path: str = "") -> str:
    while path and not Path(path).exists():
        time.sleep(0.01)
    return "{word}"
"""


class Errand:
    """An app in a folder of its own, whose only task is written anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stamp = 1_700_000_000
        (folder / "errand").mkdir()
        (folder / "errand" / "__init__.py").touch()
        (folder / "errand_settings.py").write_text(SETTINGS)
        self.write("first")

    def write(self, word: str, code: str = CODE) -> None:
        path = self.folder / "errand" / "tasks.py"
        fresh = path.with_suffix(".new")
        fresh.write_text(textwrap.dedent(code.replace("{word}", word)))
        self.stamp += 10  # a change within one tick of the file system's clock is a change all the same
        os.utime(fresh, (self.stamp, self.stamp))
        fresh.replace(path)

    @property
    def env(self) -> dict[str, str]:
        return {
            "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}",
            "DJANGO_SETTINGS_MODULE": "errand_settings",
            "PYTHONDONTWRITEBYTECODE": "1",
        }


@pytest.fixture
def errand(tmp_path: Path) -> Errand:
    return Errand(tmp_path)


@pytest.fixture
def run() -> Any:
    """The task as the test knows it: by name, whatever its code is in the workers."""

    def placeholder(path: str = "") -> str:
        return path

    placeholder.__qualname__ = "placeholder"
    made: Task[Any, Any] = task(name="errand.tasks.run")(placeholder)
    yield made
    del registry["errand.tasks.run"]


def alive(pid: int) -> bool:
    return any(process.pid == pid for process in child.process_table())


def test_a_change_is_what_runs_next_and_broken_code_is_waited_out(
    runworkers: Callable[..., Program], errand: Errand, run: Task[Any, str]
) -> None:
    program = runworkers("--reload", "--slots", "1", "--drain-timeout", "0.2", env=errand.env)
    assert run.enqueue().wait(20), program.said()
    assert FinishedJob.objects.get().result == '"first"'

    interrupted = run.enqueue(str(errand.folder / "never"))
    wait_until(lambda: Job.objects.filter(pk=interrupted.id, state="running").exists(), what=program.said())
    errand.write("second")
    wait_until(lambda: "tasks.py has changed" in program.said())
    wait_until(lambda: "has changed: starting again.\nAll slots have ended." in program.said())
    (errand.folder / "never").touch()
    assert interrupted.wait(20), program.said()
    assert (interrupted.return_value, interrupted.attempts, interrupted.errors) == ("second", 1, [])

    errand.write("", "this is no Python")
    wait_until(lambda: "start again when the code changes" in program.said(), what="the end of the workers")
    assert program.process.poll() is None
    errand.write("third")
    last = run.enqueue()
    assert last.wait(20), program.said()
    assert last.return_value == "third"

    assert program.terminate() == 0
    assert not Worker.objects.exists()


def test_the_workers_end_with_it(runworkers: Callable[..., Program], errand: Errand) -> None:
    program = runworkers("--reload", "--slots", "1", "--drain-timeout", "0.2", env=errand.env)
    wait_until(lambda: Worker.objects.exists(), what=program.said())
    (workers,) = program.children()

    program.signal(signal.SIGKILL)

    wait_until(lambda: not alive(workers), what="the end of the workers")
