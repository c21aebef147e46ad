"""Two releases side by side on one queue: each runs what it knows, and nothing is lost, dead or charged."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobs.models import FinishedJob, Job
from tests import tasks
from tests.support.processes import Program, named
from tests.support.side_file import SideFile
from tests.support.wait import wait_until

Start = Callable[..., Program]

pytestmark = pytest.mark.kills

OLD = {"TEST_OLD_RELEASE": "yes"}


def test_jobs_of_a_new_task_are_left_to_the_new_release(runworkers: Start, side_file: SideFile) -> None:
    old = runworkers("--slots", "1", env=OLD)
    first = tasks.new_in_this_release.enqueue("first")
    waits = lambda: Job.objects.filter(pk=first.id, state="scheduled").exists()  # noqa: E731
    wait_until(waits, what=old.said())  # it was claimed, not known, and put back

    new = runworkers("--slots", "1")
    handles = tasks.new_in_this_release.enqueue_many([(f"job {n}",) for n in range(200)])
    handles += tasks.leave_mark.enqueue_many([(f"both {n}",) for n in range(50)])

    wait_until(lambda: FinishedJob.objects.count() == 251, within=30, what=new.said())
    done = FinishedJob.objects.all()
    assert {(job.state, job.attempts, job.crashes) for job in done} == {("succeeded", 1, 0)}
    slots = {named(new.pid)["slot-0"]}
    assert {int(line.split()[-1]) for line in side_file.lines() if not line.startswith("both")} == slots
    assert "no task 'tests.tasks.new_in_this_release' here" in old.said()
    assert old.terminate() == new.terminate() == 0


def test_a_job_of_a_newer_version_waits_and_one_of_an_older_is_upgraded(runworkers: Start) -> None:
    old = runworkers("--slots", "1", env=OLD)
    newer = tasks.renamed_argument.enqueue(5)
    wait_until(lambda: Job.objects.filter(pk=newer.id, state="scheduled").exists(), what=old.said())
    assert "version 2" in Job.objects.get(pk=newer.id).error
    assert old.terminate() == 0
    older = Job.objects.get(pk=newer.id)
    older.pk = tasks.noop.enqueue().id.hex[:-1] + "0"
    older.version, older.arguments, older.state, older.ready_at = (
        1,
        '{"args":["7"],"kwargs":{}}',
        "ready",
        older.run_after,
    )
    older.save(force_insert=True)

    new = runworkers("--slots", "1")
    wait_until(lambda: FinishedJob.objects.filter(task="tests.tasks.renamed_argument").count() == 2, what=new.said())
    assert sorted(FinishedJob.objects.filter(task="tests.tasks.renamed_argument").values_list("result", flat=True)) == [
        "5",
        "7",
    ]
