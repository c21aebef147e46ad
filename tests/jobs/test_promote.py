"""Turning over what is due."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from jobs.models import Job
from jobs.promote import promote
from outbox.session import Query, Session
from tests.factories import JobFactory
from tests.support.floor import claim, everything, fill, value
from tests.support.locks import named, open_transaction, together

pytest_plugins = ["tests.support.ours"]


def turn_over(session: Session, limit: int = 1000) -> tuple[int, float | None]:
    """How many became ready, and the seconds until the next is due."""
    turned, due = session.run_all(promote(limit), durable=False)
    return len(turned), due[0][0] if due else None


def due(state: str = "scheduled", *, seconds: float = 1.0) -> UUID:
    """A job that was due so many seconds ago."""
    return JobFactory(**{state: True}, run_after=timezone.now() - timedelta(seconds=seconds)).id


def make_due(session: Session) -> None:
    session.run(Query("UPDATE jobs_job SET run_after = clock_timestamp() - interval '1 second'"), durable=False)


@pytest.mark.parametrize("state", ["scheduled", "retrying"])
def test_what_is_due_becomes_ready_and_can_be_claimed(ours: Session, state: str) -> None:
    job = due(state)

    assert turn_over(ours) == (1, None)

    assert Job.objects.get().state == "ready"
    assert [claimed.id for claimed in claim(ours)] == [job]


def test_what_is_not_due_stays(ours: Session) -> None:
    """Row P24: any number may wait for the future."""
    fill(ours, 3, "scheduled")
    fill(ours, 3, "retrying")
    fill(ours, 3, "running")
    fill(ours, 3, "ready")
    before = everything(ours)

    turned, next_due = turn_over(ours)

    assert turned == 0
    assert next_due is not None and 3500 < next_due <= 3600
    assert everything(ours) == before


def test_only_state_and_ready_at_change(ours: Session) -> None:
    before = JobFactory(
        retrying=True, run_after=timezone.now() - timedelta(hours=1), attempts=2, crashes=1, lease=7, error="no"
    )

    turn_over(ours)

    after = Job.objects.get()
    names = [field.name for field in Job._meta.get_fields()]
    changed = {name for name in names if getattr(after, name) != getattr(before, name)}
    assert changed == {"state", "ready_at"}
    assert after.ready_at is not None
    assert abs(after.ready_at - timezone.now()) < timedelta(seconds=20)


def test_it_joins_the_end_of_its_queue(ours: Session) -> None:
    late = due(seconds=3600)
    (waiting,) = fill(ours, 1)

    turn_over(ours)

    assert [job.id for job in claim(ours)] == [waiting, late]


def test_one_step_turns_over_at_most_its_limit_and_the_eldest_first(ours: Session) -> None:
    jobs = [due(seconds=seconds) for seconds in (5, 900, 40, 7000, 1)]

    assert turn_over(ours, 2)[0] == 2

    assert set(Job.objects.filter(state="ready").values_list("id", flat=True)) == {jobs[3], jobs[1]}
    assert [turn_over(ours, 2)[0] for _ in range(3)] == [2, 1, 0]


def test_what_is_due_together_keeps_the_order_in_which_it_was_due(ours: Session) -> None:
    jobs = [due(seconds=seconds) for seconds in (1, 2, 3, 4, 5)]

    turn_over(ours)

    assert [job.id for job in claim(ours)] == jobs[::-1]


def test_it_says_when_the_next_is_due(ours: Session) -> None:
    due(seconds=-500)
    due("retrying", seconds=-30)

    turned, next_due = turn_over(ours)

    assert turned == 0
    assert next_due is not None and 20 < next_due <= 30


def test_more_than_the_limit_leaves_some_overdue(ours: Session) -> None:
    due()
    due()

    _, next_due = turn_over(ours, 1)

    assert next_due is not None and next_due < 0


def test_the_clock_of_the_database_decides(ours: Session) -> None:
    """Due by the millisecond: not before its time, and at the next look after it."""
    (job,) = fill(ours, 1, "scheduled")
    ours.glance(Query("UPDATE jobs_job SET run_after = clock_timestamp() + interval '60 ms'"))

    first = turn_over(ours)
    ours.glance(Query("SELECT pg_sleep(0.07)"))
    second = turn_over(ours)

    assert first[0] == 0
    assert second == (1, None)
    assert claim(ours)[0].id == job


@pytest.mark.postgresql("two transactions that write are open at once")
def test_a_row_that_somebody_holds_is_passed_over_at_once(ours: Session) -> None:
    held = due(seconds=10)
    free = due(seconds=1)

    with open_transaction("holder") as holder:
        holder.run(Query("SELECT 1 FROM jobs_job WHERE id = %s FOR UPDATE", (held,)))
        turned, _ = turn_over(named("impatient", patience=2))

    assert turned == 1
    assert list(Job.objects.filter(state="ready").values_list("id", flat=True)) == [free]
    assert turn_over(ours)[0] == 1


def test_promoters_at_the_same_time_turn_each_job_over_once(ours: Session) -> None:
    fill(ours, 2000, "scheduled")
    make_due(ours)

    def work(n: int) -> int:
        session = named(f"promoter-{n}")
        turned = 0
        while step := turn_over(session, 37)[0]:
            turned += step
        return turned

    turned = sum(together(*(lambda n=n: work(n) for n in range(4))))

    assert turned + turn_over(ours, 5000)[0] == 2000
    assert value(ours, "SELECT count(*) FROM jobs_job WHERE state = 'ready'") == 2000


def test_with_nothing_at_all_there_is_nothing_next(ours: Session) -> None:
    assert turn_over(ours) == (0, None)
