"""`async def` tasks: many at once on the loop of one slot, beside a sync job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jobs.models import Attempt, FinishedJob, Job
from tests import tasks
from tests.models import Effect
from tests.support.processes import Program
from tests.support.side_file import SideFile
from tests.support.wait import wait_until

Start = Callable[..., Program]


def test_coroutines_of_one_slot_run_at_the_same_time(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    handles = [tasks.async_wait_for_file.enqueue(str(tmp_path / "go"), f"c{n}") for n in range(40)]
    runworkers("--slots", "1")

    wait_until(lambda: len(side_file.lines()) == 40)
    (tmp_path / "go").touch()

    wait_until(lambda: FinishedJob.objects.filter(pk__in=[h.id for h in handles], state="succeeded").count() == 40)


def test_no_more_coroutines_run_than_allowed(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    handles = [tasks.async_wait_for_file.enqueue(str(tmp_path / "go"), f"c{n}") for n in range(20)]
    runworkers("--slots", "1", jobs={"ASYNC_CONCURRENCY": 5})

    wait_until(lambda: len(side_file.lines()) == 5)
    after = tasks.add.enqueue(1, 1)  # passes the waiting ones by only when the slot has room again
    assert len(side_file.lines()) == 5
    (tmp_path / "go").touch()

    wait_until(lambda: FinishedJob.objects.filter(pk__in=[*(h.id for h in handles), after.id]).count() == 21)


def test_a_sync_job_runs_beside_coroutines_of_the_same_slot(
    runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    tasks.async_wait_for_file.enqueue(str(tmp_path / "go"), "coroutine")
    runworkers("--slots", "1")
    wait_until(lambda: side_file.count("coroutine begins"))

    sync = tasks.leave_mark.enqueue("sync")

    wait_until(lambda: FinishedJob.objects.filter(pk=sync.id).exists())
    assert Job.objects.filter(state="running").count() == 1
    (tmp_path / "go").touch()
    wait_until(lambda: FinishedJob.objects.count() == 2)


def test_a_coroutine_uses_the_orm_and_its_result_comes_back(runworkers: Start) -> None:
    handles = [tasks.async_make_effect.enqueue(f"note {n}") for n in range(30)]

    assert runworkers("--slots", "1", "--burst").ended() == 0

    assert Effect.objects.count() == 30
    assert sorted(str(h.return_value) for h in handles) == sorted(f"note {n}" for n in range(30))


def test_a_failing_coroutine_is_retried_and_its_neighbours_are_not(runworkers: Start, side_file: SideFile) -> None:
    bad = tasks.async_fail_always.enqueue("bad")
    good = [tasks.async_wait.enqueue(0.01, f"good {n}") for n in range(10)]

    runworkers("--slots", "1")

    wait_until(lambda: FinishedJob.objects.count() == 11)
    job = FinishedJob.objects.get(pk=bad.id)
    assert (job.state, job.attempts, job.error) == ("dead", 2, "RuntimeError: bad")
    assert Attempt.objects.count() == 2
    assert all(side_file.count(f"good {n} begins") == 1 for n in range(len(good)))
