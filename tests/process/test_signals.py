"""Shutdown: what runs may finish, what cannot is handed back at once, nothing is lost and no attempt is charged."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.models import Attempt, FinishedJob, Job, Worker
from outbox.models import Message
from tests import tasks
from tests.support.processes import Program, alive, named
from tests.support.side_file import SideFile
from tests.support.wait import wait_until

Start = Callable[..., Program]

pytestmark = pytest.mark.kills


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda n: n.name)
def test_an_idle_worker_ends_at_once(runworkers: Start, number: int) -> None:
    worker = runworkers("--slots", "2")
    worker.child("slot-1")
    children = worker.children()

    worker.signal(number)

    assert worker.ended(within=5) == 0
    assert not any(map(alive, children))
    assert not Worker.objects.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_running_job_may_finish_and_no_other_begins(
    runworkers: Start, side_file: SideFile, tmp_path: Path, number: int
) -> None:
    worker = runworkers("--slots", "1")
    first = tasks.wait_for_file.enqueue(str(tmp_path / "go"), "first")
    wait_until(lambda: side_file.count("first begins"))

    worker.signal(number)
    wait_until(lambda: drains(worker))
    second = tasks.leave_mark.enqueue("second")
    (tmp_path / "go").touch()

    assert worker.ended(within=10) == 0
    assert FinishedJob.objects.get(pk=first.id).state == "succeeded"
    assert side_file.lines() == ["first begins", "first ends"]
    assert Message.objects.filter(uid=second.id).exists() or Job.objects.get(pk=second.id).state == "ready"


def test_a_job_that_does_not_finish_in_time_is_handed_back_uncharged(
    runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    worker = runworkers("--slots", "2", "--drain-timeout", "0.5")
    job = tasks.wait_for_file.enqueue(str(tmp_path / "never"), "job")
    coroutine = tasks.async_wait.enqueue(3600, "coroutine")
    wait_until(lambda: len(side_file.lines()) == 2)

    started = time.monotonic()
    assert worker.terminate(within=5) == 0

    assert time.monotonic() - started < 0.5 + 2
    for handle in (job, coroutine):
        row = Job.objects.get(pk=handle.id)
        assert (row.state, row.attempts, row.crashes) == ("ready", 0, 0)
    assert not Attempt.objects.exists()
    assert not Worker.objects.exists()


def test_a_second_signal_stops_at_once(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    worker = runworkers("--slots", "1", "--drain-timeout", "3600")
    handle = tasks.wait_for_file.enqueue(str(tmp_path / "never"), "job")
    wait_until(lambda: side_file.count("job begins"))

    worker.signal(signal.SIGTERM)
    wait_until(lambda: drains(worker))
    worker.signal(signal.SIGTERM)

    assert worker.ended(within=3) == 0
    row = Job.objects.get(pk=handle.id)
    assert (row.state, row.attempts, row.crashes) == ("ready", 0, 0)


def drains(worker: Program) -> bool:
    """The relay is gone: the first signal has been taken up."""
    return "relay" not in named(worker.pid)


def test_sigquit_does_not_wait_for_anything(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    worker = runworkers("--slots", "1")
    handle = tasks.wait_for_file.enqueue(str(tmp_path / "never"), "job")
    wait_until(lambda: side_file.count("job begins"))

    worker.signal(signal.SIGQUIT)

    assert worker.ended(within=3) == 0
    assert Job.objects.get(pk=handle.id).state == "ready"


def test_what_was_claimed_and_not_begun_goes_back(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    worker = runworkers("--slots", "1", "--drain-timeout", "0.2")
    handles = tasks.wait_for_file.enqueue_many([(str(tmp_path / "never"), f"{n}") for n in range(20)])
    wait_until(lambda: len(side_file.lines()) == 1)

    assert worker.terminate(within=5) == 0

    states = Job.objects.filter(pk__in=[h.id for h in handles]).values_list("state", "attempts", "crashes")
    waiting = Message.objects.count()
    assert len(states) + waiting == 20
    assert set(states) == {("ready", 0, 0)}


def test_the_group_signal_of_a_terminal_does_not_hit_the_jobs(
    runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    worker = runworkers("--slots", "1")
    handle = tasks.wait_for_file.enqueue(str(tmp_path / "go"), "job")
    wait_until(lambda: side_file.count("job begins"))

    os.killpg(worker.pid, signal.SIGINT)
    wait_until(lambda: drains(worker))
    (tmp_path / "go").touch()

    assert worker.ended(within=5) == 0
    assert FinishedJob.objects.get(pk=handle.id).state == "succeeded"


def test_a_signal_while_starting_ends_it(runworkers: Start) -> None:
    worker = runworkers("--slots", "2")
    wait_until(worker.children)

    assert worker.terminate(within=10) in (0, -signal.SIGTERM)
    assert not Worker.objects.exists()
