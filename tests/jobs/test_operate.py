"""What a person may do to jobs: only from the states it may be done from, counted, and kept as a note."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from jobs import operate
from jobs.board import ALL_QUEUES, Board
from jobs.claim import Lanes, unpaused
from jobs.models import Attempt, Cancellation, FinishedJob, Job, LogLine, Note, Queue, State, Worker
from jobs.orders import Orders
from jobs.verdict import Channel
from outbox.session import Session
from tests.factories import AttemptFactory, FinishedJobFactory, JobFactory, WorkerFactory, in_home
from tests.support.floor import claim, conclude, outcome

pytest_plugins = ["tests.support.ours"]

MAKERS: dict[str, Callable[[], Any]] = {
    "ready": lambda: JobFactory(),
    "scheduled": lambda: JobFactory(scheduled=True),
    "retrying": lambda: JobFactory(retrying=True),
    "running": lambda: JobFactory(running=True),
    "succeeded": lambda: FinishedJobFactory(),
    "dead": lambda: FinishedJobFactory(state="dead", result=None),
    "cancelled": lambda: FinishedJobFactory(state="cancelled", result=None),
}


def state_of(job: UUID) -> str:
    row = Job.objects.filter(pk=job).first() or FinishedJob.objects.filter(pk=job).first()
    return row.state if row is not None else "gone"


VERBS: dict[str, Callable[[UUID], int]] = {
    "requeue": lambda job: operate.requeue([job], by="anna", reason="fixed"),
    "run now": lambda job: operate.run_now([job], by="anna"),
    "cancel": lambda job: sum(operate.cancel([job], by="anna", reason="not\nneeded")),
    "discard": lambda job: operate.discard([job]),
}

# verb: what becomes of each state; what is not named stays as it is, and the count says 0.
TABLE: dict[str, dict[str, str]] = {
    "requeue": {"dead": "ready", "cancelled": "ready"},
    "run now": {"scheduled": "ready", "retrying": "ready"},
    "cancel": {"ready": "cancelled", "scheduled": "cancelled", "retrying": "cancelled", "running": "running"},
    "discard": {"dead": "gone", "cancelled": "gone"},
}


@pytest.mark.django_db
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", MAKERS)
def test_each_verb_from_each_state(verb: str, state: str) -> None:
    job, other = MAKERS[state](), MAKERS[state]()

    count = VERBS[verb](job.id)

    assert state_of(job.id) == TABLE[verb].get(state, state)
    assert count == (state in TABLE[verb])
    assert state_of(other.id) == state
    assert Note.objects.filter(job=job.id).count() == (count if verb != "discard" else 0)
    assert len(in_home(job.id)) == (state_of(job.id) != "gone")


@pytest.mark.django_db
@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_job_and_no_job_are_nothing(verb: str) -> None:
    assert VERBS[verb](uuid4()) == 0
    assert operate.requeue([]) == operate.run_now([]) == operate.discard([]) == 0


@pytest.mark.django_db
def test_a_requeued_job_starts_anew_and_keeps_its_lease_and_history() -> None:
    dead = FinishedJobFactory(
        state="dead", attempts=3, crashes=2, max_attempts=3, lease=9, source_name="s", origin="GET /x", depth=2,
        parent=uuid4(), idempotency_key="k", error="ValueError: no", arguments='{"args":[1e+16],"kwargs":{}}',
    )  # fmt: skip
    AttemptFactory(job=dead.id, lease=9, number=3)

    operate.requeue([dead.id], by="anna", reason="the supplier is back")

    job = Job.objects.get()
    assert (job.attempts, job.crashes, job.lease, job.state) == (0, 0, 9, "ready")
    for name in ("id", "task", "queue", "priority", "source_name", "origin", "depth", "parent", "idempotency_key",
                 "arguments", "max_attempts", "enqueued_at", "error"):  # fmt: skip
        assert getattr(job, name) == getattr(dead, name), name
    assert Attempt.objects.filter(job=dead.id).exists()
    note = Note.objects.get()
    assert (note.by, note.deed, note.reason) == ("anna", "requeued", "the supplier is back")


def test_a_requeued_job_runs_under_a_higher_lease(ours: Session) -> None:
    """Row P33: what is dead is kept, and a person may run it again."""
    dead = FinishedJobFactory(state="dead", lease=9)

    operate.requeue([dead.id])

    (job,) = claim(ours, 1)
    assert (job.id, job.lease, job.attempts) == (dead.id, 10, 0)


@pytest.mark.django_db
def test_a_cancelled_job_says_who_and_why() -> None:
    job = JobFactory()

    assert operate.cancel([job.id], by="anna", reason="the order\nwas withdrawn") == (1, 0)

    ended = FinishedJob.objects.get()
    assert ended.error == "cancelled by anna: the order was withdrawn"
    assert ended.result is None


@pytest.mark.django_db
def test_a_running_job_is_wished_away_once() -> None:
    job = JobFactory(running=True)

    assert operate.cancel([job.id], by="anna") == (0, 1)
    assert operate.cancel([job.id], by="bert") == (0, 0)

    assert Cancellation.objects.get().reason == "cancelled by anna"


@pytest.mark.django_db
def test_a_discarded_job_takes_everything_with_it() -> None:
    job = FinishedJobFactory(state="dead")
    AttemptFactory(job=job.id)
    operate._note([job.id], "requeued", "", "")
    LogLine.objects.create(job=job.id, lease=1, number=1, at=timezone.now(), level=20, text="x", task="t")

    assert operate.discard([job.id]) == 1

    assert not (Attempt.objects.exists() or Note.objects.exists() or LogLine.objects.exists())


@pytest.mark.django_db
@pytest.mark.parametrize("state", MAKERS)
def test_arguments_can_be_edited_where_nobody_uses_them(state: str) -> None:
    job = MAKERS[state]()
    new = '{"args":[5],"kwargs":{}}'

    done = operate.edit(job.id, new, seen=job.arguments, lease=job.lease, version=2, by="anna")

    assert done is (state not in ("running", "succeeded"))
    row: Any = Job.objects.filter(pk=job.id).first() or FinishedJob.objects.get(pk=job.id)
    assert (row.arguments == new) is done
    assert row.state == ("ready" if state in ("dead", "cancelled") else state)


@pytest.mark.django_db
@pytest.mark.parametrize("wrong", [{"lease": 5}, {"seen": "{}"}])
def test_what_has_moved_on_is_not_overwritten(wrong: dict[str, Any]) -> None:
    job = FinishedJobFactory(state="dead")
    given = {"seen": job.arguments, "lease": job.lease, "version": 1, **wrong}

    assert operate.edit(job.id, "{}", **given) is False

    assert FinishedJob.objects.get().arguments == job.arguments


# Queues and workers ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_pause_can_be_changed_and_ended() -> None:
    until = timezone.now() + timedelta(hours=1)

    assert operate.pause("mail", by="anna", reason="the provider is down")
    assert operate.pause("mail", by="bert", until=until)

    assert (Queue.objects.get().by, Queue.objects.get().until) == ("bert", until)
    assert operate.resume("mail") is True
    assert operate.resume("mail") is False


@pytest.mark.django_db
def test_a_queue_is_cleared_in_steps_and_what_runs_goes_on() -> None:
    for _ in range(3):
        JobFactory(queue="mail")
    JobFactory(queue="mail", scheduled=True)
    running, other = JobFactory(queue="mail", running=True), JobFactory()

    assert operate.clear("mail", by="anna", limit=2) == 2
    assert operate.clear("mail", by="anna", limit=100) == 2
    assert operate.clear("mail") == 0

    assert set(Job.objects.values_list("pk", flat=True)) == {running.id, other.id}
    assert {job.error for job in FinishedJob.objects.all()} == {"cancelled by anna: the queue was cleared"}


@pytest.mark.django_db
def test_a_worker_is_told() -> None:
    worker = WorkerFactory()

    assert operate.tell_worker(worker.pk, Worker.Wish.QUIET) is True
    assert operate.tell_worker(worker.pk + 1, Worker.Wish.STOP) is False
    assert Worker.objects.get().wish == "quiet"


def test_lanes_leave_out_what_is_paused() -> None:
    lanes = Lanes(["a", "b"]).next()

    assert unpaused(lanes, "") == lanes
    assert {lane[0] for lane in unpaused(lanes, "a\nc")} == {"b"}
    assert unpaused(lanes, ALL_QUEUES) == []


# The keeper's side ----------------------------------------------------------------------------------------------------


class Heard(Channel):
    """What the supervisor would be told."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)


@pytest.fixture
def orders() -> Orders:
    return Orders(Board(2, 2), Heard())


def heard(orders: Orders) -> list[dict[str, Any]]:
    assert isinstance(orders.channel, Heard)
    return orders.channel.messages


def test_paused_queues_come_to_the_board_and_leave_it(ours: Session, orders: Orders) -> None:
    operate.pause("mail")
    operate.pause("late", until=timezone.now() - timedelta(seconds=1))
    orders.look(ours, 1)
    assert orders.board.paused == "mail"

    operate.resume("mail")
    orders.look(ours, 1)
    assert orders.board.paused == ""


def test_a_quiet_worker_takes_nothing_and_one_that_is_to_stop_says_so(ours: Session, orders: Orders) -> None:
    worker = WorkerFactory()
    operate.tell_worker(worker.pk, Worker.Wish.QUIET)
    orders.look(ours, worker.pk)
    assert orders.board.paused == ALL_QUEUES
    assert heard(orders) == []

    operate.tell_worker(worker.pk, Worker.Wish.STOP)
    orders.look(ours, worker.pk)
    assert heard(orders) == [{"stop": True}]


def test_the_worker_that_runs_a_job_is_told_to_stop_it(ours: Session, orders: Orders) -> None:
    mine, theirs = JobFactory(running=True), JobFactory(running=True, worker=2)
    operate.cancel([mine.id, theirs.id], by="anna")

    orders.look(ours, 1)

    (told,) = heard(orders)
    assert told == {"cancel": str(mine.id), "lease": 1, "claimer": 11, "reason": "cancelled by anna"}
    assert Cancellation.objects.count() == 2


@pytest.mark.parametrize("happened", ["failed", "handed_back", "crashed"])
def test_a_job_that_stops_running_by_itself_is_cancelled_all_the_same(
    ours: Session, orders: Orders, happened: str
) -> None:
    made = JobFactory(max_attempts=3)
    (job,) = claim(ours, 1)
    operate.cancel([made.id], by="anna")
    conclude(ours, [outcome(job, happened)])

    orders.look(ours, 2)
    orders.look(ours, 2)

    assert state_of(made.id) == State.CANCELLED
    assert not Cancellation.objects.exists()


def test_a_wish_for_a_job_that_has_ended_is_forgotten(ours: Session, orders: Orders) -> None:
    made = JobFactory()
    (job,) = claim(ours, 1)
    operate.cancel([made.id])
    conclude(ours, [outcome(job, "succeeded")])

    orders.look(ours, 1)

    assert state_of(made.id) == State.SUCCEEDED
    assert not Cancellation.objects.exists()
