"""The schedules of the code in the table: written once, taken over by newer code, and never undone by older code."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs import every
from jobs.conf import JobsSettings
from jobs.enrol import GONE_AFTER, SEEN_FOR, enrol
from jobs.models import Job, Schedule
from jobs.plan import Plan
from jobs.tick import Ticker
from outbox.session import Session, session_on
from tests import tasks
from tests.factories import ScheduleFactory
from tests.support.floor import value

pytest_plugins = ["tests.support.ours"]

Runs = Callable[..., None]

A_WHILE = GONE_AFTER + timedelta(seconds=5)


@pytest.fixture
def runs(ours: Session, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Have a process look whose code declares these: each a dict for `every`, or an expression."""

    def look(*schedules: Any) -> None:
        known: dict[str, Plan] = {}
        monkeypatch.setattr("jobs.plan.declared", known)
        monkeypatch.setattr("jobs.enrol.declared", known)
        for given in schedules:
            options = {"cron": given} if isinstance(given, str) else dict(given)
            cron = options.pop("cron", None)
            every(cron, **options)(tasks.noop)
        enrol(ours)

    return look


def pass_time(span: timedelta, **only: Any) -> None:
    """As if nobody had signed for that long."""
    for row in Schedule.objects.filter(declared=True, **only):
        assert row.declared_at is not None
        Schedule.objects.filter(pk=row.pk).update(declared_at=row.declared_at - span)


def now(ours: Session) -> datetime:
    at: datetime = value(ours, "SELECT clock_timestamp()")
    return at


def test_a_new_one_is_written_with_its_next_tick(ours: Session, runs: Runs) -> None:
    runs(
        {
            "cron": "0 2 * * *", "timezone": "Europe/Paris", "name": "nightly", "kwargs": {"n": 7}, "missed": "all",
            "missed_limit": 5, "overlap": "skip", "priority": "high", "queue_name": "mail", "delay": 2,
        }
    )  # fmt: skip

    row = Schedule.objects.get()
    assert (row.name, row.task, row.cron, row.every, row.timezone) == (
        "nightly", "tests.tasks.noop", "0 2 * * *", None, "Europe/Paris",
    )  # fmt: skip
    assert row.arguments == '{"args":[],"kwargs":{"n":7}}'
    assert row.options == '{"priority":"high","queue_name":"mail","delay":2.0}'
    assert (row.missed, row.missed_limit, row.overlap, row.declared) == ("all", 5, "skip", True)
    assert row.next_at is not None and now(ours) < row.next_at <= now(ours) + timedelta(days=1)


def test_an_interval_begins_when_it_is_written(ours: Session, runs: Runs) -> None:
    runs({"minutes": 15})

    row = Schedule.objects.get()
    assert row.name == "tests.tasks.noop"
    assert row.next_at is not None and abs(row.next_at - now(ours) - timedelta(minutes=15)) < timedelta(seconds=5)


def test_looking_again_changes_nothing_but_the_sign_of_life(ours: Session, runs: Runs) -> None:
    runs("0 2 * * *")
    before = Schedule.objects.values().get()
    runs("0 2 * * *")
    assert Schedule.objects.values().get() == before, "it has only just signed"
    pass_time(SEEN_FOR * 2)

    runs("0 2 * * *")

    after = Schedule.objects.values().get()
    assert after.pop("declared_at") >= before.pop("declared_at") and after == before


def test_new_code_takes_it_over_and_the_old_one_does_not_take_it_back(ours: Session, runs: Runs) -> None:
    runs({"cron": "0 2 * * *"})
    Schedule.objects.update(made=3, paused_at=datetime.now(UTC))
    runs({"cron": "0 3 * * *", "kwargs": {"n": 1}})
    taken = Schedule.objects.values().get()
    assert (taken["cron"], taken["arguments"]) == ("0 3 * * *", '{"args":[],"kwargs":{"n":1}}')
    assert taken["next_at"].hour == 3
    assert taken["made"] == 3 and taken["paused_at"] is not None, "what people did and what was counted stays"

    for _ in range(3):  # an old worker that is started again in the middle of the deploy
        runs({"cron": "0 2 * * *"})

    assert Schedule.objects.values().get() == taken


def test_after_a_rollback_the_old_code_gets_it_back_when_the_new_one_is_gone(ours: Session, runs: Runs) -> None:
    runs("0 2 * * *")
    runs("0 3 * * *")
    pass_time(A_WHILE)

    runs("0 2 * * *")

    assert Schedule.objects.get().cron == "0 2 * * *"
    runs("0 3 * * *")
    assert Schedule.objects.get().cron == "0 2 * * *", "and now it is the new one that was replaced"


def test_other_arguments_do_not_move_the_next_tick(ours: Session, runs: Runs) -> None:
    runs({"minutes": 15})
    before = Schedule.objects.get().next_at

    runs({"minutes": 15, "kwargs": {"n": 2}})

    row = Schedule.objects.get()
    assert row.next_at == before and row.arguments == '{"args":[],"kwargs":{"n":2}}'


def test_what_no_code_has_any_more_is_an_orphan_after_a_while(ours: Session, runs: Runs) -> None:
    runs("0 2 * * *")
    runs()
    assert Schedule.objects.get().orphaned_at is None, "a worker of the old version may still be there"
    pass_time(A_WHILE)

    runs()

    assert Schedule.objects.get().orphaned_at is not None


def test_an_orphan_that_the_code_has_again_goes_on_with_the_next_tick(ours: Session, runs: Runs) -> None:
    runs("* * * * *")
    Schedule.objects.update(orphaned_at=datetime.now(UTC), next_at=now(ours) - timedelta(days=3))

    runs("* * * * *")

    row = Schedule.objects.get()
    assert row.orphaned_at is None
    assert row.next_at is not None and row.next_at > now(ours), "nothing is made up for"


def test_after_an_outage_of_everything_a_schedule_is_no_orphan(ours: Session, runs: Runs) -> None:
    runs("* * * * *")
    pass_time(timedelta(days=2))
    Schedule.objects.update(next_at=now(ours) - timedelta(minutes=3))

    runs("* * * * *")

    row = Schedule.objects.get()
    assert row.orphaned_at is None
    assert row.next_at is not None and row.next_at < now(ours), "its missed ticks are still to be decided"


def test_one_made_in_admin_is_left_alone_also_where_the_code_has_its_name(
    ours: Session, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    ScheduleFactory(name="mine", next_at=now(ours) + timedelta(minutes=1))
    before = Schedule.objects.values().get()

    runs({"cron": "0 2 * * *", "name": "mine"})

    assert Schedule.objects.values().get() == before
    assert "rename one" in caplog.text


def test_two_processes_that_are_new_at_once_write_one_row(ours: Session, runs: Runs) -> None:
    runs("0 2 * * *")
    row = Schedule.objects.values().get()
    Schedule.objects.all().delete()
    other = session_on("default")
    try:
        enrol(other)
        enrol(ours)
    finally:
        other.close()

    assert Schedule.objects.get().pk == row["id"]


def test_a_scheduler_writes_its_code_down_when_it_starts_and_runs_it(ours: Session, runs: Runs) -> None:
    runs({"minutes": 15})
    Schedule.objects.all().delete()

    one = Ticker(ours, JobsSettings())
    assert one.step()[0] == 0
    Schedule.objects.update(next_at=now(ours))

    assert one.step()[0] == 1
    assert Job.objects.get().parent == Schedule.objects.get().pk
