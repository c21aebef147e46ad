"""Killed means killed: whatever a job is doing at its limit, it and all it left behind is gone soon after."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from jobs.models import Attempt, FinishedJob
from jobs.tasks import Task
from tests import hangs, tasks
from tests.models import Effect
from tests.support.database import on_sqlite
from tests.support.processes import Program, alive
from tests.support.side_file import SideFile
from tests.support.sql import a_cursor
from tests.support.wait import wait_until

Start = Callable[..., Program]

pytestmark = pytest.mark.kills

SYNC = [
    hangs.sleeps,
    hangs.spins,
    hangs.swallows_everything,
    hangs.blocks_all_signals,
    hangs.holds_the_gil,
    hangs.queries_for_ever,
    hangs.holds_a_row,
    hangs.has_a_grandchild_in_its_own_session,
    hangs.has_a_daemon,
    hangs.has_many_children,
    hangs.has_a_thread_that_never_ends,
    hangs.hangs_at_exit,
    hangs.stops_itself,
    hangs.closes_its_files,
]


class Begun(NamedTuple):
    """What a hanging task said of itself."""

    at: float
    pids: list[int]


def begun(side_file: SideFile, name: str) -> Begun | None:
    for line in side_file.lines():
        said, at, *pids = line.split()
        if said == name and pids:
            return Begun(float(at), [int(pid) for pid in pids])
    return None


def sessions_of_slots() -> list[tuple[int, str]]:
    """The database sessions that belong to slots and are in the middle of something; SQLite has none."""
    if on_sqlite():
        return []
    with a_cursor() as cursor:
        cursor.execute(
            "SELECT pid, query FROM pg_stat_activity WHERE application_name LIKE 'jobs-slot-%'"
            " AND datname = current_database() AND (query LIKE '%pg_sleep%' OR query LIKE '%tests_effect%')"
        )
        return cursor.fetchall()


@pytest.fixture
def worker(runworkers: Start, side_file: SideFile) -> Program:
    started = runworkers("--slots", "1")
    started.child("slot-0")
    return started


@pytest.mark.parametrize("hang", SYNC, ids=lambda task: task.func.__name__)
def test_a_job_at_its_limit_is_gone_with_all_it_left(
    worker: Program, side_file: SideFile, hang: Task[..., None]
) -> None:
    name = hang.func.__name__

    handle = hang.enqueue()
    start = wait_until(lambda: begun(side_file, name), what=f"{name} begins\n{worker.said()}")
    limit = start.at + hangs.LIMIT
    wait_until(lambda: not any(map(alive, start.pids)), within=limit + 2 - time.monotonic(), what=f"{name} is gone")
    gone = time.monotonic()
    wait_until(
        lambda: not sessions_of_slots(), within=max(0.0, limit + 2 - time.monotonic()), what="its session is gone"
    )
    after = tasks.leave_mark.enqueue(f"after {name}")

    wait_until(
        lambda: side_file.count(f"after {name}"), within=gone + 1 - time.monotonic(), what="the slot works again"
    )
    assert gone >= limit
    wait_until(lambda: FinishedJob.objects.filter(pk=handle.id).exists())
    attempts = Attempt.objects.filter(job=handle.id)
    assert [(a.kind, a.number) for a in attempts] == [("timed_out", 1)]
    assert attempts[0].error == "TimedOut: killed at its limit of 1 s"
    job = FinishedJob.objects.get(pk=handle.id)
    assert (job.state, job.attempts, job.crashes) == ("dead", 1, 0)
    assert not Effect.objects.exists()
    wait_until(lambda: FinishedJob.objects.filter(pk=after.id, state="succeeded").exists())


def test_the_record_says_where_the_job_was(worker: Program, side_file: SideFile) -> None:
    handle = hangs.sleeps.enqueue()

    wait_until(lambda: FinishedJob.objects.filter(pk=handle.id).exists())

    assert "in sleeps" in Attempt.objects.get(job=handle.id).traceback


def test_two_slots_with_grandchildren_are_killed_apart(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    runworkers("--slots", "2").child("slot-1")
    neighbour = tasks.with_orphan_wait_for_file.enqueue(str(tmp_path / "go"), "neighbour")
    theirs = wait_until(lambda: begun(side_file, "neighbour"))

    hangs.has_a_daemon.enqueue()
    start = wait_until(lambda: begun(side_file, "has_a_daemon"))
    wait_until(lambda: not any(map(alive, start.pids)), within=hangs.LIMIT + 2)

    assert all(map(alive, theirs.pids))
    (tmp_path / "go").touch()
    wait_until(lambda: FinishedJob.objects.filter(pk=neighbour.id).exists())
    assert FinishedJob.objects.get(pk=neighbour.id).state == "succeeded"
    assert not Attempt.objects.filter(job=neighbour.id).exists()


def test_a_slot_that_moved_on_just_before_the_limit_is_left_alone(runworkers: Start, side_file: SideFile) -> None:
    worker = runworkers("--slots", "2")
    # Each ends within a few hundredths of a second of its limit, on either side of it.
    handles = [tasks.sleep_about.enqueue(0.5, n) for n in range(24)]

    wait_until(lambda: FinishedJob.objects.count() == len(handles), within=40, what=worker.said())

    for number, handle in enumerate(handles):
        job = FinishedJob.objects.get(pk=handle.id)
        tries = Attempt.objects.filter(job=handle.id)
        ends = side_file.count(f"{number} ends")
        assert job.crashes == 0 and job.attempts == 1
        assert (job.state, [a.kind for a in tries]) in (("succeeded", []), ("dead", ["timed_out"]))
        assert ends == 1 or job.state == "dead"


def test_a_coroutine_that_blocks_the_loop_is_killed_and_its_neighbours_go_back_uncharged(
    runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    runworkers("--slots", "1").child("slot-0")
    neighbours = [tasks.async_wait_for_file.enqueue(str(tmp_path / "go"), f"n{n}") for n in range(5)]
    wait_until(lambda: len(side_file.lines()) == 5)

    blocker = hangs.blocks_its_loop.enqueue()
    start = wait_until(lambda: begun(side_file, "blocks_its_loop"))
    wait_until(lambda: not any(map(alive, start.pids)), within=hangs.LIMIT + 2)
    (tmp_path / "go").touch()

    ids = [blocker.id, *(n.id for n in neighbours)]
    wait_until(lambda: FinishedJob.objects.filter(pk__in=ids).count() == len(ids))
    assert [a.kind for a in Attempt.objects.filter(job=blocker.id)] == ["timed_out"]
    assert not Attempt.objects.exclude(job=blocker.id).exists()
    for neighbour in neighbours:
        job = FinishedJob.objects.get(pk=neighbour.id)
        assert (job.state, job.attempts, job.crashes, job.lease) == ("succeeded", 1, 0, 2)


@pytest.mark.parametrize("hang", [hangs.awaits_for_ever, hangs.swallows_its_cancellation], ids=["awaits", "swallows"])
def test_an_async_job_at_its_limit_is_one_timed_out_attempt(
    worker: Program, side_file: SideFile, hang: Task[..., None]
) -> None:
    handle = hang.enqueue()
    wait_until(lambda: FinishedJob.objects.filter(pk=handle.id).exists(), within=hangs.LIMIT + 6)

    assert [(a.kind, a.number) for a in Attempt.objects.filter(job=handle.id)] == [("timed_out", 1)]
    assert FinishedJob.objects.get(pk=handle.id).state == "dead"


def test_a_timed_out_job_with_attempts_left_is_tried_again(runworkers: Start, side_file: SideFile) -> None:
    runworkers("--slots", "1").child("slot-0")
    handle = tasks.hang_once.enqueue("again")

    wait_until(lambda: FinishedJob.objects.filter(pk=handle.id).exists())

    job = FinishedJob.objects.get(pk=handle.id)
    assert (job.state, job.attempts, job.crashes) == ("succeeded", 2, 0)
    assert [a.kind for a in Attempt.objects.filter(job=handle.id)] == ["timed_out"]
    assert side_file.lines() == ["again 1", "again cleans up", "again 2"]


def test_a_job_has_a_moment_to_clean_up_at_its_limit(worker: Program, side_file: SideFile) -> None:
    hangs.cleans_up.enqueue()

    wait_until(lambda: side_file.count("cleaned up"))
