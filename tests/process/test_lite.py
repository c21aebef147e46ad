"""Workers on a file: many processes write at once, some are killed, and nobody is told that it is locked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from jobs.models import Attempt, FinishedJob, Job, Worker
from outbox.models import Message
from outbox.session import Session
from tests import tasks
from tests.models import Effect
from tests.support.floor import broken
from tests.support.processes import ROOT, Program, environment, named
from tests.support.side_file import SideFile
from tests.support.wait import wait_until

pytestmark = [pytest.mark.sqlite, pytest.mark.kills]

PRODUCER = """
import django; django.setup()
from django.db import transaction
from tests import tasks
from tests.models import Effect
for n in range(150):
    with transaction.atomic():
        tasks.leave_mark.enqueue(f"{mark}-{n}")
"""


def test_six_processes_write_and_none_is_refused(
    runworkers: Callable[..., Program], side_file: SideFile, session: Session
) -> None:
    workers = [runworkers("--slots", "2") for _ in range(2)]
    producers = [
        subprocess.Popen(
            [sys.executable, "-c", PRODUCER.replace("{mark}", str(mark))],
            cwd=ROOT,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for mark in range(4)
    ]
    for n in range(8):
        wait_until(lambda n=n: len(side_file.lines()) > 40 * n, within=60)  # type: ignore[misc]
        slot = named(workers[n % 2].pid).get(f"slot-{n // 2 % 2}")
        if slot:
            os.kill(slot, signal.SIGKILL)
    for producer in producers:
        _, said = producer.communicate(timeout=120)
        assert (producer.returncode, said) == (0, "")

    wait_until(lambda: FinishedJob.objects.count() == 600, within=60, what=workers[0].said()[-2000:])
    assert not Job.objects.exists() and not Message.objects.exists()
    assert {line.split()[0] for line in side_file.lines()} == {f"{m}-{n}" for m in range(4) for n in range(150)}
    assert broken(session) == []
    assert session.connection.plainly("PRAGMA integrity_check") == [("ok",)]
    for worker in workers:
        assert worker.terminate() == 0
        assert "locked" not in worker.said()


def test_an_idle_worker_hears_of_a_job_soon_without_being_notified(
    runworkers: Callable[..., Program], side_file: SideFile
) -> None:
    """Polling alone would take half a second in the mean: ten in a row would take five."""
    runworkers("--slots", "1")
    wait_until(lambda: Worker.objects.exists())
    tasks.leave_mark.enqueue("warm")
    wait_until(lambda: len(side_file.lines()) == 1)

    def all_ten() -> None:
        for n in range(10):
            tasks.leave_mark.enqueue(str(n))
            wait_until(lambda n=n: len(side_file.lines()) == n + 2)  # type: ignore[misc]

    began = time.monotonic()
    all_ten()
    assert time.monotonic() - began < 3


def test_a_job_that_holds_the_writers_turn_is_killed_at_its_limit_and_gives_it_back(
    runworkers: Callable[..., Program], side_file: SideFile
) -> None:
    runworkers("--slots", "2")
    stuck = tasks.atomic_effect_hang_once.enqueue("held")
    wait_until(lambda: "held 1" in side_file.lines())
    tasks.leave_mark.enqueue("after")  # waits for its turn in this process

    wait_until(lambda: {"held 2"} < {*side_file.lines()} and any("after" in line for line in side_file.lines()))
    wait_until(lambda: FinishedJob.objects.filter(pk=stuck.id, state="succeeded").exists())
    assert [effect.note for effect in Effect.objects.all()] == ["held 2"]
    assert [attempt.kind for attempt in Attempt.objects.filter(job=stuck.id)] == ["timed_out"]
