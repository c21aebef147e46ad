"""Retention: what has been kept long enough goes, a bounded step at a time."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from jobs.conf import JobsSettings
from jobs.models import Attempt, FinishedJob, Job, Key
from jobs.prune import BATCH, prune
from outbox.session import Query, Session
from tests.factories import AttemptFactory, FinishedJobFactory, JobFactory, KeyFactory
from tests.support.floor import everything, value
from tests.support.locks import named, open_transaction

pytest_plugins = ["tests.support.ours"]

DAY = timedelta(days=1)
KEEP = JobsSettings(KEEP_SUCCEEDED=7 * DAY, KEEP_DEAD=90 * DAY)

MANY = """INSERT INTO jobs_finishedjob (id, task, queue, priority, state, source_name, arguments, max_attempts,
  attempts, crashes, lease, depth, idempotency_key, enqueued_at, error, ended_at)
SELECT gen_random_uuid(), 't', 'default', 0, %s, '', '', 1, 1, 0, 1, 0, '', now(), '', now() - %s
FROM generate_series(1, %s)"""


def ended(days: float, state: str = "succeeded") -> UUID:
    """A job that ended so many days ago."""
    return FinishedJobFactory(state=state, ended_at=timezone.now() - timedelta(days=days)).id


def many(session: Session, n: int, days: float, state: str = "succeeded") -> None:
    session.run(Query(MANY, (state, timedelta(days=days), n)), durable=False)


def kept() -> set[UUID]:
    return set(FinishedJob.objects.values_list("id", flat=True))


@pytest.mark.parametrize(
    ("state", "days", "goes"),
    [
        ("succeeded", 6.9, False),
        ("succeeded", 7.1, True),
        ("dead", 7.1, False),
        ("dead", 89.9, False),
        ("dead", 90.1, True),
        ("cancelled", 89.9, False),
        ("cancelled", 90.1, True),
    ],
)
def test_each_end_is_kept_for_its_time(ours: Session, state: str, days: float, goes: bool) -> None:
    job = ended(days, state)

    assert prune(ours, KEEP) == int(goes)
    assert kept() == (set() if goes else {job})


@pytest.mark.parametrize("state", ["succeeded", "dead", "cancelled"])
def test_none_keeps_for_ever(ours: Session, state: str) -> None:
    job = ended(50_000, state)

    assert prune(ours, JobsSettings(KEEP_SUCCEEDED=None, KEEP_DEAD=None)) == 0
    assert kept() == {job}


def test_keeping_nothing_is_possible(ours: Session) -> None:
    ended(0.001)
    ended(0.001, "dead")

    assert prune(ours, JobsSettings(KEEP_SUCCEEDED=timedelta(0), KEEP_DEAD=timedelta(0))) == 2


def test_attempts_go_with_their_job_and_others_stay(ours: Session) -> None:
    gone, stays, alive = ended(100, "dead"), ended(1, "dead"), JobFactory(retrying=True).id
    for job in (gone, stays, alive):
        AttemptFactory(job=job, lease=1)
        AttemptFactory(job=job, lease=2)

    assert prune(ours, KEEP) == 1

    assert set(Attempt.objects.values_list("job", flat=True)) == {stays, alive}
    assert Attempt.objects.count() == 4


def test_one_step_is_bounded_and_the_eldest_go_first(ours: Session) -> None:
    many(ours, BATCH, 100)
    young = [ended(8), ended(9)]

    assert prune(ours, KEEP) == BATCH
    assert kept() == set(young)
    assert prune(ours, KEEP) == 2
    assert prune(ours, KEEP) == 0


def test_each_kind_has_its_own_bound(ours: Session) -> None:
    many(ours, BATCH + 5, 100)
    many(ours, BATCH + 7, 100, "dead")

    assert [prune(ours, KEEP) for _ in range(3)] == [2 * BATCH, 12, 0]


def test_living_jobs_are_never_touched(ours: Session) -> None:
    for state in ("running", "scheduled", "retrying"):
        JobFactory(**{state: True}, enqueued_at=timezone.now() - 9999 * DAY)
    JobFactory(enqueued_at=timezone.now() - 9999 * DAY)
    before = everything(ours)

    assert prune(ours, JobsSettings(KEEP_SUCCEEDED=timedelta(0), KEEP_DEAD=timedelta(0))) == 0
    assert everything(ours) == before


@pytest.mark.postgresql("two transactions that write are open at once")
def test_two_that_prune_do_not_wait_for_one_another(ours: Session) -> None:
    held, free = ended(100), ended(100)

    with open_transaction("other") as other:
        other.run(Query("SELECT 1 FROM jobs_finishedjob WHERE id = %s FOR UPDATE", (held,)))
        assert prune(named("impatient", patience=2), KEEP) == 1

    assert kept() == {held}
    assert free not in kept()


# Keys ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "goes"), [(-1, False), (1, True), (None, False)], ids=["in a day", "a day ago", "never"]
)
def test_a_key_goes_when_it_has_expired(ours: Session, days: float | None, goes: bool) -> None:
    KeyFactory(expires_at=None if days is None else timezone.now() - timedelta(days=days))

    assert prune(ours, KEEP) == int(goes)
    assert Key.objects.count() == int(not goes)


def test_a_key_outlives_its_job_however_old_it_is(ours: Session) -> None:
    """Else the same key would make a second job while the first is still there."""
    living = [JobFactory(retrying=True).id, JobFactory().id, JobFactory(running=True).id]
    for job in (*living, ended(1), ended(50, "dead")):
        KeyFactory(id=job, expires_at=timezone.now() - 500 * DAY)

    assert prune(ours, KEEP) == 0
    assert Key.objects.count() == 5


def test_a_key_follows_when_its_job_has_gone(ours: Session) -> None:
    job = ended(8)
    KeyFactory(id=job, expires_at=timezone.now() - DAY)

    assert prune(ours, KEEP) == 2
    assert not Key.objects.exists() and not FinishedJob.objects.exists()


def test_a_pruned_job_leaves_its_key_until_that_expires(ours: Session) -> None:
    job = ended(8)
    KeyFactory(id=job, expires_at=timezone.now() + DAY)

    assert prune(ours, KEEP) == 1
    assert list(Key.objects.values_list("id", flat=True)) == [job]


def test_keys_go_a_bounded_step_at_a_time(ours: Session) -> None:
    insert = """INSERT INTO jobs_key (id, task, key, expires_at)
        SELECT gen_random_uuid(), 't', n::text, now() - interval '1 day' FROM generate_series(1, %s) AS n"""
    ours.run(Query(insert, (BATCH + 3,)), durable=False)

    assert [prune(ours, KEEP) for _ in range(3)] == [BATCH, 3, 0]


def test_nothing_to_prune_is_nothing_done(ours: Session) -> None:
    ended(1)
    JobFactory()
    before = everything(ours)

    assert prune(ours, KEEP) == 0
    assert everything(ours) == before
    assert value(ours, "SELECT count(*) FROM jobs_finishedjob") == 1
    assert Job.objects.count() == 1
