"""Taking back the jobs of whoever is gone, and of nobody else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from jobs import declare, rescue
from jobs.conf import JobsSettings
from jobs.context import JobContext
from jobs.errors import GiveUp, TimedOut
from jobs.models import Attempt, FinishedJob, Job, Worker
from jobs.notebook import notebook
from jobs.outcome import Happened
from jobs.rescue import Watch, carry_out, end_sessions, hand_back_left_over
from jobs.verdict import Fated
from outbox.session import Query, Session
from tests.factories import JobFactory, WorkerFactory, in_home
from tests.support.floor import a_claimed, a_task, broken, claim, column, conclude, everything, fill, outcome, value
from tests.support.locks import Open, meanwhile, named, open_transaction, wait_until_blocked
from tests.support.wait import wait_until

pytest_plugins = ["tests.support.ours"]

SETTINGS = JobsSettings(DEAD_AFTER=15, HEARTBEAT=3, BACKOFF_JITTER=0)

ME = 10**9
"""The number of the worker that acts; the others have theirs from the sequence."""

LONG_ENOUGH = 2.1 * SETTINGS.HEARTBEAT
"""Seconds after which a heartbeat that has not changed is the last one."""


class Clock:
    """The monotonic clock of the worker that watches."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(rescue, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


def a_worker(*, silent_for: float = 0.0) -> int:
    """Another worker whose last heartbeat is so many seconds old."""
    return WorkerFactory(name="there:9", heartbeat_at=timezone.now() - timedelta(seconds=silent_for)).id


def beat(worker: int, *, ago: float = 0.0) -> None:
    Worker.objects.filter(pk=worker).update(heartbeat_at=timezone.now() - timedelta(seconds=ago))


def running(worker: int, **fields: Any) -> Job:
    return JobFactory(**{"running": True, "worker": worker, "max_attempts": 3, **fields})


# A worker that fell silent ------------------------------------------------------------------------------------------


def test_a_worker_is_dead_when_it_is_silent_and_was_seen_so_for_a_while(ours: Session, clock: Clock) -> None:
    gone = a_worker(silent_for=20)
    job = running(gone)
    watch = Watch()

    first = watch.look(ours, ME, SETTINGS)
    clock.now += 5.9
    second = watch.look(ours, ME, SETTINGS)
    clock.now += 0.2
    third = watch.look(ours, ME, SETTINGS)

    assert (first, second, third) == ([], [], ["there:9"])
    assert not Worker.objects.exists()
    job.refresh_from_db()
    assert (job.state, job.attempts, job.crashes, job.lease) == ("ready", 0, 1, 1)


def test_one_look_buries_nobody_however_old_the_heartbeat(ours: Session, clock: Clock) -> None:
    job = running(a_worker(silent_for=10_000_000))

    assert Watch().look(ours, ME, SETTINGS) == []
    job.refresh_from_db()
    assert job.state == "running"


def test_a_worker_that_beats_between_two_looks_lives(ours: Session, clock: Clock) -> None:
    worker = a_worker(silent_for=20)
    watch = Watch()

    for _ in range(10):
        assert watch.look(ours, ME, SETTINGS) == []
        clock.now += LONG_ENOUGH
        beat(worker, ago=16)

    assert Worker.objects.count() == 1


def test_a_jump_of_the_databases_clock_kills_nobody(ours: Session, clock: Clock) -> None:
    """All heartbeats look an hour old from one look to the next; their workers beat on."""
    workers = [a_worker() for _ in range(3)]
    jobs = [running(worker) for worker in workers]
    watch = Watch()

    watch.look(ours, ME, SETTINGS)
    for worker in workers:
        beat(worker, ago=3600)
    clock.now += LONG_ENOUGH
    at_the_jump = watch.look(ours, ME, SETTINGS)
    for worker in workers:
        beat(worker)
    clock.now += LONG_ENOUGH
    after = watch.look(ours, ME, SETTINGS)

    assert at_the_jump == after == []
    assert Job.objects.filter(state="running").count() == len(jobs)


def test_a_silent_stretch_that_was_interrupted_counts_from_anew(ours: Session, clock: Clock) -> None:
    worker = a_worker(silent_for=20)
    watch = Watch()

    watch.look(ours, ME, SETTINGS)
    clock.now += 5
    beat(worker)
    watch.look(ours, ME, SETTINGS)
    beat(worker, ago=20)
    clock.now += 5
    watch.look(ours, ME, SETTINGS)
    clock.now += 5

    assert watch.look(ours, ME, SETTINGS) == []


def test_a_worker_with_a_young_heartbeat_is_not_even_watched(ours: Session, clock: Clock) -> None:
    a_worker(silent_for=14)
    watch = Watch()

    for _ in range(5):
        assert watch.look(ours, ME, SETTINGS) == []
        clock.now += 100


def test_a_worker_never_buries_itself(ours: Session, clock: Clock) -> None:
    me = a_worker(silent_for=1000)
    job = running(me)
    watch = Watch()

    for _ in range(3):
        assert watch.look(ours, me, SETTINGS) == []
        clock.now += 100

    job.refresh_from_db()
    assert job.state == "running"


@pytest.mark.postgresql("two transactions that write are open at once")
def test_a_worker_that_beats_just_before_it_is_buried_stays(ours: Session, clock: Clock) -> None:
    """The heartbeat that was read is the guard of the burial."""
    worker = a_worker(silent_for=20)
    job = running(worker)
    watch = Watch()
    watch.look(ours, ME, SETTINGS)
    clock.now += LONG_ENOUGH

    with open_transaction("the worker") as its:
        its.run(Query("UPDATE jobs_worker SET heartbeat_at = clock_timestamp() WHERE id = %s", (worker,)))
        with meanwhile(watch.look, named("watching"), ME, SETTINGS) as buried:
            wait_until_blocked("watching")
            its.commit()
            assert buried.result() == []

    assert Worker.objects.count() == 1
    job.refresh_from_db()
    assert job.state == "running"


def test_two_that_watch_bury_a_worker_once_and_charge_its_jobs_once(ours: Session, clock: Clock) -> None:
    gone = a_worker(silent_for=20)
    for _ in range(20):
        running(gone)
    watches = [Watch(), Watch()]
    for watch in watches:
        watch.look(ours, ME, SETTINGS)
    clock.now += LONG_ENOUGH

    with meanwhile(watches[0].look, named("one"), ME, SETTINGS) as one:
        other = watches[1].look(named("other"), ME + 1, SETTINGS)
        buried = one.result() + other

    assert buried == ["there:9"]
    assert list(Job.objects.values_list("crashes", "lease", "state").distinct()) == [(1, 1, "ready")]
    assert Attempt.objects.count() == 20


def test_the_jobs_of_other_workers_are_left_alone(ours: Session, clock: Clock) -> None:
    gone, alive = a_worker(silent_for=20), a_worker()
    theirs, mine = running(alive), running(alive, claimer=12)
    running(gone)
    watch = Watch()

    watch.look(ours, ME, SETTINGS)
    clock.now += LONG_ENOUGH
    watch.look(ours, ME, SETTINGS)

    assert set(Job.objects.filter(state="running").values_list("id", flat=True)) == {theirs.id, mine.id}


# What becomes of its jobs -------------------------------------------------------------------------------------------


def bury(session: Session, clock: Clock, worker: int) -> None:
    beat(worker, ago=100)
    watch = Watch()
    watch.look(session, ME, SETTINGS)
    clock.now += LONG_ENOUGH
    assert watch.look(session, ME, SETTINGS)


def test_every_job_of_a_lost_worker_gets_a_crash_and_an_attempt_row(ours: Session, clock: Clock) -> None:
    gone = a_worker()
    jobs = [running(gone, crashes=crashes, attempts=1, lease=4, claimer=n) for n, crashes in enumerate((0, 1, 2))]

    bury(ours, clock, gone)

    assert [in_home(job.id)[0] for job in jobs] == ["jobs_job", "jobs_job", "jobs_finishedjob"]
    assert sorted(Job.objects.values_list("state", "attempts", "crashes", "lease")) == [
        ("ready", 1, 1, 4),
        ("ready", 1, 2, 4),
    ]
    dead = FinishedJob.objects.get()
    assert (dead.state, dead.attempts, dead.crashes, dead.lease, dead.worker) == ("dead", 1, 3, 4, gone)
    assert dead.error == f"its worker ({gone}) was lost"
    attempts = list(Attempt.objects.values_list("kind", "worker", "lease", "number", "started_at").distinct())
    assert attempts == [("lost", gone, 4, 2, None)]
    assert Attempt.objects.count() == 3


def test_a_job_that_kills_three_workers_is_dead(ours: Session, clock: Clock) -> None:
    (job,) = fill(ours, 1)
    states = []

    for _ in range(3):
        worker = a_worker()
        claim(ours, 1, worker=worker)
        bury(ours, clock, worker)
        states += in_home(job)

    assert states == ["jobs_job", "jobs_job", "jobs_finishedjob"]
    assert FinishedJob.objects.get().crashes == 3
    assert Attempt.objects.filter(kind="lost").count() == 3


def test_more_jobs_than_fit_into_one_step_are_all_taken_back(ours: Session, clock: Clock) -> None:
    gone = a_worker()
    fill(ours, rescue.BATCH * 2 + 3, "running", worker=gone)

    bury(ours, clock, gone)

    assert value(ours, "SELECT count(*) FROM jobs_job WHERE state = 'ready' AND crashes = 1") == rescue.BATCH * 2 + 3


def test_jobs_of_a_worker_that_has_no_row_are_taken_back_at_once(ours: Session, clock: Clock) -> None:
    """Buried by somebody who died before taking its jobs back."""
    job = running(4711)

    assert Watch().look(ours, ME, SETTINGS) == []

    job.refresh_from_db()
    assert (job.state, job.crashes, job.error) == ("ready", 1, "its worker (4711) was lost")


def test_a_zombie_worker_changes_nothing_after_its_burial(ours: Session, clock: Clock) -> None:
    gone = a_worker()
    fill(ours, 5)
    jobs = claim(ours, 5, worker=gone)
    bury(ours, clock, gone)
    before = everything(ours)

    for happened in ("succeeded", "failed", "timed_out", "crashed", "handed_back", "unknown"):
        assert conclude(ours, [outcome(job, happened) for job in jobs], worker=gone) == set()

    assert everything(ours) == before


def test_a_burial_is_in_the_log(ours: Session, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    gone = a_worker()

    with caplog.at_level(logging.WARNING, "jobs"):
        bury(ours, clock, gone)

    assert [record.getMessage() for record in caplog.records] == [
        f"worker {gone} (there:9) is gone; taking its jobs back"
    ]


# Left over: this worker's rows that no slot has ---------------------------------------------------------------------


def test_what_no_slot_has_is_handed_back_uncharged(ours: Session) -> None:
    job = running(ME, claimer=99, attempts=1, crashes=1, lease=3)

    assert hand_back_left_over(ours, [11, 12], [], ME, SETTINGS) == 1

    job.refresh_from_db()
    assert (job.state, job.attempts, job.crashes, job.lease) == ("ready", 1, 1, 3)
    assert not Attempt.objects.exists()


def test_what_is_claimed_by_a_slot_on_the_board_is_spared(ours: Session) -> None:
    running(ME, claimer=11)
    running(ME, claimer=12)

    assert hand_back_left_over(ours, [11, 12], [], ME, SETTINGS) == 0
    assert Job.objects.filter(state="running").count() == 2


def test_what_runs_on_the_board_under_an_old_number_is_spared(ours: Session) -> None:
    """The slot has lost its connection and has a new number; the job it was running goes on."""
    job = running(ME, claimer=11)

    assert hand_back_left_over(ours, [77], [job.id], ME, SETTINGS) == 0
    job.refresh_from_db()
    assert job.state == "running"


def test_the_rows_of_other_workers_are_not_left_over(ours: Session) -> None:
    job = running(2, claimer=99)

    assert hand_back_left_over(ours, [], [], ME, SETTINGS) == 0
    job.refresh_from_db()
    assert job.state == "running"


def test_with_no_slot_at_all_everything_is_left_over(ours: Session) -> None:
    fill(ours, 3, "running", worker=ME)

    assert hand_back_left_over(ours, [], [], ME, SETTINGS) == 3


def test_left_overs_go_back_a_bounded_step_at_a_time(ours: Session) -> None:
    fill(ours, rescue.BATCH + 5, "running", worker=ME)

    assert hand_back_left_over(ours, [], [], ME, SETTINGS) == rescue.BATCH
    assert hand_back_left_over(ours, [], [], ME, SETTINGS) == 5
    assert hand_back_left_over(ours, [], [], ME, SETTINGS) == 0


# Verdicts -----------------------------------------------------------------------------------------------------------


def fated(job: Job, happened: Happened, **fields: Any) -> Fated:
    return Fated(str(job.id), job.lease, job.claimer or 0, happened, **{"ran": 2.0, "error": "why", **fields})


@pytest.mark.parametrize(
    ("happened", "state", "attempts", "crashes", "kinds"),
    [
        (Happened.TIMED_OUT, "retrying", 1, 0, ["timed_out"]),
        (Happened.CRASHED, "ready", 0, 1, ["crashed"]),
        (Happened.HANDED_BACK, "ready", 0, 0, []),
    ],
)
def test_a_verdict_is_written(
    ours: Session, happened: Happened, state: str, attempts: int, crashes: int, kinds: list[str]
) -> None:
    job = running(ME)

    carry_out(ours, [fated(job, happened, stack="File x")], ME, SETTINGS)

    job.refresh_from_db()
    assert (job.state, job.attempts, job.crashes) == (state, attempts, crashes)
    rows = list(Attempt.objects.all())
    assert [row.kind for row in rows] == kinds
    for row in rows:
        assert (row.error, row.traceback, row.worker) == ("why", "File x", ME)
        assert row.started_at is not None
        assert 1.9 < (row.ended_at - row.started_at).total_seconds() < 10


def test_a_verdict_twice_is_the_same_as_once(ours: Session) -> None:
    jobs = [running(ME, claimer=n) for n in range(3)]
    verdict = [
        fated(job, happened)
        for job, happened in zip(jobs, (Happened.TIMED_OUT, Happened.CRASHED, Happened.HANDED_BACK), strict=True)
    ]
    carry_out(ours, verdict, ME, SETTINGS)
    before = everything(ours)

    carry_out(ours, verdict, ME, SETTINGS)

    assert everything(ours) == before


@pytest.mark.parametrize("wrong", [{"lease": 2}, {"claimer": 12}])
def test_a_verdict_about_an_earlier_claim_changes_nothing(ours: Session, wrong: dict[str, int]) -> None:
    job = running(ME)
    before = everything(ours)

    earlier = Fated(str(job.id), **{"lease": 1, "claimer": 11, **wrong}, happened="timed_out", ran=1.0)
    carry_out(ours, [earlier], ME, SETTINGS)

    assert everything(ours) == before


def test_a_verdict_about_another_workers_job_changes_nothing(ours: Session) -> None:
    job = running(2)
    before = everything(ours)

    carry_out(ours, [fated(job, Happened.CRASHED)], ME, SETTINGS)

    assert everything(ours) == before


def test_a_verdict_about_a_job_that_has_ended_changes_nothing(ours: Session) -> None:
    job = running(ME)
    conclude(ours, [outcome(a_claimed(id=job.id), "succeeded")], ME)
    before = everything(ours)

    carry_out(ours, [fated(job, Happened.TIMED_OUT)], ME, SETTINGS)

    assert everything(ours) == before


def test_an_empty_verdict_is_nothing(ours: Session) -> None:
    carry_out(ours, [], ME, SETTINGS)


def test_texts_of_a_verdict_that_cannot_be_stored_are_cleaned(ours: Session) -> None:
    job = running(ME)

    verdict = fated(job, Happened.CRASHED, error="a\x00b" + "x" * 9999, stack="c\ud800" + "y" * 99_999)
    carry_out(ours, [verdict], ME, SETTINGS)

    row = Attempt.objects.get()
    assert row.error.startswith("a\ufffdb") and len(row.error) <= 2000
    assert row.traceback.startswith("c\ufffd") and len(row.traceback) <= 20_000


def test_the_last_attempt_that_times_out_is_dead(ours: Session) -> None:
    job = running(ME, attempts=2, max_attempts=3)

    carry_out(ours, [fated(job, Happened.TIMED_OUT)], ME, SETTINGS)

    assert (FinishedJob.objects.get().state, FinishedJob.objects.get().attempts) == ("dead", 3)


def hopeless(*_: Any) -> float:
    raise LookupError


@pytest.mark.parametrize(
    ("options", "waits"),
    [
        ({}, 5.0),
        ({"backoff": (90,)}, 90.0),
        ({"backoff": lambda *_: 77}, 77.0),
        ({"backoff": hopeless}, 5.0),
        ({"backoff": lambda *_: None}, None),
        ({"never_retry_on": (TimedOut,)}, None),
        ({"retry_on": (OSError,)}, None),
        ({"retry_on": (TimedOut, GiveUp)}, 5.0),
    ],
    ids=["default", "own wait", "function", "broken function", "no more", "never on timeouts", "only on others", "on"],
)
def test_the_tasks_policy_decides_what_follows_a_timeout(
    ours: Session, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], waits: float | None
) -> None:
    monkeypatch.setitem(declare.registry, "tests.policy", a_task(lambda: None, **options))
    job = running(ME, task="tests.policy")

    carry_out(ours, [fated(job, Happened.TIMED_OUT)], ME, SETTINGS)

    if waits is None:
        assert FinishedJob.objects.get().state == "dead"
    else:
        job.refresh_from_db()
        assert job.state == "retrying"
        assert abs((job.run_after - timezone.now()).total_seconds() - waits) < 4


def test_a_backoff_function_that_hangs_does_not_hold_up_the_keeper(
    ours: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    task = a_task(lambda: None, backoff=lambda *_: released.wait(60))
    monkeypatch.setitem(declare.registry, "tests.policy", task)
    job = running(ME, task="tests.policy")
    began = time.monotonic()

    carry_out(ours, [fated(job, Happened.TIMED_OUT)], ME, SETTINGS)
    took = time.monotonic() - began
    released.set()

    assert took < 5
    job.refresh_from_db()
    assert job.state == "retrying"


def test_the_context_of_a_timeout_is_that_of_the_attempt(ours: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[BaseException, JobContext]] = []

    def backoff(*given: Any) -> float:
        told.append(given)
        given[1].log("asked")
        return 1.0

    monkeypatch.setitem(declare.registry, "tests.policy", a_task(lambda: None, backoff=backoff))
    notebook.take()
    job = running(ME, task="tests.policy", attempts=1, depth=2, idempotency_key="k", source_name="s", queue="mail")

    carry_out(ours, [fated(job, Happened.TIMED_OUT)], ME, SETTINGS)

    ((error, context),) = told
    assert isinstance(error, TimedOut)
    assert context == JobContext(job.id, "k", 2, 3, "tests.policy", "mail", 0, "s", 2, job.lease, job.claimer)
    assert [(line.job, line.lease, line.text) for line in notebook.take()[0]] == [(job.id, job.lease, "asked")]


# Against the finisher -----------------------------------------------------------------------------------------------


def look_twice(session: Session, clock: Clock) -> list[str]:
    watch = Watch()
    watch.look(session, ME, SETTINGS)
    clock.now += LONG_ENOUGH
    return watch.look(session, ME, SETTINGS)


def carry_out_timeout(session: Session, job: UUID, clock: Clock) -> None:
    row = Job.objects.get(pk=job)
    carry_out(session, [fated(row, Happened.TIMED_OUT)], row.worker or 0, SETTINGS)


TAKERS: dict[str, Callable[[Session, UUID, int, Clock], object]] = {
    "a watching worker": lambda session, job, worker, clock: look_twice(session, clock),
    "its own keeper": lambda session, job, worker, clock: hand_back_left_over(session, [], [], worker, SETTINGS),
    "a verdict": lambda session, job, worker, clock: carry_out(
        session, [Fated(str(job), 1, 11, "timed_out", 1.0)], worker, SETTINGS
    ),
}


@pytest.mark.postgresql("two transactions that write are open at once")
@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS.keys())
def test_a_finish_that_comes_first_wins_over_whoever_takes_the_job_back(
    ours: Session, clock: Clock, take: Callable[[Session, UUID, int, Clock], object]
) -> None:
    """The row was read as running, and has ended by the time it is written: it must stay as it ended."""
    worker = a_worker(silent_for=100)
    fill(ours, 1)
    (job,) = claim(ours, 1, worker=worker)

    with open_transaction("finisher") as finisher:
        finisher.run_all(rescue.finish([outcome(job, "succeeded", result='"mine"')], worker))
        with meanwhile(take, named("taker"), job.id, worker, clock) as taken:
            wait_until_blocked("taker")
            finisher.commit()
            taken.result()

    assert in_home(job.id) == ["jobs_finishedjob"]
    assert (FinishedJob.objects.get().state, FinishedJob.objects.get().result) == ("succeeded", '"mine"')
    assert not Attempt.objects.exists()
    assert broken(ours) == []


@pytest.mark.postgresql("two transactions that write are open at once")
@pytest.mark.parametrize("happened", ["succeeded", "failed", "handed_back"])
def test_a_finish_that_comes_second_is_stale(ours: Session, happened: str) -> None:
    fill(ours, 1)
    (job,) = claim(ours, 1)

    with open_transaction("rescuer") as rescuer:
        rescuer.run_all(rescue.finish([outcome(job, "lost")], 1))
        with meanwhile(conclude, named("finisher"), [outcome(job, happened)]) as finished:
            wait_until_blocked("finisher")
            rescuer.commit()
            assert finished.result() == set()

    assert in_home(job.id) == ["jobs_job"]
    assert (Job.objects.get().state, Job.objects.get().crashes, Job.objects.get().attempts) == ("ready", 1, 0)
    assert [row.kind for row in Attempt.objects.all()] == ["lost"]


@pytest.mark.postgresql("two transactions that write are open at once")
def test_a_rescue_that_is_rolled_back_leaves_the_job_to_its_finisher(ours: Session) -> None:
    fill(ours, 1)
    (job,) = claim(ours, 1)

    with open_transaction("rescuer") as rescuer:
        rescuer.run_all(rescue.finish([outcome(job, "lost")], 1))
        with meanwhile(conclude, named("finisher"), [outcome(job, "succeeded")]) as finished:
            wait_until_blocked("finisher")
            rescuer.rollback()
            assert finished.result() == {job.id}

    assert in_home(job.id) == ["jobs_finishedjob"]


# Sessions -----------------------------------------------------------------------------------------------------------


def pids(session: Session, name: str) -> list[int]:
    return column(session, "SELECT pid FROM pg_stat_activity WHERE application_name = %s", name)


@pytest.mark.postgresql("sessions on a server")
def test_the_sessions_of_a_name_are_ended_and_no_others(ours: Session) -> None:
    one, other, neighbour = named("jobs-slot-0"), named("jobs-slot-0"), named("jobs-slot-01")
    for session in (one, other, neighbour):
        Open(session).run(Query("SELECT 1"))

    end_sessions(ours, "jobs-slot-0")

    wait_until(lambda: not pids(ours, "jobs-slot-0"), what="the sessions are gone")
    assert len(pids(ours, "jobs-slot-01")) == 1


def test_ending_sessions_of_nobody_is_nothing(ours: Session) -> None:
    end_sessions(ours, "jobs-slot-nobody")


def test_a_session_is_not_ended_by_its_own_name(ours: Session) -> None:
    keeper = named("jobs-keeper")

    end_sessions(keeper, "jobs-keeper")

    assert keeper.glance(Query("SELECT 1")) == [(1,)]
