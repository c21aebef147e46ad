"""Idempotency keys that hold for a time, or until their job has ended. Rows P12, P38, U22 and A15."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction

from jobs import operate
from jobs.claim import Claimed
from jobs.context import JobContext
from jobs.envelope import unpack_headers
from jobs.errors import InvalidOption
from jobs.execute import context_of
from jobs.ids import id_for_generation, id_for_key, new_id
from jobs.intake import accept
from jobs.models import FinishedJob, Job, Key
from jobs.prune import prune
from jobs.tasks import Task
from outbox.errors import Undeliverable
from outbox.models import Message, SetAsideMessage
from outbox.relay import Moved, step
from outbox.session import Query, Session, session_on
from tests import tasks
from tests.factories import in_home
from tests.support.floor import DEFAULTS, broken, claim, conclude, outcome
from tests.support.observer import at_once, beside, nobody_waits
from tests.support.sql import a_cursor

pytest_plugins = ["tests.support.ours"]

plain = tasks.noop.using(idempotency_key="order-42")
for_a_minute = plain.using(unique_for=60)
while_it_lives = plain.using(until="finished")

both = pytest.mark.parametrize("keyed", [for_a_minute, while_it_lives], ids=["unique_for", "until"])


def accepted(session: Session) -> None:
    while (moved := step(session, accept, 100)).total:
        assert moved.set_aside == 0


def window_ends() -> None:
    with a_cursor() as cursor:
        cursor.execute("UPDATE jobs_key SET expires_at = clock_timestamp() - interval '1 millisecond'")


def job_ends(session: Session, **ending: Any) -> Claimed:
    (job,) = claim(session, 1)
    conclude(session, [outcome(job, **{"happened": "succeeded", **ending})])
    return job


def generations() -> list[int]:
    return list(Key.objects.order_by("generation").values_list("generation", flat=True))


# One job as long as it holds -----------------------------------------------------------------------------------------


@both
def test_while_it_holds_it_is_one_job(ours: Session, keyed: Task[Any, Any]) -> None:
    first = keyed.enqueue(1)
    second = keyed.enqueue(2)
    accepted(ours)
    third = keyed.enqueue(3)
    accepted(ours)

    assert first.id == second.id == third.id == id_for_generation("tests.tasks.noop", "order-42", 1)
    assert json.loads(Job.objects.get().arguments)["args"] == [1]
    assert generations() == [1]


def test_the_id_is_part_of_the_contract_and_never_changes() -> None:
    assert str(id_for_generation("shop.tasks.send", "order-42", 3)) == "60113414-b8fe-5b2a-9967-cdfb4013629f"


def test_no_generation_is_another_key() -> None:
    made = {id_for_generation("a", "b", 1), id_for_generation("a", "b", 11), id_for_generation("1\na", "b", 1)}

    assert len({*made, id_for_key("a", "b"), id_for_key("a", "b\n1")}) == 5


def test_after_its_window_a_key_is_a_new_job(ours: Session) -> None:
    ids = []
    for _ in range(3):
        ids.append(for_a_minute.enqueue().id)
        accepted(ours)
        assert for_a_minute.enqueue().id == ids[-1]
        accepted(ours)
        window_ends()

    assert len(set(ids)) == 3 == Job.objects.count()
    assert generations() == [1, 2, 3]


def test_a_window_goes_on_when_its_job_has_ended(ours: Session) -> None:
    handle = for_a_minute.enqueue(1)
    accepted(ours)
    job_ends(ours)

    assert for_a_minute.enqueue(2).id == handle.id
    accepted(ours)

    assert in_home(handle.id) == ["jobs_finishedjob"]


@pytest.mark.parametrize("unique_for", [90, timedelta(seconds=90), 90.5])
def test_a_window_is_so_long_by_the_clock_of_the_database(ours: Session, unique_for: Any) -> None:
    plain.using(unique_for=unique_for).enqueue()
    accepted(ours)

    key = Key.objects.get()

    assert key.expires_at is not None
    assert 89.5 < (key.expires_at - key.accepted_at).total_seconds() < 91
    assert (key.task, key.key, key.generation, key.until) == ("tests.tasks.noop", "order-42", 1, "")


@pytest.mark.parametrize(
    "ending", [{"happened": "succeeded"}, {"happened": "failed", "retry_in": None}, {"happened": "cancelled"}]
)
def test_once_its_job_has_ended_in_any_way_the_next_is_a_new_one(ours: Session, ending: dict[str, Any]) -> None:
    first = while_it_lives.enqueue(1)
    accepted(ours)
    assert job_ends(ours, **ending).id == first.id

    second = while_it_lives.enqueue(2)
    accepted(ours)

    assert second.id != first.id
    assert in_home(second.id) == ["jobs_job"]
    assert while_it_lives.enqueue(3).id == second.id


@pytest.mark.parametrize("state", ["scheduled", "ready", "running", "retrying"])
def test_it_lives_in_each_of_its_states(ours: Session, state: str) -> None:
    handle = while_it_lives.using(delay=5 if state == "scheduled" else 0, max_attempts=2).enqueue()
    accepted(ours)
    if state in ("running", "retrying"):
        (job,) = claim(ours, 1)
    if state == "retrying":
        conclude(ours, [outcome(job, "failed", retry_in=60.0)])
    assert Job.objects.get().state == state

    assert while_it_lives.enqueue().id == handle.id


def test_discarded_it_lives_no_more(ours: Session) -> None:
    first = while_it_lives.enqueue()
    accepted(ours)
    job_ends(ours, happened="cancelled")
    operate.discard([first.id])

    second = while_it_lives.enqueue()
    accepted(ours)

    assert in_home(first.id) == []
    assert in_home(second.id) == ["jobs_job"]


def test_a_job_that_a_person_has_requeued_is_beside_a_newer_one(ours: Session) -> None:
    first = while_it_lives.enqueue()
    accepted(ours)
    job_ends(ours, happened="cancelled")
    second = while_it_lives.enqueue()
    accepted(ours)
    operate.requeue([first.id])

    assert while_it_lives.enqueue().id == second.id != first.id
    assert Job.objects.count() == 2


def test_how_long_a_key_holds_is_said_by_the_enqueue_that_made_the_job(ours: Session) -> None:
    handle = for_a_minute.enqueue()
    accepted(ours)
    job_ends(ours)

    assert plain.using(unique_for=0.001).enqueue().id == handle.id
    assert while_it_lives.enqueue().id == handle.id
    accepted(ours)
    window_ends()
    assert while_it_lives.enqueue().id != handle.id


def test_a_plain_key_is_another_one(ours: Session) -> None:
    ids = {plain.enqueue().id, for_a_minute.enqueue().id}
    accepted(ours)

    assert len(ids) == 2 == Job.objects.count() == Key.objects.count()
    assert generations() == [0, 1]


def test_of_another_task_it_is_another_job(ours: Session) -> None:
    handle = while_it_lives.enqueue()
    other = tasks.leave_mark.using(idempotency_key="order-42", until="finished").enqueue("x")
    accepted(ours)

    assert handle.id != other.id
    assert generations() == [1, 1]


@both
def test_the_key_is_not_what_to_give_an_outside_service(ours: Session, keyed: Task[Any, Any]) -> None:
    """The next job has the same key, and its effect is another one: the id stands for the job."""
    handle = keyed.enqueue()
    accepted(ours)
    (job,) = claim(ours, 1)

    assert context_of(job).idempotency_key == str(handle.id)
    assert keyed.context(handle.id) == JobContext(
        handle.id, "", 1, 1, "tests.tasks.noop", "default", 0, "tests.tasks.noop", 0
    )
    assert plain.context(handle.id).idempotency_key == "order-42"


# In bulk -------------------------------------------------------------------------------------------------------------


def test_in_bulk_each_key_is_one_job(ours: Session) -> None:
    task = tasks.noop.using(until="finished")
    keys = [f"k{n % 10}" for n in range(100)]
    first = task.enqueue_many([(n,) for n in range(100)], idempotency_keys=keys)
    accepted(ours)
    conclude(ours, [outcome(job, "succeeded") for job in claim(ours, 5)])
    ended = set(FinishedJob.objects.values_list("id", flat=True))

    second = task.enqueue_many([(n,) for n in range(100)], idempotency_keys=keys)
    accepted(ours)

    assert len({handle.id for handle in first}) == len({handle.id for handle in second}) == 10
    kept = {handle.id for handle in first} & {handle.id for handle in second}
    assert kept == {handle.id for handle in first} - ended
    assert Job.objects.count() == 10


@pytest.mark.postgresql("COPY, which Django does not count")
def test_in_bulk_it_is_one_look_and_without_a_window_none(
    ours: Session, django_assert_num_queries: Callable[..., Any]
) -> None:
    calls, keys = [()] * 50, [f"k{n}" for n in range(50)]
    with django_assert_num_queries(3):  # the look, BEGIN, COMMIT, and a COPY that nobody counts
        tasks.noop.using(unique_for=60).enqueue_many(calls, idempotency_keys=keys)
    with django_assert_num_queries(1):
        plain.enqueue()
    with django_assert_num_queries(2):
        for_a_minute.enqueue()


# Under a race --------------------------------------------------------------------------------------------------------


@pytest.mark.postgresql("two transactions that write are open at once")
@both
@pytest.mark.parametrize("many", [False, True])
def test_no_request_waits_for_another(ours: Session, keyed: Task[Any, Any], many: bool) -> None:
    def again() -> object:
        if many:
            return keyed.using(idempotency_key=None).enqueue_many([(2,)], idempotency_keys=["order-42"])
        return keyed.enqueue(2)

    nobody_waits(lambda: keyed.enqueue(1), again)


LEFT = Query("SELECT 1 FROM outbox_message UNION SELECT 1 FROM jobs_job")


class Life(threading.Thread):
    """A relay and a worker: what is written is accepted, claimed, finished, and looked at again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.most_alive = 0
        self.ended = 0

    def run(self) -> None:
        session = session_on("default", statement_timeout=20)
        try:
            while not self.over.is_set() or session.glance(LEFT):
                assert step(session, accept, 200).set_aside == 0
                ((alive,),) = session.glance(Query("SELECT count(*) FROM jobs_job"))
                self.most_alive = max(self.most_alive, alive)
                self.ended += len(conclude(session, [outcome(job, "succeeded") for job in claim(session, 10)]))
        finally:
            session.close()


@pytest.fixture
def life(ours: Session) -> Iterator[Life]:
    made = Life()
    yield made
    made.over.set()
    if made.is_alive():
        made.join(20)


def callers(number: int, rounds: int, enqueue: Callable[[int], UUID]) -> list[UUID]:
    """Threads that all enqueue, `rounds` times each, with connections of their own."""

    def call(n: int) -> Callable[[], list[UUID]]:
        def some() -> list[UUID]:
            try:
                return [enqueue(n) for _ in range(rounds)]
            finally:
                connections.close_all()

        return some

    return [each for ids in at_once(*(call(n) for n in range(number))) for each in ids]


def test_64_threads_with_one_plain_key_while_its_job_comes_and_goes_have_one_id(ours: Session, life: Life) -> None:
    life.start()

    ids = callers(64, 5, lambda n: plain.enqueue(n).id)

    life.over.set()
    life.join(20)
    assert len(ids) == 320 and set(ids) == {id_for_key("tests.tasks.noop", "order-42")}
    assert life.ended == FinishedJob.objects.count() == Key.objects.count() == 1
    assert not SetAsideMessage.objects.exists()
    assert broken(ours) == []


def test_64_threads_with_a_window_have_one_id(ours: Session, life: Life) -> None:
    life.start()

    ids = callers(64, 5, lambda n: for_a_minute.enqueue(n).id)

    life.over.set()
    life.join(20)
    assert len(set(ids)) == life.ended == FinishedJob.objects.count() == Key.objects.count() == 1
    assert broken(ours) == []


def test_64_threads_until_it_has_finished_never_have_two_that_live(ours: Session, life: Life) -> None:
    """The promise: an enqueue gives the id of a job that had not ended when it looked, and no two are alive."""
    gone: list[UUID] = []

    def enqueue(n: int) -> UUID:
        before = set(FinishedJob.objects.values_list("id", flat=True))
        handle = while_it_lives.enqueue(n)
        if handle.id in before:
            gone.append(handle.id)
        return handle.id

    life.start()

    ids = callers(64, 5, enqueue)

    life.over.set()
    life.join(20)
    assert gone == []
    assert life.most_alive == 1 and life.ended > 1
    assert set(ids) == set(FinishedJob.objects.values_list("id", flat=True))  # and each of them has run
    assert generations() == list(range(1, life.ended + 1))
    assert broken(ours) == []


@pytest.mark.postgresql("two transactions that write are open at once")
def test_an_end_between_the_look_and_the_commit_is_not_seen(ours: Session) -> None:
    """What the promise does not say: the job may have ended, and read what it read, before the caller's commit."""
    first = while_it_lives.enqueue(1)
    accepted(ours)
    with transaction.atomic():
        second = while_it_lives.enqueue(2)
        job_ends(ours)
    accepted(ours)

    assert first.id == second.id
    assert in_home(first.id) == ["jobs_finishedjob"]


@pytest.mark.postgresql("two transactions that write are open at once")
def test_a_look_that_is_long_past_makes_no_second_job(ours: Session) -> None:
    """A transaction looked, slept while the next generation came and went, and commits: the message is that one's."""
    with transaction.atomic():
        late = while_it_lives.enqueue(1)

        def meanwhile() -> None:
            assert while_it_lives.enqueue(2).id == late.id
            accepted(ours)
            job_ends(ours)
            assert while_it_lives.enqueue(3).id != late.id

        with beside(meanwhile):
            pass
    accepted(ours)

    assert (FinishedJob.objects.count(), Job.objects.count()) == (1, 1)
    assert generations() == [1, 2]


def test_rolled_back_it_is_not_spent(ours: Session) -> None:
    with transaction.atomic():
        handle = for_a_minute.enqueue(1)
        transaction.set_rollback(True)

    assert for_a_minute.enqueue(2).id == handle.id
    accepted(ours)

    assert json.loads(Job.objects.get().arguments)["args"] == [2]


# Forgotten -----------------------------------------------------------------------------------------------------------


def test_retention_takes_what_holds_no_more_and_has_no_job(ours: Session) -> None:
    while_it_lives.enqueue()
    tasks.leave_mark.using(idempotency_key="x", unique_for=60).enqueue("x")
    accepted(ours)
    prune(ours, DEFAULTS)
    assert generations() == [1, 1]  # both jobs live

    for job in claim(ours, 2):
        conclude(ours, [outcome(job, "succeeded")])
    prune(ours, DEFAULTS)
    assert generations() == [1, 1]  # both are kept in the history

    FinishedJob.objects.all().delete()
    prune(ours, DEFAULTS)
    assert Key.objects.get().key == "x"  # its window goes on

    window_ends()
    prune(ours, DEFAULTS)
    assert not Key.objects.exists()
    handle = while_it_lives.enqueue()
    accepted(ours)
    assert in_home(handle.id) == ["jobs_job"]


# Refused where it is written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [0, -1, True, "1h", float("nan"), float("inf"), timedelta(0), timedelta(days=4000), []]
)
def test_a_window_that_is_none(wrong: Any) -> None:
    with pytest.raises(InvalidOption, match=r"unique_for=.*give seconds or a timedelta"):
        plain.using(unique_for=wrong)


@pytest.mark.parametrize("wrong", ["started", "", "Finished", True, 1])
def test_an_until_that_is_none(wrong: Any) -> None:
    with pytest.raises(InvalidOption, match=r'until=.*give "finished"'):
        plain.using(until=wrong)


def test_not_both() -> None:
    with pytest.raises(InvalidOption, match="both given"):
        for_a_minute.using(until="finished")
    assert for_a_minute.using(until="finished", unique_for=None).until == "finished"


@pytest.mark.parametrize("task", [tasks.noop.using(unique_for=60), tasks.noop.using(until="finished")])
@pytest.mark.parametrize(
    "enqueue",
    [
        lambda task: task.enqueue(),
        lambda task: task.enqueue_many([()]),
        lambda task: task.enqueue_many([(), ()], idempotency_keys=["a", None]),
    ],
)
def test_without_a_key_it_says_what_to_give(ours: Session, task: Any, enqueue: Callable[[Any], Any]) -> None:
    with pytest.raises(InvalidOption, match="says how long an idempotency key holds, and there is none"):
        enqueue(task)
    assert not Message.objects.exists()


GOOD = {"v": 1, "task": "a", "queue": "default", "key": "k", "generation": 1, "until": "finished"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"generation": 0},
        {"generation": -1},
        {"generation": 2**31},
        {"generation": "1"},
        {"generation": True},
        {"key": ""},
        {"until": "started"},
        {"until": ""},
        {"until": None},
        {"unique_for": 60},
        {"until": "", "unique_for": 0},
        {"until": "", "unique_for": -5},
        {"until": "", "unique_for": 1e300},
        {"until": "", "unique_for": "x"},
    ],
)
def test_the_gate_takes_no_window_that_is_none(wrong: dict[str, Any]) -> None:
    unpack_headers(json.dumps(GOOD))

    with pytest.raises(Undeliverable, match="not right"):
        unpack_headers(json.dumps({**GOOD, **wrong}))


def test_a_mixed_batch_one_by_one(ours: Session) -> None:
    handles = [plain.enqueue(), for_a_minute.enqueue(), while_it_lives.enqueue(), tasks.noop.enqueue()]
    Message.objects.create(uid=new_id(), body='{"args":[],"kwargs":{}}', headers=json.dumps(
        {"v": 1, "task": "a", "queue": "default", "key": "a\x00"}
    ))  # fmt: skip

    assert step(ours, accept, 10) == Moved(4, 1)

    assert {job.id for job in Job.objects.all()} == {handle.id for handle in handles}
    assert Job.objects.count() == 3
