"""What people do reaches the workers: a running job is told and then killed, queues pause, workers rest and end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import operate
from jobs.models import Job, LogLine, Progress, Stat, Worker
from tests import tasks
from tests.support.committing import _django_db_helper  # noqa: F401
from tests.support.processes import Program
from tests.support.side_file import SideFile
from tests.support.wait import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.kills]


def started(side_file: SideFile, mark: str) -> bool:
    return any(line.startswith(mark) for line in side_file.path.read_text().splitlines())


def test_a_running_job_is_cancelled_and_leaves_its_lines(
    runworkers: Callable[..., Program], side_file: SideFile, tmp_path: Path
) -> None:
    handle = tasks.say_and_wait_for_file.enqueue(str(tmp_path / "never"), "it")
    runworkers("--slots", "1")
    wait_until(lambda: started(side_file, "it"))
    wait_until(lambda: Progress.objects.filter(pk=handle.id, done=3).exists(), what="progress while it runs")

    assert operate.cancel([handle.id], by="anna", reason="too late") == (0, 1)

    assert handle.wait(10)
    assert (handle.status, handle.error) == ("cancelled", "cancelled by anna: too late")
    assert handle.attempts == 0
    lines = LogLine.objects.filter(job=handle.id).order_by("id")
    assert [(line.level, line.logger, line.text) for line in lines] == [
        (30, "shop", "it heard"),
        (20, "", "it said"),
    ]
    after = tasks.add.enqueue(1, 2)
    assert after.wait(10) and after.return_value == 3


def test_a_cancelled_coroutine_ends_alone(
    runworkers: Callable[..., Program], side_file: SideFile, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    handle = tasks.async_wait_for_file.enqueue(str(tmp_path / "never"), "it")
    neighbour = tasks.async_wait_for_file.enqueue(str(end), "neighbour")
    runworkers("--slots", "1")
    wait_until(lambda: started(side_file, "it") and started(side_file, "neighbour"))

    operate.cancel([handle.id], by="anna")

    assert handle.wait(10)
    assert (handle.status, handle.error) == ("cancelled", "cancelled by anna")
    end.touch()
    assert neighbour.wait(10)
    assert neighbour.status == "succeeded"
    assert side_file.path.read_text().count("neighbour begins") == 1


def test_a_killed_slot_leaves_the_lines_of_its_job(
    runworkers: Callable[..., Program], side_file: SideFile, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    handle = tasks.say_and_wait_for_file.enqueue(str(end), "it")
    runworkers("--slots", "1")
    wait_until(lambda: LogLine.objects.filter(job=handle.id).count() == 2)

    os.kill(int(side_file.path.read_text().split()[1]), signal.SIGKILL)
    wait_until(lambda: LogLine.objects.filter(job=handle.id).count() == 4, what="the second try's lines")
    end.touch()

    assert handle.wait(10)
    assert set(LogLine.objects.values_list("lease", flat=True)) == {1, 2}
    assert [(error.kind, error.attempt) for error in handle.errors] == [("crashed", 1)]
    wait_until(lambda: Stat.objects.filter(outcome="crashed").exists(), what="the keeper's count")


def test_a_paused_queue_waits_and_goes_on(runworkers: Callable[..., Program], side_file: SideFile) -> None:
    operate.pause("mail", by="anna")
    program = runworkers("--slots", "1")
    first = tasks.add.enqueue(1, 1)
    assert first.wait(10)
    waiting = tasks.leave_mark.using(queue_name="mail").enqueue("mail")
    assert tasks.add.enqueue(1, 1).wait(10)
    assert not waiting.wait(1.5)
    assert waiting.status == "ready"

    operate.resume("mail")

    assert waiting.wait(10)
    assert program.terminate() == 0


def test_burst_does_not_wait_for_a_paused_queue(runworkers: Callable[..., Program]) -> None:
    operate.pause("mail")
    tasks.add.using(queue_name="mail").enqueue(1, 1)
    done = tasks.add.enqueue(1, 1)

    program = runworkers("--slots", "1", "--burst", "--queues", "default,mail")

    assert program.ended(within=30) == 0
    assert done.status == "succeeded"
    assert Job.objects.get().queue == "mail"


def test_a_worker_rests_works_again_and_ends(runworkers: Callable[..., Program], side_file: SideFile) -> None:
    program = runworkers("--slots", "2")
    worker = wait_until(lambda: Worker.objects.first())
    operate.tell_worker(worker.pk, Worker.Wish.QUIET)
    time.sleep(1.5)  # its keeper looks once a second
    handle = tasks.add.enqueue(1, 2)
    assert not handle.wait(1.5)

    operate.tell_worker(worker.pk, Worker.Wish.NONE)
    assert handle.wait(10)
    operate.tell_worker(worker.pk, Worker.Wish.STOP)

    assert program.ended(within=15) == 0
    assert not Worker.objects.exists()
