"""The whole way, through real commands: enqueue, relay, claim, execute, finish."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobs.models import Attempt, FinishedJob, Job, State, Worker
from outbox.models import Message
from tests import hangs, tasks
from tests.models import Effect
from tests.support.processes import Program
from tests.support.side_file import SideFile
from tests.support.wait import wait_until

Start = Callable[..., Program]


def test_a_burst_runs_everything_and_ends(runworkers: Start) -> None:
    handles = tasks.add.enqueue_many([(n, 1) for n in range(50)])
    pair = tasks.add.enqueue(20, 22)

    assert runworkers("--burst", "--slots", "2").ended() == 0

    pair.refresh()
    assert pair.status is State.SUCCEEDED
    assert pair.return_value == 42
    assert [h.return_value for h in handles] == [n + 1 for n in range(50)]
    assert not Message.objects.exists() and not Job.objects.exists() and not Worker.objects.exists()


def test_a_burst_with_nothing_to_do_ends(runworkers: Start) -> None:
    assert runworkers("--burst", "--slots", "1").ended() == 0


def test_what_a_task_prints_is_not_lost_with_its_slot(runworkers: Start) -> None:
    """A file or a pipe is buffered by the block, and a slot ends without emptying it."""
    hangs.say_and_die.enqueue("the bread is ready")

    worker = runworkers("--slots", "1", jobs={"MAX_CRASHES": 1}, env={"PYTHONUNBUFFERED": ""})

    wait_until(lambda: FinishedJob.objects.filter(state="dead").exists(), within=30)
    assert "the bread is ready\n" in worker.said()


def test_a_failing_job_is_tried_until_its_attempts_are_spent(runworkers: Start, side_file: SideFile) -> None:
    handle = tasks.fail_always.using(max_attempts=3).enqueue("boom")

    worker = runworkers("--slots", "1")
    wait_until(lambda: FinishedJob.objects.filter(pk=handle.id).exists())

    job = FinishedJob.objects.get(pk=handle.id)
    assert (job.state, job.attempts, job.crashes) == ("dead", 3, 0)
    assert job.error == "ValueError: no boom"
    assert side_file.lines() == ["boom"] * 3
    attempts = list(Attempt.objects.filter(job=handle.id).order_by("number"))
    assert [(a.number, a.kind) for a in attempts] == [(1, "failed"), (2, "failed"), (3, "failed")]
    assert "raise ValueError" in attempts[0].traceback
    assert worker.terminate() == 0


def test_a_job_that_succeeds_at_the_third_attempt_keeps_its_id_and_key(runworkers: Start, side_file: SideFile) -> None:
    handle = tasks.fail_until.enqueue(3, "third")

    worker = runworkers("--slots", "2")
    wait_until(lambda: FinishedJob.objects.filter(pk=handle.id).exists())

    handle.refresh()
    assert handle.return_value == 3
    assert side_file.lines() == ["third 1", "third 2", "third 3"]
    assert Attempt.objects.filter(job=handle.id).count() == 2
    assert worker.terminate() == 0


@pytest.mark.parametrize("queues", ["mail", "mail,reports", "mail:3,reports:1"])
def test_a_worker_serves_only_the_queues_it_was_given(runworkers: Start, queues: str) -> None:
    mine = tasks.noop.using(queue_name="mail").enqueue()
    other = tasks.noop.enqueue()

    assert runworkers("--burst", "--slots", "1", "--queues", queues).ended() == 0

    assert mine.status is State.SUCCEEDED
    assert other.status is State.READY


def test_an_unknown_task_waits_and_the_others_go_on(runworkers: Start, side_file: SideFile) -> None:
    from tests.factories import JobFactory

    unknown = JobFactory(task="tests.tasks.not_written_yet")
    known = tasks.leave_mark.enqueue("known")

    assert runworkers("--burst", "--slots", "1").ended() == 0

    assert known.status is State.SUCCEEDED
    unknown.refresh_from_db()
    assert (unknown.state, unknown.attempts, unknown.crashes) == ("scheduled", 0, 0)
    assert unknown.error == "no worker here knows this task"


@pytest.mark.postgresql("psycopg's pool")
def test_tasks_run_on_djangos_own_pool(runworkers: Start, side_file: SideFile) -> None:
    """The supervisor has opened it before the fork, with its threads; each slot opens its own."""
    for n in range(5):
        tasks.async_make_effect.enqueue(f"async {n}")
        tasks.atomic_effect.enqueue(f"atomic {n}")
        tasks.only_the_first_time.enqueue(f"plain {n}")

    worker = runworkers("--slots", "2", "--burst", env={"TEST_POOL": "yes"})
    assert worker.ended() == 0, worker.said()
    assert set(FinishedJob.objects.values_list("state", flat=True)) == {"succeeded"}, worker.said()
    assert FinishedJob.objects.count() == Effect.objects.count() == 15
    Effect.objects.all().delete()
