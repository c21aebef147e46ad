"""Idempotency keys: the same task and key is one job, whoever enqueues it, and nobody waits for it."""

from __future__ import annotations

import enum
import json
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import transaction
from django.utils import timezone

from jobs.errors import InvalidOption
from jobs.ids import id_for_key, new_id
from jobs.intake import accept
from jobs.models import FinishedJob, Job, Key
from outbox.models import Message, SetAsideMessage
from outbox.relay import Moved, Written, step
from outbox.session import Session, session_on
from tests import tasks
from tests.factories import FinishedJobFactory, in_home
from tests.support.committing import _django_db_helper, on_default  # noqa: F401
from tests.support.observer import at_once, nobody_waits, observer
from tests.support.sql import a_cursor
from tests.support.wait import wait_until

pytestmark = on_default

keyed = tasks.noop.using(idempotency_key="order-42")


class Name(str, enum.Enum):  # noqa: UP042  not StrEnum: its format() is not its value
    A = "order-42"


def finish(job_id: UUID) -> None:
    """As the worker does: out of the queue, into the history."""
    job = Job.objects.get(pk=job_id)
    FinishedJobFactory(id=job.id, task=job.task, idempotency_key=job.idempotency_key)
    job.delete()


@contextmanager
def another_relay_in_the_middle(handle_id: UUID, *, commits: bool) -> Any:
    """It has taken the key and made the job of a message of its own, and has not committed yet."""
    headers = json.dumps(
        {"v": 1, "task": "tests.tasks.noop", "queue": "default", "key": "order-42", "priority": 0, "max_attempts": 1}
    )
    message = Written(1, handle_id, headers, '{"args":[1],"kwargs":{}}', timezone.now())
    with observer() as other, suppress(RuntimeError), other.transaction():
        for query in accept([message]).queries:
            other.execute(query.sql, query.params)  # type: ignore[arg-type]
        yield
        if not commits:
            raise RuntimeError


def somebody_waits() -> bool:
    with a_cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def test_the_same_task_and_key_is_the_same_id_for_everybody() -> None:
    handles = [keyed.enqueue(n) for n in range(3)]

    assert len({handle.id for handle in handles}) == 1
    assert handles[0] == handles[1]


def test_the_id_is_part_of_the_contract_and_never_changes() -> None:
    assert str(id_for_key("shop.tasks.send", "order-42")) == "90f14460-5371-561e-bdb0-19013364975b"


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ("tests.tasks.noop", "order-43"),
        ("tests.tasks.noop", "Order-42"),
        ("tests.tasks.noop", "order-42 "),
        ("tests.tasks.noop", "order\n42"),
        ("tests.tasks.add", "order-42"),
        ("tests.tasks.no", "oporder-42"),
        ("tests.tasks.noop.order", "42"),
    ],
)
def test_another_task_or_key_is_another_job(task: str, key: str) -> None:
    assert id_for_key(task, key) != id_for_key("tests.tasks.noop", "order-42")


def test_a_letter_in_two_spellings_is_two_keys() -> None:
    assert id_for_key("a", "\u00e4") != id_for_key("a", "a\u0308")


def test_a_job_without_a_key_is_its_own(session: Session) -> None:
    tasks.noop.enqueue_many([()] * 3)

    assert step(session, accept, 10) == Moved(3, 0)
    assert (Job.objects.count(), Key.objects.count()) == (3, 0)


def test_in_one_batch_it_is_one_job_and_the_first_one(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    handle = keyed.using(priority="high").enqueue(1)
    keyed.using(priority="low").enqueue(2)
    other = tasks.noop.enqueue(3)

    assert step(session, accept, 10) == Moved(3, 0)

    job = Job.objects.get(pk=handle.id)
    assert (json.loads(job.arguments)["args"], job.priority, job.idempotency_key) == ([1], 50, "order-42")
    assert {job.id for job in Job.objects.all()} == {handle.id, other.id}
    assert not Message.objects.exists() and not SetAsideMessage.objects.exists()
    assert caplog.records == []  # and no batch was refused on the way


def test_over_two_batches_it_is_one_job(session: Session) -> None:
    handle = keyed.enqueue(1)
    step(session, accept, 10)
    keyed.enqueue(2)

    assert step(session, accept, 10) == Moved(1, 0)

    assert json.loads(Job.objects.get().arguments)["args"] == [1]
    assert in_home(handle.id) == ["jobs_job"]


def test_after_the_job_has_ended_it_is_still_one_job(session: Session) -> None:
    handle = keyed.enqueue(1)
    step(session, accept, 10)
    finish(handle.id)

    keyed.enqueue(2)
    step(session, accept, 10)

    assert in_home(handle.id) == ["jobs_finishedjob"]


def test_in_bulk_it_is_one_job(session: Session) -> None:
    handles = tasks.noop.enqueue_many([(n,) for n in range(100)], idempotency_keys=[f"k{n % 10}" for n in range(100)])

    step(session, accept, 33)
    while step(session, accept, 33).total:
        pass

    assert len({handle.id for handle in handles}) == Job.objects.count() == Key.objects.count() == 10
    assert sorted(json.loads(job.arguments)["args"][0] for job in Job.objects.all()) == list(range(10))


def test_one_by_one_it_is_one_job_too(session: Session) -> None:
    handle = keyed.enqueue(1)
    keyed.enqueue(2)
    Message.objects.create(uid=new_id(), body='{"args":[],"kwargs":{}}', headers=json.dumps(
        {"v": 1, "task": "a", "queue": "default", "key": "a\x00"}
    ))  # fmt: skip

    assert step(session, accept, 10) == Moved(2, 1)

    assert [job.id for job in Job.objects.all()] == [handle.id]


def test_the_row_of_the_key_says_whose_it_is_and_how_long(session: Session, settings: Any) -> None:
    settings.JOBS = {**settings.JOBS, "KEEP_KEYS": timedelta(days=2)}
    handle = keyed.enqueue()
    step(session, accept, 10)

    key = Key.objects.get()

    assert (key.id, key.task, key.key) == (handle.id, "tests.tasks.noop", "order-42")
    assert timedelta(days=1.9) < key.expires_at - key.accepted_at < timedelta(days=2.1)


def test_a_key_may_be_kept_for_ever(session: Session, settings: Any) -> None:
    settings.JOBS = {**settings.JOBS, "KEEP_KEYS": None}
    keyed.enqueue()

    step(session, accept, 10)

    assert Key.objects.get().expires_at is None


def test_a_rolled_back_key_is_not_spent(session: Session) -> None:
    with transaction.atomic():
        keyed.enqueue(1)
        transaction.set_rollback(True)
    keyed.enqueue(2)

    step(session, accept, 10)

    assert json.loads(Job.objects.get().arguments)["args"] == [2]


@pytest.mark.postgresql("two transactions that write are open at once")
@pytest.mark.parametrize("many", [False, True])
def test_a_request_never_waits_for_another_one_with_the_same_key(many: bool) -> None:
    def again() -> object:
        if many:
            return tasks.noop.enqueue_many([(2,)], idempotency_keys=["order-42"])
        return keyed.enqueue(2)

    nobody_waits(lambda: keyed.enqueue(1), again)


@pytest.mark.postgresql("two transactions that write are open at once")
def test_a_request_never_waits_for_a_relay_that_holds_its_key() -> None:
    with another_relay_in_the_middle(keyed.enqueue().id, commits=True), transaction.atomic():
        with a_cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1ms'")
        keyed.enqueue(2)


@pytest.mark.postgresql("two transactions that write are open at once")
@pytest.mark.parametrize(("commits", "arguments"), [(True, [1]), (False, [2])])
def test_a_relay_that_meets_the_uncommitted_key_of_another_waits_and_makes_one_job(
    commits: bool, arguments: list[int]
) -> None:
    handle = keyed.enqueue(2)
    moved: list[Moved] = []

    def relaying() -> None:
        own = session_on("default")
        try:
            moved.append(step(own, accept, 10))
        finally:
            own.close()

    with another_relay_in_the_middle(handle.id, commits=commits):
        thread = threading.Thread(target=relaying)
        thread.start()
        wait_until(somebody_waits)
    thread.join(10)

    assert moved == [Moved(1, 0)]
    assert json.loads(Job.objects.get().arguments)["args"] == arguments
    assert in_home(handle.id) == ["jobs_job"]


def test_many_callers_and_two_relays_at_once_make_one_job_of_each_key() -> None:
    calling = 2

    def caller(number: int) -> Callable[[], set[UUID]]:
        def enqueue() -> set[UUID]:
            nonlocal calling
            ids = set()
            for n in range(60):
                with transaction.atomic():
                    ids.add(tasks.noop.using(idempotency_key=f"k{n % 20}").enqueue(number).id)
                    ids.add(tasks.noop.using(idempotency_key=f"k{(60 - n) % 20}").enqueue(number).id)
            calling -= 1
            return ids

        return enqueue

    def relay() -> set[UUID]:
        own = session_on("default")
        try:
            while True:
                last = calling == 0
                try:
                    if not step(own, accept, 7).total and last:
                        return set()
                except psycopg.errors.DeadlockDetected:
                    pass  # the loop tries again
        finally:
            own.close()

    first, second, *_ = at_once(caller(1), caller(2), relay, relay)

    assert first == second == {job.id for job in Job.objects.all()}
    assert len(first) == Key.objects.count() == 20
    assert not Message.objects.exists() and not SetAsideMessage.objects.exists()


def test_two_relays_that_take_the_same_keys_in_turn_never_block_one_another_for_good() -> None:
    keys = [f"k{n}" for n in range(200)]
    tasks.noop.enqueue_many([(1,)] * 200, idempotency_keys=keys)
    tasks.noop.enqueue_many([(2,)] * 200, idempotency_keys=keys[::-1])

    def relay() -> int:
        own = session_on("default")
        try:
            return sum(moved.total for moved in iter(lambda: step(own, accept, 50), Moved(0, 0)))
        finally:
            own.close()

    assert sum(at_once(relay, relay, relay)) == 400
    assert Job.objects.count() == Key.objects.count() == 200


def test_a_key_that_is_text_of_another_kind_gives_the_id_of_its_text() -> None:
    try:
        handle = tasks.noop.using(idempotency_key=Name.A).enqueue()
    except InvalidOption:
        return

    assert json.loads(Message.objects.get().headers)["key"] == "order-42"
    assert handle.id == keyed.enqueue().id


def test_the_longest_key_in_any_script(session: Session) -> None:
    handle = tasks.noop.using(idempotency_key="😀" * 200).enqueue()

    assert step(session, accept, 10) == Moved(1, 0)
    assert Key.objects.get().key == "😀" * 200
    assert Job.objects.get().id == handle.id


def test_a_job_whose_key_is_enqueued_again_is_as_finished_as_it_was(session: Session) -> None:
    handle = keyed.enqueue(1)
    step(session, accept, 10)
    finish(handle.id)
    handle.refresh()
    before = (handle.status, handle.is_finished, handle.return_value)

    keyed.enqueue(2)  # and no relay has come by yet
    handle.refresh()

    assert (handle.status, handle.is_finished) == before[:2]
    assert handle.return_value is None
    assert FinishedJob.objects.filter(pk=handle.id).exists()
