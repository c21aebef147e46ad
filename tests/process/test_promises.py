"""The promises, kept by real processes that are killed: at most once, and effects exactly once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.models import Attempt, FinishedJob, Job, Worker
from tests import tasks
from tests.models import Effect
from tests.process.test_crashes import QUICK, all_finished, pids_of
from tests.support.processes import Program, named
from tests.support.side_file import SideFile
from tests.support.wait import wait_until

Start = Callable[..., Program]

pytestmark = pytest.mark.kills


@pytest.fixture(autouse=True)
def no_effects(transactional_db: None) -> Iterator[None]:
    yield
    Effect.objects.all().delete()


# At most once -------------------------------------------------------------------------------------------------------


def test_a_job_whose_slot_was_killed_is_dead_and_never_run_again(
    runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    runworkers("--slots", "2")
    handle = tasks.once_then_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    (slot,) = wait_until(lambda: pids_of(side_file, "job"))

    os.kill(slot, signal.SIGKILL)

    wait_until(lambda: all_finished(1), within=5)
    (tmp_path / "go").touch()
    done = FinishedJob.objects.get(pk=handle.id)
    assert (done.state, done.attempts, done.crashes) == ("dead", 0, 1)
    assert done.error == "its process died: killed by SIGKILL; at_most_once: it may have run, so it is not run again"
    assert Attempt.objects.get(job=handle.id).kind == "crashed"
    assert len(pids_of(side_file, "job")) == 1


def test_a_job_whose_whole_worker_was_killed_is_dead_and_never_run_again(
    runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    first = runworkers("--slots", "1", jobs=QUICK)
    handle = tasks.once_then_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    wait_until(lambda: pids_of(side_file, "job"))
    waiting = tasks.once_then_wait_for_file.enqueue(str(tmp_path / "go"), "waiting")

    first.kill()
    runworkers("--slots", "1", jobs=QUICK)

    wait_until(lambda: FinishedJob.objects.filter(pk=handle.id, state="dead").exists())
    (tmp_path / "go").touch()
    wait_until(lambda: FinishedJob.objects.filter(pk=waiting.id, state="succeeded").exists())
    assert (len(pids_of(side_file, "job")), len(pids_of(side_file, "waiting"))) == (1, 1)
    assert Attempt.objects.get(job=handle.id).kind == "lost"


def test_a_shutdown_that_does_not_wait_is_a_loss_too(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    worker = runworkers("--slots", "1", "--drain-timeout", "0")
    handle = tasks.once_then_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    wait_until(lambda: pids_of(side_file, "job"))

    assert worker.terminate(within=10) == 0

    done = FinishedJob.objects.get(pk=handle.id)
    assert (done.state, done.crashes) == ("dead", 1)
    assert "stopped while it ran" in done.error


def test_claimed_and_never_started_is_no_loss(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    """They wait in the queue while one runs, and none of them is dead for it."""
    runworkers("--slots", "1")
    handles = [tasks.once_then_wait_for_file.enqueue(str(tmp_path / "go"), f"job{n}") for n in range(6)]
    (slot,) = wait_until(lambda: [pid for n in range(6) for pid in pids_of(side_file, f"job{n}")])

    os.kill(slot, signal.SIGKILL)
    (tmp_path / "go").touch()

    wait_until(lambda: all_finished(6))
    states = sorted(FinishedJob.objects.filter(pk__in=[h.id for h in handles]).values_list("state", flat=True))
    assert states == ["dead"] + ["succeeded"] * 5
    assert sorted(len(pids_of(side_file, f"job{n}")) for n in range(6)) == [1] * 6


def test_an_error_and_a_timeout_are_outcomes_that_were_seen(runworkers: Start, side_file: SideFile) -> None:
    runworkers("--slots", "1")
    handle = tasks.once_fail_hang_then_end.enqueue("job")

    wait_until(lambda: all_finished(1))
    done = FinishedJob.objects.get(pk=handle.id)
    assert (done.state, done.attempts, done.crashes) == ("succeeded", 3, 0)
    assert list(Attempt.objects.filter(job=handle.id).order_by("lease").values_list("kind", flat=True)) == [
        "failed",
        "timed_out",
    ]
    assert side_file.lines() == ["job 1", "job 2", "job 3"]


# Atomic -------------------------------------------------------------------------------------------------------------


def test_the_effects_of_a_killed_slot_are_undone_and_the_next_run_has_them_once(
    runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    runworkers("--slots", "1")
    handle = tasks.atomic_effect_then_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    (slot,) = wait_until(lambda: pids_of(side_file, "job"))

    os.kill(slot, signal.SIGKILL)
    wait_until(lambda: len(pids_of(side_file, "job")) == 2)
    assert not Effect.objects.exists()
    (tmp_path / "go").touch()

    wait_until(lambda: all_finished(2))
    assert Effect.objects.get().job == handle.id
    assert side_file.count("child of job") == 1
    done = FinishedJob.objects.get(pk=handle.id)
    assert (done.state, done.result, done.crashes, done.attempts) == ("succeeded", "7", 1, 1)


@pytest.mark.postgresql("a frozen worker that holds up nobody: on SQLite it keeps the writer's turn")
def test_a_zombie_commits_nothing(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    """A worker stopped past its time wakes up when another has its job: its transaction rolls back."""
    first = runworkers("--slots", "1", jobs=QUICK)
    handle = tasks.atomic_effect_then_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    wait_until(lambda: pids_of(side_file, "job"))
    gone = Worker.objects.get().pk
    whole = [first.pid, *named(first.pid).values()]
    for pid in whole:
        os.kill(pid, signal.SIGSTOP)

    runworkers("--slots", "1", jobs=QUICK)
    wait_until(lambda: len(pids_of(side_file, "job")) == 2)
    (tmp_path / "go").touch()
    for pid in whole:
        os.kill(pid, signal.SIGCONT)

    wait_until(lambda: all_finished(2))
    wait_until(lambda: "declared dead" in first.said() or "no longer ours" in first.said(), what=first.said())
    assert Effect.objects.get().job == handle.id
    assert side_file.count("child of job") == 1
    done = FinishedJob.objects.get(pk=handle.id)
    assert (done.state, done.lease, done.worker != gone) == ("succeeded", 2, True)
    assert not Job.objects.exists()


def test_a_timeout_in_the_middle_undoes_all_of_it(runworkers: Start, side_file: SideFile) -> None:
    runworkers("--slots", "1")
    handle = tasks.atomic_effect_hang_once.enqueue("job")

    wait_until(lambda: all_finished(1))
    assert [effect.note for effect in Effect.objects.all()] == ["job 2"]
    done = FinishedJob.objects.get(pk=handle.id)
    assert (done.state, done.attempts) == ("succeeded", 2)
    assert Attempt.objects.get(job=handle.id).kind == "timed_out"


def test_many_atomic_jobs_under_kills_have_each_effect_once(runworkers: Start, side_file: SideFile) -> None:
    handles = tasks.atomic_effect.enqueue_many([(f"job {n}",) for n in range(300)])
    worker = runworkers("--slots", "2")

    for kills in range(8):
        wait_until(lambda kills=kills: len(side_file.lines()) > 30 * kills)  # type: ignore[misc]
        if slot := named(worker.pid).get(f"slot-{kills % 2}"):
            os.kill(slot, signal.SIGKILL)

    wait_until(lambda: all_finished(300), within=30, what=worker.said())
    assert sorted(Effect.objects.values_list("job", flat=True)) == sorted(handle.id for handle in handles)
    assert FinishedJob.objects.filter(state="succeeded").count() == 300
