"""Writing outcomes: fenced, whole, and harmless when repeated."""

from __future__ import annotations

import json
import logging
import random
import time
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.claim import Claimed
from jobs.execute import execute
from jobs.finish import finish, tell, written
from jobs.ids import new_id
from jobs.models import Attempt, FinishedJob, Job, JobColumns
from jobs.outcome import Happened, Outcome, Trouble
from outbox.session import Query, Session
from tests.factories import AttemptFactory, JobFactory, in_home
from tests.support.floor import (
    DEFAULTS,
    a_task,
    broken,
    claim,
    conclude,
    everything,
    fill,
    outcome,
    properties,
    value,
)
from tests.support.hostile import answers, errors, results

pytest_plugins = ["tests.support.ours"]

# Every way out of `running`: what happened, and the retry that follows a failure.
WAYS: dict[str, dict[str, Any]] = {
    "succeeded": {"happened": Happened.SUCCEEDED},
    "retrying": {"happened": Happened.FAILED, "retry_in": 5.0},
    "dead": {"happened": Happened.FAILED, "retry_in": None},
    "timed out": {"happened": Happened.TIMED_OUT, "retry_in": 5.0},
    "crashed": {"happened": Happened.CRASHED},
    "handed back": {"happened": Happened.HANDED_BACK},
    "unknown": {"happened": Happened.UNKNOWN},
}

every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


def a_running_job(session: Session, **fields: Any) -> Claimed:
    """A job that worker 1 has claimed as 11, with attempts left."""
    JobFactory(**{"max_attempts": 5, "attempts": 1, **fields})
    (job,) = claim(session, 1)
    return job


def near(moment: datetime | None, expected: datetime) -> bool:
    return moment is not None and abs(moment - expected) < timedelta(seconds=20)


# Where each way leads -----------------------------------------------------------------------------------------------


def test_a_success_moves_the_job_into_the_history(ours: Session) -> None:
    """Row P34, decided otherwise: what has succeeded is kept with its result."""
    job = a_running_job(ours, error="ValueError: earlier")

    assert conclude(ours, [outcome(job, "succeeded", result='{"b":1e+16,"a":-0.0}', started=time.monotonic() - 3)]) == {
        job.id
    }

    assert in_home(job.id) == ["jobs_finishedjob"]
    finished = FinishedJob.objects.get()
    assert (finished.state, finished.attempts, finished.lease) == ("succeeded", 2, 1)
    assert finished.result == '{"b":1e+16,"a":-0.0}'
    assert finished.error == ""
    assert near(finished.ended_at, timezone.now())
    assert finished.started_at is not None
    assert 2.9 < (finished.ended_at - finished.started_at).total_seconds() < 10
    assert not Attempt.objects.exists()


@pytest.mark.parametrize("way", ["succeeded", "dead"])
def test_the_history_has_every_column_of_the_job(ours: Session, way: str) -> None:
    now = timezone.now()
    job = JobFactory(
        queue="mail",
        priority=-7,
        source_name="checkout",
        arguments='{"args":[1e+16,-0.0],"kwargs":{"z":1,"a":"\u00e4"}}',
        max_attempts=4,
        attempts=2,
        crashes=1,
        lease=6,
        depth=3,
        parent=uuid4(),
        idempotency_key="order-7",
        enqueued_at=now - timedelta(days=2),
        run_after=now - timedelta(days=1),
        ready_at=now - timedelta(hours=1),
        error="earlier",
    )
    (claimed,) = claim(ours, 1, worker=2**40, lanes=[("mail", -100, 100)])
    columns = [field.name for field in JobColumns._meta.get_fields()]

    conclude(ours, [outcome(claimed, **WAYS[way])], worker=2**40)

    finished = FinishedJob.objects.get()
    changed = {"state": way, "attempts": 3, "lease": 7, "worker": 2**40}
    changed["error"] = "" if way == "succeeded" else "it failed"
    assert {name: getattr(finished, name) for name in columns} == {
        name: changed.get(name, getattr(job, name)) for name in columns
    }


def test_a_death_moves_the_job_into_the_history_with_its_last_attempt(ours: Session) -> None:
    job = a_running_job(ours)
    trouble = Trouble("ValueError: no", "Traceback: no")

    conclude(ours, [outcome(job, "failed", trouble=trouble, retry_in=None, started=time.monotonic() - 2)])

    assert in_home(job.id) == ["jobs_finishedjob"]
    finished, attempt = FinishedJob.objects.get(), Attempt.objects.get()
    assert (finished.state, finished.attempts, finished.error, finished.result) == ("dead", 2, "ValueError: no", None)
    assert (attempt.job, attempt.lease, attempt.number, attempt.kind) == (job.id, 1, 2, "failed")
    assert (attempt.error, attempt.traceback, attempt.worker) == ("ValueError: no", "Traceback: no", 1)
    assert attempt.started_at is not None
    assert 1.9 < (attempt.ended_at - attempt.started_at).total_seconds() < 10


def test_a_failure_with_attempts_left_waits_for_its_retry(ours: Session) -> None:
    job = a_running_job(ours)

    conclude(ours, [outcome(job, "failed", retry_in=90.5)])

    row, attempt = Job.objects.get(), Attempt.objects.get()
    assert (row.state, row.attempts, row.crashes, row.lease, row.error) == ("retrying", 2, 0, 1, "it failed")
    assert (row.worker, row.claimer, row.claimed_at) == (None, None, None)
    assert near(row.run_after, timezone.now() + timedelta(seconds=90.5))
    assert (attempt.kind, attempt.number, attempt.worker) == ("failed", 2, 1)


def test_a_crash_goes_back_to_its_place_and_is_counted(ours: Session) -> None:
    job = a_running_job(ours)

    conclude(ours, [outcome(job, "crashed")])

    row, attempt = Job.objects.get(), Attempt.objects.get()
    assert (row.state, row.attempts, row.crashes, row.lease) == ("ready", 1, 1, 1)
    assert row.ready_at == job.ready_at
    assert (attempt.kind, attempt.number) == ("crashed", 2)


def test_what_is_handed_back_is_as_if_it_had_never_been_claimed(ours: Session) -> None:
    before = JobFactory(error="ValueError: earlier", run_after=timezone.now() - timedelta(hours=2), attempts=1)
    (job,) = claim(ours, 1)

    conclude(ours, [outcome(job, "handed_back")])

    after = Job.objects.get()
    for field in Job._meta.get_fields():
        if field.name != "lease":
            assert getattr(after, field.name) == getattr(before, field.name), field.name
    assert after.lease == 1
    assert not Attempt.objects.exists()


def test_a_job_of_an_unknown_task_waits_and_spends_nothing(ours: Session) -> None:
    job = a_running_job(ours)

    conclude(ours, [outcome(job, "unknown", trouble=Trouble("nobody knows it"))])

    row = Job.objects.get()
    assert (row.state, row.attempts, row.crashes, row.error) == ("scheduled", 1, 0, "nobody knows it")
    assert near(row.run_after, timezone.now() + timedelta(seconds=5))
    assert not Attempt.objects.exists()


def test_an_error_of_an_earlier_attempt_is_kept_until_there_is_a_newer_one(ours: Session) -> None:
    job = a_running_job(ours, error="ValueError: earlier")

    conclude(ours, [outcome(job, "handed_back")])
    (job,) = claim(ours, 1)
    conclude(ours, [outcome(job, "failed", trouble=Trouble("ValueError: later"), retry_in=0.0)])

    assert Job.objects.get().error == "ValueError: later"


def test_a_start_that_nobody_knows_is_left_empty(ours: Session) -> None:
    first, second = a_running_job(ours), a_running_job(ours)

    conclude(ours, [outcome(first, "failed", retry_in=None), outcome(second, "lost")])

    assert FinishedJob.objects.get().started_at is None
    assert Attempt.objects.get(job=second.id).started_at is None


def test_a_note_about_a_success_is_kept(ours: Session) -> None:
    job = a_running_job(ours)

    conclude(ours, [outcome(job, "succeeded", result=None, trouble=Trouble("its result was not kept: too large"))])

    finished = FinishedJob.objects.get()
    assert (finished.result, finished.error) == (None, "its result was not kept: too large")


# The fence ----------------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("wrong", [{"lease": 0}, {"lease": 2}, {"claimer": 12}, {"claimer": -11}, {"id": uuid4()}])
def test_an_outcome_with_a_wrong_lease_or_claimer_changes_nothing(
    ours: Session, way: dict[str, Any], wrong: dict[str, Any]
) -> None:
    job = a_running_job(ours)
    before = everything(ours)

    assert conclude(ours, [outcome(job, **way)._replace(**wrong)]) == set()
    assert everything(ours) == before


@every_way
@pytest.mark.parametrize("since", WAYS.values(), ids=WAYS.keys())
def test_an_outcome_of_a_job_that_is_not_running_changes_nothing(
    ours: Session, way: dict[str, Any], since: dict[str, Any]
) -> None:
    job = a_running_job(ours)
    conclude(ours, [outcome(job, **since)])
    before = everything(ours)

    assert conclude(ours, [outcome(job, **way)]) == set()
    assert everything(ours) == before


@every_way
def test_a_zombie_cannot_write_after_another_has_claimed_its_job(ours: Session, way: dict[str, Any]) -> None:
    stale = a_running_job(ours)
    conclude(ours, [outcome(stale, "handed_back")])
    (fresh,) = claim(ours, 1, worker=2, claimer=22)
    before = everything(ours)

    assert conclude(ours, [outcome(stale, **way)]) == set()
    assert everything(ours) == before
    assert conclude(ours, [outcome(fresh, "succeeded")], worker=2) == {fresh.id}


@every_way
def test_a_zombie_cannot_write_after_it_has_claimed_its_own_job_again(ours: Session, way: dict[str, Any]) -> None:
    stale = a_running_job(ours)
    conclude(ours, [outcome(stale, "handed_back")])
    (fresh,) = claim(ours, 1)
    before = everything(ours)

    assert fresh.claimer == stale.claimer
    assert conclude(ours, [outcome(stale, **way)]) == set()
    assert everything(ours) == before


@every_way
def test_a_zombie_cannot_write_after_the_job_has_ended(ours: Session, way: dict[str, Any]) -> None:
    stale = a_running_job(ours)
    conclude(ours, [outcome(stale, "lost")])
    (fresh,) = claim(ours, 1, worker=2, claimer=22)
    conclude(ours, [outcome(fresh, "succeeded", result='"fresh"')], worker=2)
    before = everything(ours)

    assert conclude(ours, [outcome(stale, **way)]) == set()
    assert everything(ours) == before


# Repeating ----------------------------------------------------------------------------------------------------------


@every_way
def test_the_same_write_twice_is_the_same_as_once(ours: Session, way: dict[str, Any]) -> None:
    job = a_running_job(ours)
    queries = finish([outcome(job, **way)], 1)

    first = written(ours.run_all(queries))
    after_one = everything(ours)
    second = written(ours.run_all(queries))

    assert (first, second) == ({job.id}, set())
    assert everything(ours) == after_one


@every_way
def test_the_same_outcome_twice_in_one_batch_is_written_once(ours: Session, way: dict[str, Any]) -> None:
    job = a_running_job(ours)

    assert conclude(ours, [outcome(job, **way)] * 2) == {job.id}

    assert len(in_home(job.id)) == 1
    assert Attempt.objects.count() <= 1


@pytest.mark.parametrize("way", ["retrying", "dead", "timed out", "crashed"])
def test_an_attempt_that_is_already_noted_does_not_stop_the_write(ours: Session, way: str) -> None:
    job = a_running_job(ours)
    AttemptFactory(job=job.id, lease=job.lease, error="noted before")

    assert conclude(ours, [outcome(job, **WAYS[way])]) == {job.id}

    assert Attempt.objects.get().error == "noted before"
    assert Job.objects.filter(state="running").count() == 0


# Batches ------------------------------------------------------------------------------------------------------------


def test_a_batch_of_everything_at_once(ours: Session) -> None:
    chosen = random.Random(2)
    fill(ours, 400)
    jobs = claim(ours, 400)
    stale = set(chosen.sample([job.id for job in jobs], 60))
    drawn = {job.id: chosen.choice(list(WAYS)) for job in jobs}
    outcomes = [outcome(job, **WAYS[drawn[job.id]])._replace(lease=job.lease + (job.id in stale)) for job in jobs]
    chosen.shuffle(outcomes)

    ids = conclude(ours, outcomes)

    assert ids == {job.id for job in jobs} - stale
    states = dict(ours.glance(Query("SELECT id, state FROM jobs_job")))
    states |= dict(ours.glance(Query("SELECT id, state FROM jobs_finishedjob")))
    leads_to = {"timed out": "retrying", "crashed": "ready", "handed back": "ready", "unknown": "scheduled"}
    assert states == {id_: "running" if id_ in stale else leads_to.get(way, way) for id_, way in drawn.items()}
    noted = {id_ for id_, way in drawn.items() if way in ("retrying", "dead", "timed out", "crashed")} - stale
    assert set(Attempt.objects.values_list("job", flat=True)) == noted
    assert broken(ours) == []


def test_nothing_to_write_is_no_query() -> None:
    assert finish([], 1) == []


def test_a_batch_is_written_whole_or_not_at_all(ours: Session) -> None:
    """One outcome that cannot be stored takes the others' writes back; the pump then writes each alone."""
    good, bad = a_running_job(ours), a_running_job(ours)
    before = everything(ours)

    with pytest.raises(Exception, match="NUL"):
        conclude(ours, [outcome(good, "succeeded"), outcome(bad, "failed", trouble=Trouble("a\x00b"))])

    assert everything(ours) == before


# Whatever a task does -----------------------------------------------------------------------------------------------


def run_once(session: Session, func: Any, **options: Any) -> UUID:
    """Enqueued, claimed, executed and written by a slot's code."""
    session.run(Query("DELETE FROM jobs_job"), durable=False)
    job_id = new_id()
    JobFactory(id=job_id, max_attempts=2)
    (job,) = claim(session, 1)
    done = execute(job, a_task(func, **options), DEFAULTS, time.monotonic())
    assert conclude(session, [done]) == {job_id}
    return job_id


@settings(properties, max_examples=60)
@given(results)
def test_whatever_a_task_returns_is_written(ours: Session, result: Any) -> None:
    job_id = run_once(ours, lambda: result)

    finished = FinishedJob.objects.get(pk=job_id)
    assert finished.state == "succeeded" or finished.error.startswith("jobs.errors.InvalidResult: ")
    assert (finished.result is None) == bool(finished.error)
    if finished.result is not None:
        json.loads(finished.result)


@settings(properties, max_examples=60)
@given(errors)
def test_whatever_a_task_raises_is_written(ours: Session, error: BaseException) -> None:
    def fail() -> None:
        raise error

    job_id = run_once(ours, fail)

    assert Job.objects.get(pk=job_id).state == "retrying"
    assert Attempt.objects.get(job=job_id).kind == "failed"


@settings(properties, max_examples=60)
@given(answers)
def test_whatever_a_backoff_function_answers_is_written(ours: Session, answer: Any) -> None:
    def fail() -> None:
        raise ValueError

    job_id = run_once(ours, fail, backoff=lambda *_: answer)

    # Read by Django too: a year over 9999 is one that nobody can look at.
    row = Job.objects.filter(pk=job_id).first() or FinishedJob.objects.get(pk=job_id)
    assert row.state in ("retrying", "dead")


@settings(properties, max_examples=30)
@given(st.text(st.characters(), max_size=3000), st.text(st.characters(), max_size=30))
def test_whatever_an_error_says_is_written(ours: Session, message: str, note: str) -> None:
    def fail() -> None:
        error = OSError(message)
        error.add_note(note)
        raise error

    job_id = run_once(ours, fail)

    assert len(Job.objects.get(pk=job_id).error) <= 2000


# The log ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "level", "says"),
    [
        ("succeeded", logging.INFO, "attempt 2 succeeded"),
        ("retrying", logging.WARNING, "attempt 2 retrying, again in 5.0 s: it failed"),
        ("dead", logging.ERROR, "attempt 2 dead: it failed"),
        ("handed back", logging.DEBUG, "attempt 2 handed back"),
        ("unknown", logging.WARNING, "attempt 2 scheduled, again in 5.0 s"),
    ],
)
def test_each_outcome_is_one_line_in_the_log(
    ours: Session, caplog: pytest.LogCaptureFixture, way: str, level: int, says: str
) -> None:
    """Rows P32 and P73: a failure is one line with its attempt."""
    job = a_running_job(ours)

    with caplog.at_level(logging.DEBUG, "jobs"):
        tell([outcome(job, **WAYS[way])], {job.id})

    (record,) = caplog.records
    assert record.levelno == level
    assert says in record.getMessage()
    assert str(job.id) in record.getMessage() and job.task in record.getMessage()


@pytest.mark.parametrize(("doubtful", "level"), [(False, logging.WARNING), (True, logging.DEBUG)])
def test_a_stale_outcome_is_logged_and_after_a_lost_connection_only_whispered(
    ours: Session, caplog: pytest.LogCaptureFixture, doubtful: bool, level: int
) -> None:
    stale: Outcome = outcome(a_running_job(ours), "succeeded")

    with caplog.at_level(logging.DEBUG, "jobs"):
        tell([stale], set(), doubtful=doubtful)

    (record,) = caplog.records
    assert record.levelno == level
    assert "no longer ours" in record.getMessage()


def test_a_year_of_history_is_read_by_django(ours: Session) -> None:
    job = a_running_job(ours)

    conclude(ours, [outcome(job, "failed", retry_in=timedelta(days=3650).total_seconds())])

    assert Job.objects.get().run_after > timezone.now() + timedelta(days=3600)
    assert value(ours, "SELECT count(*) FROM jobs_job") == 1
