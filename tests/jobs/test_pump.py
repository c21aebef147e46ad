"""The pump: it claims into the buffer, writes what is done, gives back what cannot start soon, and loses nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest

from jobs import appetite
from jobs import pump as module
from jobs.board import Phase, empty
from jobs.claim import Claimed, Lanes
from jobs.intake import CHANNEL
from jobs.models import Attempt, FinishedJob, Job
from jobs.outcome import Trouble
from jobs.pump import MOST
from jobs.rescue import hand_back_left_over
from outbox.session import Query, Row, Session
from tests.factories import JobFactory, in_home
from tests.support.floor import broken, column, conclude, everything, fill, outcome, value
from tests.support.hands import NAME, Hands
from tests.support.locks import meanwhile, named, wait_until_blocked
from tests.support.observer import listener
from tests.support.wait import wait_until

pytest_plugins = ["tests.support.ours"]

Make = Callable[..., Hands]

COUNTS = "SELECT count(*) FROM jobs_finishedjob WHERE state = 'succeeded'"


@pytest.fixture
def hands(ours: Session) -> Iterator[Make]:
    """Make a pump with its board; it is stopped at the end."""
    made: list[Hands] = []

    def make(lanes: Lanes | None = None, **settings: Any) -> Hands:
        made.append(Hands(ours, lanes, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def states(session: Session) -> list[str]:
    return column(session, "SELECT state FROM jobs_job ORDER BY id")


def keeper_sweeps(slot: Hands) -> int:
    """What the keeper does once a second: hand back what no slot has."""
    return hand_back_left_over(
        slot.session,
        [each.claimer for each in slot.board.slots],
        slot.board.in_hands(),
        slot.board.worker,
        slot.settings,
    )


# Claiming -----------------------------------------------------------------------------------------------------------


def test_it_claims_what_is_ready_and_writes_what_is_done(ours: Session, hands: Make) -> None:
    ids = fill(ours, 60)
    slot = hands()
    slot.start()

    taken = []
    for _ in ids:
        job = slot.take()
        taken.append(job.id)
        slot.put(job)
    slot.rest()
    slot.drain()

    assert sorted(taken) == sorted(ids)
    assert value(ours, COUNTS) == 60
    assert set(column(ours, "SELECT lease FROM jobs_finishedjob")) == {1}
    assert states(ours) == []


def test_before_the_worker_has_a_number_nothing_is_claimed(ours: Session, hands: Make) -> None:
    fill(ours, 2)
    slot = hands()
    slot.board.worker = 0

    slot.steps(5)

    assert states(ours) == ["ready", "ready"]
    assert not slot.pump._session.connected


def test_it_has_a_random_number_before_its_first_claim(ours: Session, hands: Make) -> None:
    fill(ours, 1)
    slot, other = hands(), hands()

    slot.steps(1)
    other.steps(1)
    before_the_claim = states(ours)
    slot.steps(1)

    assert before_the_claim == ["ready"]
    assert slot.child.claimer > 0 and slot.child.claimer != other.child.claimer
    assert Job.objects.get().claimer == slot.child.claimer


def test_jobs_come_out_in_the_order_of_the_lanes(ours: Session, hands: Make) -> None:
    low, high, middle = (fill(ours, 1, priority=priority)[0] for priority in (-60, 60, 0))
    slot = hands()
    slot.start()

    assert [slot.take().id for _ in range(3)] == [high, middle, low]


def test_queues_it_does_not_serve_are_left_alone(ours: Session, hands: Make) -> None:
    fill(ours, 3, queue="mail")
    slot = hands()

    slot.steps(4)

    assert states(ours) == ["ready"] * 3


def test_it_finds_queues_that_nobody_has_named(ours: Session, hands: Make) -> None:
    fill(ours, 1, queue="one")
    fill(ours, 1, queue="two")
    slot = hands(Lanes([], any_queue=True))

    slot.steps(3)

    assert {job.queue for job in slot.pump.buffer} == {"one", "two"}


def test_it_looks_for_other_queues_before_it_sleeps(ours: Session, hands: Make) -> None:
    """Not before each claim: a job that comes to a queue it knows is claimed at once."""
    slot = hands(Lanes([], any_queue=True))
    fill(ours, 1, queue="one")
    slot.steps(3)
    slot.put(slot.take())
    slot.rest()
    slot.steps(4)
    assert slot.child.idle
    for queue in ("two", "one"):
        fill(ours, 1, queue=queue)
    slot.pump._dry = False

    slot.steps(1)
    assert [job.queue for job in slot.pump.buffer] == ["one"]
    slot.put(slot.take())
    slot.rest()
    slot.steps(3)
    assert [job.queue for job in slot.pump.buffer] == ["two"]


def test_a_job_in_a_queue_it_does_not_know_wakes_nobody_in_vain(ours: Session, hands: Make) -> None:
    slot = hands(Lanes([], any_queue=True))
    slot.steps(4)
    fill(ours, 1, queue="new")
    slot.pump._dry = False

    pauses = slot.steps(3)

    assert [job.queue for job in slot.pump.buffer] == ["new"]
    assert max(pauses) < 1


def test_a_queue_that_is_paused_does_not_keep_it_looking(ours: Session, hands: Make) -> None:
    slot = hands(Lanes([], any_queue=True))
    slot.board.paused = "one"
    fill(ours, 1, queue="one")

    pauses = slot.steps(5)

    assert not slot.pump.buffer
    assert pauses[-1] >= 5


def make_async(ours: Session) -> None:
    ours.glance(Query("UPDATE jobs_job SET task = 'tests.tasks.async_wait'"))


@pytest.mark.parametrize(("places", "taken"), [(3, 0), (3, 2), (3, 3), (1, 0)])
def test_it_never_claims_more_than_there_are_places_for(ours: Session, hands: Make, places: int, taken: int) -> None:
    """All that it claims next may be async like the last ones, and each of those needs a place."""
    fill(ours, 50)
    make_async(ours)
    slot = hands(ASYNC_CONCURRENCY=places)
    for _ in range(taken):
        slot.pump.free_places.popleft()

    slot.steps(10)

    assert len(slot.pump.buffer) == places - taken
    assert states(ours).count("running") == places - taken


def test_quick_jobs_are_claimed_in_growing_batches_and_never_too_many(ours: Session, hands: Make) -> None:
    fill(ours, 2000)
    slot = hands(ASYNC_CONCURRENCY=1000)
    batches = []

    slot.steps(1)
    for _ in range(6):
        slot.steps(1)
        batches.append(len(slot.pump.buffer))
        slot.pump.ran, slot.pump.worked = len(slot.pump.buffer), 0.00001
        for job in slot.pump.buffer:
            slot.pump.done.append(outcome(job, "succeeded"))
        slot.pump.buffer.clear()

    assert batches == [4, 16, 64, 256, MOST, MOST]


def test_slow_jobs_are_claimed_one_at_a_time(ours: Session, hands: Make) -> None:
    fill(ours, 20)
    slot = hands()
    slot.steps(2)
    slot.pump.buffer.clear()
    slot.pump.ran, slot.pump.worked = 4, 8.0

    slot.steps(3)

    assert len(slot.pump.buffer) == 1


def test_while_a_slow_job_runs_nothing_is_claimed(ours: Session, hands: Make) -> None:
    fill(ours, 1)
    slot = hands()
    slot.steps(2)
    slot.take()
    slot.slow_down(0.2)
    fill(ours, 5)

    slot.steps(5)

    assert states(ours).count("running") == 1


def test_with_too_many_unwritten_outcomes_nothing_is_claimed(ours: Session, hands: Make) -> None:
    fill(ours, 5)
    slot = hands()
    slot.steps(2)
    job = slot.pump.buffer.popleft()
    slot.pump.buffer.clear()
    slot.pump.done.extend([outcome(job, "succeeded")] * (5 * MOST + 1))

    assert slot.pump._wanted() == 0


def test_async_jobs_are_claimed_by_the_room_there_is(ours: Session, hands: Make) -> None:
    for _ in range(30):
        JobFactory(task="tests.tasks.async_wait")
    slot = hands(ASYNC_CONCURRENCY=20)
    slot.steps(2)

    for _ in range(len(slot.pump.buffer)):
        slot.pump.buffer.popleft()
        slot.pump.free_places.popleft()
    slot.steps(3)

    assert len(slot.pump.buffer) + (20 - len(slot.pump.free_places)) == 20


# Jobs that have crashed before --------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_job_with_a_crash_goes_into_the_buffer_alone(ours: Session, hands: Make, position: int) -> None:
    ids = fill(ours, 4)
    ours.glance(Query("UPDATE jobs_job SET crashes = 1 WHERE id = %s", (ids[position],)))
    slot = hands()

    slot.steps(2)

    assert [job.id for job in slot.pump.buffer] == [ids[position]]


def test_while_a_job_with_a_crash_runs_no_other_is_claimed(ours: Session, hands: Make) -> None:
    """It was running when a process died: should it do that again, nobody else waits in that process."""
    ids = fill(ours, 4)
    ours.glance(Query("UPDATE jobs_job SET crashes = 1 WHERE id = %s", (ids[1],)))
    slot = hands()
    slot.steps(2)
    job = slot.take()

    slot.steps(10)
    slot.slow_down(0.05)
    slot.steps(10)

    assert job.id == ids[1]
    assert not slot.pump.buffer
    assert states(ours).count("running") == 1


def test_jobs_with_crashes_and_without_all_come_to_an_end(ours: Session, hands: Make) -> None:
    ids = fill(ours, 12)
    ours.glance(Query("UPDATE jobs_job SET crashes = 2 WHERE id = ANY(%s)", (ids[::3],)))
    slot = hands()
    slot.start()

    for _ in ids:
        slot.put(slot.take())
    slot.rest()
    slot.drain()

    assert value(ours, COUNTS) == 12
    assert not Attempt.objects.exists()


# Writing ------------------------------------------------------------------------------------------------------------


def test_an_outcome_is_written_while_the_next_job_runs_for_hours(ours: Session, hands: Make) -> None:
    fill(ours, 2)
    slot = hands()
    slot.start()
    first = slot.take()
    slot.put(first)
    second = slot.take()
    began = time.monotonic()

    wait_until(lambda: in_home(first.id) == ["jobs_finishedjob"])

    assert time.monotonic() - began < 1
    assert slot.child.running()[0].job == second.id


@pytest.mark.parametrize(
    ("way", "home", "state"),
    [
        ({"happened": "succeeded"}, "jobs_finishedjob", "succeeded"),
        ({"happened": "failed", "retry_in": None}, "jobs_finishedjob", "dead"),
        ({"happened": "failed", "retry_in": 50.0}, "jobs_job", "retrying"),
        ({"happened": "unknown"}, "jobs_job", "scheduled"),
    ],
)
def test_every_kind_of_outcome_is_written(
    ours: Session, hands: Make, way: dict[str, Any], home: str, state: str
) -> None:
    JobFactory(max_attempts=3)
    slot = hands()
    slot.start()
    job = slot.take()

    slot.put(job, **way)
    slot.rest()
    slot.drain()

    assert in_home(job.id) == [home]
    assert column(ours, f"SELECT state FROM {home}") == [state]


def test_an_outcome_to_retry_wakes_the_mover(ours: Session, hands: Make) -> None:
    JobFactory(max_attempts=3)
    slot = hands()
    slot.start()

    slot.put(slot.take(), "failed")
    slot.rest()
    slot.drain()

    assert empty(slot.board.mover_pipe[0])


@pytest.mark.postgresql("NOTIFY")
def test_what_is_handed_back_wakes_another_slot_and_other_workers(ours: Session, hands: Make) -> None:
    fill(ours, 3)
    slot = hands()
    slot.board.slots[1].idle = True
    listener = named("listener")
    listener.listen("jobs_ready")
    listener.glance(Query("SELECT 1"))
    slot.start()
    slot.take()
    wait_until(lambda: len(slot.pump.buffer) == 2)

    slot.slow_down(1.0)

    wait_until(lambda: states(ours).count("ready") == 2)
    wait_until(lambda: empty(slot.board.pipes[1][0]), what="the other slot is woken")
    assert listener.wait(5)


# One that cannot be written -----------------------------------------------------------------------------------------


def test_an_outcome_that_cannot_be_stored_is_written_without_its_texts_and_the_others_whole(
    ours: Session, hands: Make, caplog: pytest.LogCaptureFixture
) -> None:
    fill(ours, 3)
    slot = hands()
    slot.start()
    jobs = []
    for bad in (False, True, False):
        jobs.append(slot.take())
        slot.put(jobs[-1], result='"a\x00b"' if bad else '"fine"')
    slot.rest()
    slot.drain()

    assert value(ours, COUNTS) == 3
    results = dict(FinishedJob.objects.values_list("id", "result"))
    assert [results[job.id] for job in jobs] == ['"fine"', None, '"fine"']
    assert any("could not be written" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("delay", [float("inf"), 1e300, 1e15])
def test_a_wait_that_cannot_be_stored_does_not_leave_the_job_running(
    ours: Session, hands: Make, delay: float, caplog: pytest.LogCaptureFixture
) -> None:
    """The slot lives on and has the number under which it was claimed: nobody would ever take it back."""
    JobFactory(max_attempts=3)
    other = JobFactory()
    slot = hands()
    slot.start()
    for _ in range(2):
        job = slot.take()
        slot.put(job, *(["succeeded"] if job.id == other.id else ["failed"]), retry_in=delay)
    slot.rest()
    slot.drain()

    assert in_home(other.id) == ["jobs_finishedjob"]
    assert "running" not in states(ours)


def lose_once(slot: Hands, monkeypatch: pytest.MonkeyPatch, *, at_call: int, after_commit: bool = False) -> None:
    """Have the n-th exchange from now find the connection gone, before or after the server has done its part."""
    calls = 0
    run_all = slot.pump._session.run_all

    def losing(queries: Sequence[Query], **options: Any) -> list[list[Row]]:
        nonlocal calls
        calls += 1
        if calls == at_call:
            if after_commit:
                run_all(queries, **options)
            slot.pump._session.close()
            raise psycopg.OperationalError("the connection is lost")
        return run_all(queries, **options)

    monkeypatch.setattr(slot.pump._session, "run_all", losing)


def test_a_connection_lost_while_writing_one_by_one_loses_no_outcome(
    ours: Session, hands: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ours, 4)
    slot = hands()
    slot.steps(2)
    jobs = [slot.pump.buffer.popleft() for _ in range(4)]
    slot.pump.done.extend(outcome(job, "succeeded", result='"\x00"' if n == 0 else "1") for n, job in enumerate(jobs))
    lose_once(slot, monkeypatch, at_call=3)

    slot.start()
    slot.rest()
    slot.drain()

    assert value(ours, COUNTS) == 4


def test_an_outcome_that_cannot_be_stored_does_not_stop_a_pump_in_doubt(ours: Session, hands: Make) -> None:
    fill(ours, 3)
    slot = hands()
    slot.steps(2)
    jobs = [slot.pump.buffer.popleft() for _ in range(3)]
    slot.pump.done.extend(
        outcome(job, "failed", trouble=Trouble("a\x00b")) if n == 0 else outcome(job, "succeeded")
        for n, job in enumerate(jobs)
    )
    slot.pump._doubtful = True

    slot.start()
    slot.rest()
    slot.drain()

    assert value(ours, COUNTS) == 2
    assert "running" not in states(ours)


# Handing back -------------------------------------------------------------------------------------------------------


def test_what_waits_behind_a_slow_job_is_handed_back_uncharged(ours: Session, hands: Make) -> None:
    fill(ours, 4)
    slot = hands()
    slot.start()
    job = slot.take()
    wait_until(lambda: len(slot.pump.buffer) == 3)

    slot.slow_down(0.6)

    wait_until(lambda: states(ours).count("ready") == 3)
    assert Job.objects.get(state="running").id == job.id
    assert list(Job.objects.filter(state="ready").values_list("attempts", "crashes", "lease").distinct()) == [(0, 0, 1)]
    assert not slot.pump.buffer
    slot.put(job)
    slot.rest()
    wait_until(lambda: in_home(job.id) == ["jobs_finishedjob"])


def test_a_drain_hands_back_what_waits_and_writes_what_runs(ours: Session, hands: Make) -> None:
    fill(ours, 4)
    slot = hands()
    slot.start()
    job = slot.take()
    wait_until(lambda: len(slot.pump.buffer) == 3)

    slot.board.phase = Phase.DRAIN
    slot.board.wake(0)
    wait_until(lambda: states(ours).count("ready") == 3)
    running_still = not slot.pump.finished
    slot.put(job)
    slot.rest()
    slot.drain()

    assert running_still
    assert in_home(job.id) == ["jobs_finishedjob"]
    assert slot.pump.written_out


def test_a_drain_waits_for_async_jobs(ours: Session, hands: Make) -> None:
    fill(ours, 1)
    slot = hands()
    slot.steps(2)
    with slot.pump.taking:
        job = slot.pump.buffer.popleft()
        place = slot.pump.free_places.popleft()

    slot.board.phase = Phase.DRAIN
    slot.steps(3)
    waiting = not slot.pump.finished
    slot.pump.done.append(outcome(job, "succeeded"))
    slot.pump.free_places.append(place)
    slot.steps(3)

    assert slot.pump.finished
    assert waiting
    assert in_home(job.id) == ["jobs_finishedjob"]


def test_a_slot_that_is_about_to_be_killed_claims_nothing_and_writes_what_it_has(ours: Session, hands: Make) -> None:
    fill(ours, 6)
    slot = hands()
    slot.start()
    done, late = slot.take(), None
    slot.put(done)
    late = slot.take()

    slot.pump.parked = True
    slot.pump.ring()
    slot.board.wake(0)
    wait_until(lambda: slot.pump.written_out and states(ours).count("running") == 1)

    assert in_home(done.id) == ["jobs_finishedjob"]
    assert Job.objects.get(state="running").id == late.id
    assert states(ours).count("ready") == 4


# Sleeping and waking ------------------------------------------------------------------------------------------------


def test_an_idle_slot_says_so_and_sleeps_until_it_is_woken(ours: Session, hands: Make) -> None:
    slot = hands()
    slot.start()
    slot.rest()
    wait_until(lambda: slot.child.idle and slot.pump._asleep)
    (job,) = fill(ours, 1)

    slot.board.wake_idle(1)

    assert slot.take(within=5).id == job
    assert slot.child.idle is False


@pytest.mark.postgresql("two transactions that write are open at once")
def test_what_comes_in_while_it_looks_wakes_it(ours: Session, hands: Make) -> None:
    """It announces that it is idle before the look that may find nothing, so that one look is enough."""
    slot = hands()
    slot.steps(1)
    with named("locking").transaction(durable=False, pipelined=False) as connection:
        connection.execute("LOCK TABLE jobs_job IN ACCESS EXCLUSIVE MODE")
        with meanwhile(slot.pump.step) as looking:
            wait_until_blocked(NAME)
            announced = slot.child.idle
            connection.execute("COMMIT")
            looking.result(10)

    assert announced
    assert slot.pump.step() >= 5
    (job,) = fill(ours, 1)
    slot.board.wake_idle(1)
    slot.pump.wait(5)
    slot.steps(1)
    assert [job.id for job in slot.pump.buffer] == [job]


def test_a_wake_up_that_comes_while_it_claims_other_jobs_goes_to_another_slot(ours: Session, hands: Make) -> None:
    """It may be for a job that this claim has not seen, and this slot is busy from now on."""
    slot, other = hands(), 1
    slot.steps(2)
    slot.board.slots[other].idle = True
    fill(ours, 1)
    slot.pump._dry = False
    slot.board.wake(0)

    slot.steps(1)

    assert len(slot.pump.buffer) == 1
    assert slot.child.idle is False
    assert empty(slot.board.pipes[other][0])


@pytest.mark.postgresql("NOTIFY")
def test_where_no_other_slot_is_idle_another_worker_hears_of_it(ours: Session, hands: Make) -> None:
    """The relay has told nobody else, since this slot was idle."""
    slot = hands()
    slot.steps(2)
    fill(ours, 1)
    slot.pump._dry = False
    slot.board.wake(0)
    with listener(CHANNEL) as heard:
        slot.steps(1)

        assert len(slot.pump.buffer) == 1
        assert heard(5) == 1


def test_nobody_counts_on_a_slot_whose_database_is_away(ours: Session, hands: Make) -> None:
    slot = hands()
    slot.steps(2)
    assert slot.child.idle

    slot.pump.doubt()

    assert slot.child.idle is False


def test_with_nothing_ready_it_does_not_ask_again_and_again(ours: Session, hands: Make) -> None:
    slot = hands()

    pauses = slot.steps(5)

    assert pauses[-1] >= 5
    assert slot.child.idle


# Doubt --------------------------------------------------------------------------------------------------------------


@pytest.mark.postgresql("a connection that can be lost")
def test_after_a_lost_connection_it_goes_on_under_a_new_number_and_nothing_is_lost(ours: Session, hands: Make) -> None:
    ids = fill(ours, 40)
    slot = hands()
    slot.start()
    taken: list[Claimed] = []

    def go_on() -> bool:
        job = slot.grasp()
        if job is None:
            keeper_sweeps(slot)
            slot.board.wake(0)
            return bool(value(ours, COUNTS) == len(ids))
        taken.append(job)
        if len(taken) in (3, 11, 20):
            slot.lose_connection()
        slot.put(job)
        return False

    wait_until(go_on, within=30)
    slot.drain()

    assert len({job.claimer for job in taken}) > 1
    assert value(ours, COUNTS) == len(ids)
    assert set(FinishedJob.objects.values_list("id", flat=True)) == set(ids)
    assert set(FinishedJob.objects.values_list("attempts", "crashes")) == {(1, 0)}
    assert broken(ours) == []


@pytest.mark.postgresql("a connection that can be lost")
def test_jobs_in_the_buffer_are_handed_back_after_a_lost_connection(ours: Session, hands: Make) -> None:
    fill(ours, 4)
    slot = hands()
    slot.start()
    job = slot.take()
    number = slot.child.claimer
    wait_until(lambda: len(slot.pump.buffer) == 3)
    fill(ours, 3)

    slot.lose_connection()
    slot.slow_down(0.6)
    slot.wait_for_number(after=number)

    assert not [other for other in slot.pump.buffer if other.claimer == number]
    assert Job.objects.get(pk=job.id).claimer == number
    assert Job.objects.filter(state="running", claimer=number).count() == 1


def test_an_exchange_whose_answer_was_lost_is_written_once_and_its_claim_is_handed_back(
    ours: Session, hands: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(ours, 1)
    slot = hands()
    slot.steps(2)
    number = slot.child.claimer
    job = slot.take()
    slot.put(job)
    slot.rest()
    fill(ours, 2)
    lose_once(slot, monkeypatch, at_call=1, after_commit=True)

    with pytest.raises(psycopg.OperationalError):
        slot.steps(1)
    slot.pump.doubt()
    claimed = states(ours)
    with caplog.at_level(logging.INFO, "jobs"):
        slot.steps(1)
    swept = keeper_sweeps(slot)

    assert claimed == ["running", "running"]
    assert slot.child.claimer != number
    assert swept == 2
    assert set(states(ours)) == {"ready"}
    assert value(ours, COUNTS) == 1
    assert slot.pump.written_out
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_exchange_that_was_lost_before_the_commit_is_written_again(
    ours: Session, hands: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ours, 1)
    slot = hands()
    slot.steps(2)
    job = slot.take()
    slot.put(job)
    slot.rest()
    lose_once(slot, monkeypatch, at_call=1)

    with pytest.raises(psycopg.OperationalError):
        slot.steps(1)
    slot.pump.doubt()
    slot.steps(1)

    assert in_home(job.id) == ["jobs_finishedjob"]


@pytest.mark.postgresql("a connection that can be lost")
def test_the_job_that_runs_through_a_lost_connection_is_finished_under_its_old_number(
    ours: Session, hands: Make
) -> None:
    fill(ours, 1)
    slot = hands()
    slot.start()
    job = slot.take()
    number = slot.child.claimer
    slot.lose_connection()
    slot.board.phase = Phase.DRAIN  # something for the pump to do, so that it notices
    slot.pump._doubtful = True
    slot.board.wake(0)
    slot.wait_for_number(after=number)

    assert keeper_sweeps(slot) == 0
    slot.put(job)
    slot.rest()
    slot.drain()

    assert in_home(job.id) == ["jobs_finishedjob"]


def test_a_job_that_has_just_ended_after_a_lost_connection_is_not_handed_back_and_run_again(
    ours: Session, hands: Make
) -> None:
    """Between its end on the board and the write of its outcome, a job of the old number is still in the slot's hands.

    The keeper sweeps every second, and after a restart of the database it may be back first.
    """
    fill(ours, 1)
    slot = hands()
    slot.steps(2)
    job = slot.take()
    slot.pump._session.close()
    slot.pump.doubt()
    slot.steps(1)

    slot.put(job, result='"the work is done"')
    swept = keeper_sweeps(slot)
    slot.rest()
    slot.steps(2)

    assert swept == 0
    assert in_home(job.id) == ["jobs_finishedjob"]


@pytest.mark.postgresql("a connection that can be lost")
def test_its_pump_survives_a_database_that_is_away(ours: Session, hands: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(ours, 2)
    slot = hands()
    slot.start()
    job = slot.take()
    away = True
    connect = slot.pump._session._connect

    def refusing() -> Any:
        if away:
            raise psycopg.OperationalError("the database system is starting up")
        return connect()

    monkeypatch.setattr(slot.pump._session, "_connect", refusing)
    slot.lose_connection()
    slot.put(job)
    slot.rest()
    wait_until(lambda: not slot.pump._session.connected)
    kept = in_home(job.id)
    away = False

    wait_until(lambda: in_home(job.id) == ["jobs_finishedjob"], within=20)
    assert kept == ["jobs_job"]


@pytest.mark.postgresql("a statement that the server cancels")
def test_a_write_that_only_waited_too_long_is_no_doubt(
    ours: Session, hands: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection lives, so the transaction is rolled back for certain: no new number is needed."""
    fill(ours, 1)
    slot = hands()
    slot.steps(2)
    number = slot.child.claimer
    job = slot.take()
    slot.put(job)
    slot.rest()
    run_all = slot.pump._session.run_all
    too_long = Query("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(5)")
    monkeypatch.setattr(
        slot.pump._session, "run_all", lambda queries, **options: run_all([*queries, too_long], **options)
    )

    with pytest.raises(psycopg.errors.QueryCanceled):
        slot.steps(1)
    slot.pump.doubt()
    monkeypatch.undo()
    slot.steps(1)

    assert slot.child.claimer == number
    assert in_home(job.id) == ["jobs_finishedjob"]


def test_a_pump_whose_rows_were_taken_away_drops_what_it_has(
    ours: Session, hands: Make, caplog: pytest.LogCaptureFixture
) -> None:
    fill(ours, 1)
    slot = hands()
    slot.steps(2)
    job = slot.take()
    slot.board.phase = Phase.DRAIN
    conclude(ours, [outcome(job, "lost")])
    before = everything(ours)

    with caplog.at_level(logging.WARNING, "jobs"):
        slot.put(job)
        slot.rest()
        slot.steps(3)

    counted = {"jobs_stat": []}  # that it was stale is, and perhaps what a test before has ended
    assert everything(ours) | counted == before | counted
    assert any("no longer ours" in record.getMessage() for record in caplog.records)


def test_the_constants_leave_time_for_one_another() -> None:
    assert module.FLUSH_EVERY <= 0.05
    assert appetite.BATCH_SECONDS < module.SLOW < 1.0
