"""Ticks: each is decided once, whoever looks, and what was missed or came too soon becomes what its policy says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs import tick
from jobs.conf import JobsSettings
from jobs.decide import Waiting
from jobs.declare import registry
from jobs.envelope import unpack_headers
from jobs.models import Job, Schedule
from jobs.tick import Ticker, move_on
from outbox.models import Message
from outbox.session import Query, Session
from tests import tasks
from tests.factories import FinishedJobFactory, ScheduleFactory
from tests.support.floor import claim, conclude, outcome, value

pytest_plugins = ["tests.support.ours"]

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.enrol.declared", {})


@pytest.fixture
def made(ours: Session) -> Iterator[Callable[..., Schedule]]:
    """Make a schedule whose first undecided tick was so long ago, by the database's clock."""

    def make(late: timedelta = timedelta(0), **columns: Any) -> Schedule:
        now = value(ours, "SELECT clock_timestamp()")
        return ScheduleFactory(next_at=now - late, **columns)

    return make


def ticker(ours: Session, **settings: Any) -> Ticker:
    return Ticker(ours, JobsSettings(**settings))


def step(ours: Session, **settings: Any) -> int:
    """Jobs made by one scheduler in one step."""
    return ticker(ours, **settings).step()[0]


def due_of(jobs: list[Job]) -> list[str]:
    return [job.origin for job in jobs]


def test_a_tick_that_is_due_becomes_a_ready_job_that_knows_where_it_came_from(
    ours: Session, made: Callable[..., Schedule]
) -> None:
    schedule = made(
        task="tests.tasks.add", arguments='{"args":[1],"kwargs":{"b":2}}', timezone="Asia/Kolkata",
        options='{"priority":"high","queue_name":"mail","max_attempts":3,"source_name":"nightly"}',
    )  # fmt: skip
    tick_at = schedule.next_at

    assert step(ours) == 1

    job = Job.objects.get()
    assert (job.state, job.task, job.queue, job.priority, job.max_attempts, job.source_name) == (
        "ready", "tests.tasks.add", "mail", 50, 3, "nightly",
    )  # fmt: skip
    assert json.loads(job.arguments) == {"args": [1], "kwargs": {"b": 2}}
    assert (job.parent, job.depth) == (schedule.id, 0)
    local = (tick_at + timedelta(hours=5, minutes=30)).strftime("%Y-%m-%d %H:%M:%S")
    assert job.origin == f"schedule {schedule.name}, due {local} Asia/Kolkata"
    schedule.refresh_from_db()
    assert (schedule.next_at, schedule.last_at, schedule.last_job) == (tick_at + MINUTE, tick_at, job.id)
    assert (schedule.made, schedule.missed_ticks, schedule.skipped_ticks, schedule.passed_at) == (1, 0, 0, None)
    assert step(ours) == 0 and Job.objects.count() == 1


def test_the_jobs_of_a_task_with_callbacks_have_them(
    ours: Session, made: Callable[..., Schedule], monkeypatch: pytest.MonkeyPatch
) -> None:
    calling = tasks.noop.using(on_success=tasks.tell_end.callback("well"))
    monkeypatch.setitem(registry, "tests.tasks.noop", calling)
    made(task="tests.tasks.noop")

    step(ours)
    (job,) = claim(ours, 5)
    conclude(ours, [outcome(job, "succeeded")])

    (message,) = Message.objects.all()
    assert unpack_headers(message.headers).task == tasks.tell_end.name
    assert unpack_headers(message.headers).parent == job.id


def test_the_time_of_the_tick_is_an_argument_where_the_schedule_says_so(
    ours: Session, made: Callable[..., Schedule]
) -> None:
    schedule = made(task="tests.tasks.add", arguments='{"args":[1],"kwargs":{}}', tick_as="b")

    step(ours)

    given = json.loads(Job.objects.get().arguments)["kwargs"]["b"]
    assert datetime.fromisoformat(given) == schedule.next_at


def test_a_delay_makes_it_a_scheduled_job(ours: Session, made: Callable[..., Schedule]) -> None:
    made(options='{"delay":2}')

    step(ours)

    job = Job.objects.get()
    assert job.state == "scheduled" and job.run_after - job.enqueued_at == 2 * MINUTE


@pytest.mark.parametrize("never", ["paused_at", "orphaned_at"])
def test_what_is_paused_or_in_no_code_is_not_run(ours: Session, made: Callable[..., Schedule], never: str) -> None:
    made(late=MINUTE, **{never: datetime.now(UTC)})

    assert ticker(ours).step() == (0, tick.LOOK_EVERY)
    assert not Job.objects.exists()


def test_a_task_that_this_code_does_not_know_is_left_to_others(ours: Session, made: Callable[..., Schedule]) -> None:
    unknown, known = made(task="os.system"), made()

    assert step(ours) == 1

    assert Job.objects.get().parent == known.id
    before = unknown.next_at
    unknown.refresh_from_db()
    assert unknown.next_at == before and not unknown.trouble
    assert ticker(ours).step() == (0, tick.LOOK_EVERY), "it is not looked at again and again"


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"timezone": "Mars/Olympus"}, "not known here"),
        ({"cron": "x", "every": None}, "five fields"),
        ({"task": "tests.tasks.add"}, "cannot be called"),
        ({"arguments": "[]"}, "not an object"),
        ({"options": '{"queue_name":"nowhere"}'}, "not declared"),
        ({"options": '{"colour":1}'}, "colour"),
        ({"options": "[]"}, "not an object"),
    ],
)
def test_one_that_cannot_be_run_says_why_and_holds_up_nobody(
    ours: Session, made: Callable[..., Schedule], columns: dict[str, Any], why: str
) -> None:
    broken, good = made(late=MINUTE / 2, **columns), made()
    one = ticker(ours)

    assert one.step()[0] == 1

    assert Job.objects.get().parent == good.id
    broken.refresh_from_db()
    assert why in broken.trouble
    assert 0 < one.step()[1] <= tick.LOOK_EVERY, "it is looked at again only after a while"
    Schedule.objects.filter(pk=broken.pk).update(
        timezone="UTC", cron="", every=MINUTE, task="tests.tasks.noop", options="{}",
        arguments='{"args":[],"kwargs":{}}',
    )  # fmt: skip
    assert step(ours) == 1, "another process, whose code fits, is not kept from it"
    broken.refresh_from_db()
    assert broken.trouble == ""


def test_of_two_who_saw_the_same_tick_one_writes(ours: Session, made: Callable[..., Schedule]) -> None:
    made()
    (row,) = (Waiting._make(row) for row in ours.glance(Query(tick.LOOK, (["tests.tasks.noop"], []))))
    decision = tick.decide(row, 60)
    first, second = move_on(row, decision), move_on(row, decision)

    assert [len(ours.run(first)), len(ours.run(second))] == [1, 0]
    assert Job.objects.count() == 1 and Schedule.objects.get().made == 1


@pytest.mark.parametrize("change", ["paused_at", "orphaned_at", "last_job", "next_at"])
def test_whatever_was_changed_since_it_was_looked_at_is_not_overrun(
    ours: Session, made: Callable[..., Schedule], change: str
) -> None:
    schedule = made()
    (row,) = (Waiting._make(row) for row in ours.glance(Query(tick.LOOK, (["tests.tasks.noop"], []))))
    query = move_on(row, tick.decide(row, 60))
    new = FinishedJobFactory().id if change == "last_job" else datetime.now(UTC) + MINUTE
    Schedule.objects.filter(pk=schedule.pk).update(**{change: new})

    assert ours.run(query) == []
    assert not Job.objects.exists() and Schedule.objects.get().made == 0


# Missed --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "late", "made_jobs", "counted"),
    [
        ("once", 0.0, 1, 0),
        ("once", 10.5, 1, 10),
        ("skip", 0.3, 1, 0),
        ("skip", 10.2, 1, 10),  # the last one is twelve seconds late
        ("all", 3.5, 4, 0),
        ("all", 10.5, 5, 6),  # the limit
    ],
)
def test_ticks_that_nobody_looked_at(
    ours: Session, made: Callable[..., Schedule], missed: str, late: float, made_jobs: int, counted: int
) -> None:
    schedule = made(late=late * MINUTE, missed=missed, missed_limit=5)

    assert step(ours, TICK_GRACE=30.0) == made_jobs

    before = schedule.next_at
    schedule.refresh_from_db()
    assert (schedule.made, schedule.missed_ticks) == (made_jobs, counted)
    assert (schedule.passed_at is not None) is (counted > 0)
    last = before + int(late) * MINUTE
    assert schedule.next_at == last + MINUTE, "the grid is kept"
    ends = {f"{last - n * MINUTE:%H:%M:%S} UTC" for n in range(made_jobs)}
    assert {job.origin.split(" due ")[1][11:] for job in Job.objects.all()} == ends, "the last ones"
    assert step(ours) == 0


def test_a_late_tick_is_given_up_where_missed_ones_are_skipped(ours: Session, made: Callable[..., Schedule]) -> None:
    schedule = made(late=MINUTE, every=timedelta(days=1), missed="skip")

    assert step(ours, TICK_GRACE=30.0) == 0

    before = schedule.next_at
    schedule.refresh_from_db()
    assert (schedule.made, schedule.missed_ticks, schedule.next_at) == (0, 1, before + timedelta(days=1))


# Overlap --------------------------------------------------------------------------------------------------------------


def a_job_is_alive(ours: Session, made: Callable[..., Schedule], **columns: Any) -> tuple[Schedule, Job]:
    """A schedule whose first tick has become a job that has not ended, and whose next one is due."""
    schedule = made(late=MINUTE / 2, **columns)
    assert step(ours) == 1
    back(schedule)
    return schedule, Job.objects.get()


def back(schedule: Schedule) -> None:
    """A minute passes."""
    schedule.refresh_from_db()
    Schedule.objects.filter(pk=schedule.pk).update(next_at=schedule.next_at - MINUTE, hold_until=None)


def test_allow_makes_one_beside_it(ours: Session, made: Callable[..., Schedule]) -> None:
    a_job_is_alive(ours, made)

    assert step(ours) == 1 and Job.objects.count() == 2


@pytest.mark.parametrize("state", ["ready", "running", "retrying"])
def test_skip_counts_and_makes_none_while_the_last_is_alive(
    ours: Session, made: Callable[..., Schedule], state: str
) -> None:
    schedule, job = a_job_is_alive(ours, made, overlap="skip")
    columns: dict[str, Any] = {"worker": 1, "claimer": 1} if state == "running" else {}
    Job.objects.filter(pk=job.pk).update(state=state, run_after=datetime.now(UTC), **columns)

    assert step(ours) == 0

    assert Job.objects.count() == 1
    before = schedule.next_at
    schedule.refresh_from_db()
    assert (schedule.made, schedule.skipped_ticks, schedule.missed_ticks) == (1, 1, 0)
    assert schedule.passed_at is not None and schedule.next_at == before
    Job.objects.all().delete()  # it has ended
    back(schedule)
    assert step(ours) == 1


def test_queue_waits_for_the_end(ours: Session, made: Callable[..., Schedule]) -> None:
    schedule, job = a_job_is_alive(ours, made, overlap="queue")

    made_jobs, _ = ticker(ours).step()

    assert made_jobs == 0
    before = Schedule.objects.get()
    assert before.hold_until is not None and before.skipped_ticks == 0
    _, wait = ticker(ours).step()
    assert 0 < wait <= 4, "looked at again soon, and not at once"
    job.delete()  # it has ended
    Schedule.objects.update(hold_until=None)
    assert step(ours) == 1
    schedule.refresh_from_db()
    assert (schedule.made, schedule.skipped_ticks, schedule.missed_ticks) == (2, 0, 0)


def test_queued_ticks_go_one_after_the_other(ours: Session, made: Callable[..., Schedule]) -> None:
    schedule = made(late=2.5 * MINUTE, overlap="queue", missed="all")
    seen = []
    for _ in range(3):
        assert step(ours) == 1
        assert step(ours) == 0, "the next one waits"
        job = Job.objects.get()
        seen.append(job.origin)
        job.delete()
        Schedule.objects.update(hold_until=None)

    assert step(ours) == 0 and seen == sorted(seen) and len(set(seen)) == 3
    schedule.refresh_from_db()
    assert (schedule.made, schedule.missed_ticks, schedule.skipped_ticks) == (3, 0, 0)


def test_missed_ticks_do_not_run_beside_one_another_where_that_is_skipped(
    ours: Session, made: Callable[..., Schedule]
) -> None:
    schedule = made(late=2.5 * MINUTE, overlap="skip", missed="all")

    assert step(ours) == 1

    schedule.refresh_from_db()
    assert (schedule.made, schedule.skipped_ticks) == (1, 2)


# How much it asks -----------------------------------------------------------------------------------------------------


def test_nothing_due_is_one_question_in_ten_seconds(ours: Session, made: Callable[..., Schedule]) -> None:
    made(late=-5 * MINUTE)
    asked: list[Any] = []
    one = ticker(ours)
    one.step()
    glance = ours.glance
    ours.glance = lambda query: asked.append(query) or glance(query)  # type: ignore[method-assign,func-returns-value]

    assert one.step() == (0, tick.LOOK_EVERY)

    assert len(asked) == 1


def test_it_wakes_for_the_next_tick(ours: Session, made: Callable[..., Schedule]) -> None:
    made(late=-timedelta(seconds=3))

    _, wait = ticker(ours).step()

    assert 2 < wait <= 3


def test_a_schedule_that_never_comes_again_is_left_alone(ours: Session, made: Callable[..., Schedule]) -> None:
    schedule = made()
    Schedule.objects.filter(pk=schedule.pk).update(next_at=None, hold_until=datetime.now(UTC) - MINUTE)

    assert ticker(ours).step() == (0, tick.LOOK_EVERY)


def test_tasks_are_the_ones_of_the_registry() -> None:
    assert tick.task_of("tests.tasks.noop", '{"priority":"low"}').priority == -50
    assert tick.task_of("tests.tasks.noop", "{}").func is tasks.noop.func
    with pytest.raises(ValueError, match=r"no task os\.system"):
        tick.task_of("os.system", "{}")
