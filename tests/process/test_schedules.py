"""Schedules with real workers: what runs by itself, and what becomes of ticks while every worker is down."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from jobs.models import FinishedJob, Job, Schedule
from tests.factories import ScheduleFactory
from tests.support.committing import _django_db_helper  # noqa: F401
from tests.support.processes import Program
from tests.support.side_file import SideFile
from tests.support.sql import a_cursor
from tests.support.wait import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.kills]

ON = {"SCHEDULES": True, "TICK_GRACE": 1.0}

SECOND = timedelta(seconds=1)


def now() -> datetime:
    with a_cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        at: datetime = cursor.fetchone()[0]
    return at


def test_a_worker_writes_down_the_schedules_of_its_code_and_runs_what_is_due(
    runworkers: Callable[..., Program], side_file: SideFile
) -> None:
    schedule = ScheduleFactory(
        task="tests.tasks.leave_mark",
        arguments='{"args":[],"kwargs":{}}',
        tick_as="mark",
        every=SECOND,
        next_at=now(),
        missed="all",
    )
    worker = runworkers("--slots", "1", jobs=ON)

    wait_until(lambda: len(side_file.lines()) >= 3, within=40, what="three ticks have run")
    wait_until(lambda: Schedule.objects.filter(name="project.shop.tasks.nightly_report", declared=True).exists())
    assert worker.terminate() == 0

    marks = [datetime.fromisoformat(line) for line in side_file.lines()]
    assert marks == [schedule.next_at + n * SECOND for n in range(len(marks))], "each tick once, and none left out"
    assert set(FinishedJob.objects.values_list("parent", flat=True)) == {schedule.pk}


def test_ticks_while_every_worker_was_down_become_what_their_policy_says(
    runworkers: Callable[..., Program], side_file: SideFile
) -> None:
    """Three schedules of a second, each with another policy; the worker is killed and another starts later."""
    start = now()
    names = ("all", "once", "skip")
    for missed in names:
        ScheduleFactory(name=missed, missed=missed, task="tests.tasks.echo", arguments='{"args":[],"kwargs":{}}',
                        tick_as="value", every=SECOND, next_at=start)  # fmt: skip
    first = runworkers("--slots", "1", "--queues", "mail", jobs=ON)
    wait_until(lambda: min(len(ticks(name)) for name in names) >= 2, within=40, what="two ticks of each")
    first.kill()
    before = {name: max(ticks(name)) for name in names}
    # The state that is waited for: three ticks have passed that nobody has looked at.
    wait_until(lambda: now() > max(before.values()) + 3.5 * SECOND, within=20)
    second = runworkers("--slots", "1", "--queues", "mail", jobs=ON)
    wait_until(lambda: min(max(ticks(name)) for name in names) > max(before.values()) + 5 * SECOND, within=40)
    second.kill()

    for name in names:
        made = ticks(name)
        assert len(made) == len(set(made)), "no tick twice"
        rows = Schedule.objects.get(name=name)
        end = max(made)
        expected = [start + n * SECOND for n in range((end - start) // SECOND + 1)]
        if name == "all":
            assert made == expected
        else:
            left_out = [tick for tick in expected if tick not in made]
            assert rows.missed_ticks == len(left_out) and set(made) | set(left_out) == set(expected), "the grid is kept"
            down = [tick for tick in left_out if tick > made[0]]  # what was left out before that is the start-up's
            assert len(down) >= 2 and min(down) > before[name] and rows.passed_at is not None


def ticks(name: str) -> list[datetime]:
    """The ticks that have become jobs, in order."""
    jobs = Job.objects.filter(parent=Schedule.objects.get(name=name).pk).values_list("arguments", flat=True)
    return sorted(datetime.fromisoformat(json.loads(arguments)["kwargs"]["value"]) for arguments in jobs)
