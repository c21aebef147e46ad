"""The relay moves what is committed and only that; what cannot be moved is set aside and holds nobody up."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import transaction
from django.utils import timezone

from jobs.intake import CHANNEL, accept
from jobs.models import FinishedJob, Job, Key
from outbox import faults, relay
from outbox.errors import NoDestination, Undeliverable
from outbox.models import Message, SetAsideMessage
from outbox.relay import Delivery, Moved, Written, replay, step
from outbox.session import Query, Session, session_on
from tests import tasks
from tests.factories import FinishedJobFactory, JobFactory, MessageFactory, SetAsideMessageFactory, in_home
from tests.support.committing import _django_db_helper, on_default  # noqa: F401
from tests.support.database import on_sqlite
from tests.support.observer import at_once, listener, observer
from tests.support.sql import a_cursor

pytestmark = on_default


def headers(**changed: Any) -> str:
    """Good headers with something changed; None leaves a key out."""
    base = {"v": 1, "task": "tests.tasks.noop", "queue": "default", "priority": 0, "max_attempts": 1}
    return json.dumps({name: value for name, value in {**base, **changed}.items() if value is not None})


def in_queue() -> list[UUID]:
    """The ids of the queue's jobs in the queue's order."""
    return list(Job.objects.order_by("ready_at", "id").values_list("id", flat=True))


@contextmanager
def renamed(table: str) -> Iterator[None]:
    with observer() as other:
        other.execute(f"ALTER TABLE {table} RENAME TO gone_for_a_while")
        try:
            yield
        finally:
            other.execute(f"ALTER TABLE gone_for_a_while RENAME TO {table}")


def test_a_committed_message_becomes_a_job_with_its_id(session: Session) -> None:
    message = MessageFactory(
        headers=headers(
            task="any.task", queue="mail", priority=-7, max_attempts=3, source_name="check/out", depth=2,
            parent="01890000-0000-7000-8000-000000000001",
        ),
        body='{"args":[1e+16,-0.0],"kwargs":{"b":1,"a":2}}',
    )  # fmt: skip

    assert step(session, accept, 10) == Moved(1, 0)

    job = Job.objects.get()
    assert in_home(message.uid) == ["jobs_job"]
    assert (job.id, job.state, job.task, job.queue) == (message.uid, "ready", "any.task", "mail")
    assert (job.priority, job.max_attempts, job.source_name, job.depth) == (-7, 3, "check/out", 2)
    assert job.parent == UUID("01890000-0000-7000-8000-000000000001")
    assert job.arguments == '{"args":[1e+16,-0.0],"kwargs":{"b":1,"a":2}}'
    assert job.enqueued_at == message.written_at
    assert (job.attempts, job.crashes, job.lease, job.error, job.run_after) == (0, 0, 0, "", None)


def test_nothing_to_move_is_nothing(session: Session) -> None:
    assert step(session, accept, 10) == Moved(0, 0)


def test_headers_that_are_not_known_are_no_reason_to_refuse(session: Session) -> None:
    message = MessageFactory(headers=headers(trace="abc", v=1))

    assert step(session, accept, 10) == Moved(1, 0)
    assert in_queue() == [message.uid]


@pytest.mark.postgresql("row locks: another transaction is open meanwhile")
def test_an_uncommitted_message_is_left_and_found_later(session: Session) -> None:
    with transaction.atomic():
        early = MessageFactory()
        with observer() as other:
            row = (late := uuid4(), headers(), '{"args":[],"kwargs":{}}')
            other.execute("INSERT INTO outbox_message (uid, headers, body) VALUES (%s, %s, %s)", row)

        assert step(session, accept, 10) == Moved(1, 0)
        with observer() as other:
            assert other.execute("SELECT id FROM jobs_job").fetchall() == [(late,)]

    assert step(session, accept, 10) == Moved(1, 0)
    assert in_queue() == [late, early.uid]


def test_a_rolled_back_message_is_never_moved(session: Session) -> None:
    with transaction.atomic():
        MessageFactory()
        transaction.set_rollback(True)

    assert step(session, accept, 10) == Moved(0, 0)


def test_the_queue_has_the_order_of_writing(session: Session) -> None:
    handles = tasks.noop.enqueue_many([(n,) for n in range(300)])

    assert step(session, accept, 1000) == Moved(300, 0)

    with a_cursor() as cursor:
        cursor.execute("SELECT id FROM jobs_job ORDER BY ready_at, ctid")
        assert [row[0] for row in cursor.fetchall()] == [handle.id for handle in handles]


def test_the_queue_has_the_order_of_writing_also_with_keys(session: Session) -> None:
    handles = tasks.noop.enqueue_many([(n,) for n in range(300)], idempotency_keys=[f"k{n}" for n in range(300)])

    assert step(session, accept, 1000) == Moved(300, 0)

    with a_cursor() as cursor:
        cursor.execute("SELECT id FROM jobs_job ORDER BY ready_at, ctid")
        assert [row[0] for row in cursor.fetchall()] == [handle.id for handle in handles]


def test_a_batch_takes_the_eldest_and_no_more_than_its_size(session: Session) -> None:
    handles = tasks.noop.enqueue_many([(n,) for n in range(5)])

    moved = [step(session, accept, 2) for _ in range(4)]

    assert moved == [Moved(2, 0), Moved(2, 0), Moved(1, 0), Moved(0, 0)]
    assert in_queue() == [handle.id for handle in handles]


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"delay": 3600.0}, "scheduled"),
        ({"delay": 0.0}, "ready"),
        ({"run_after": "2999-01-01T00:00:00+00:00"}, "scheduled"),
        ({"run_after": "2001-01-01T00:00:00+02:00"}, "ready"),
    ],
)
def test_what_is_due_later_is_scheduled(session: Session, changed: dict[str, Any], state: str) -> None:
    MessageFactory(headers=headers(**changed))

    step(session, accept, 10)

    assert Job.objects.get().state == state


def test_a_delay_counts_from_the_writing_and_not_from_the_relaying(session: Session) -> None:
    MessageFactory(headers=headers(delay=60), written_at=timezone.now() - timedelta(seconds=61))

    step(session, accept, 10)

    assert Job.objects.get().state == "ready"


@pytest.mark.postgresql("NOTIFY")
def test_a_delivery_wakes_the_workers(session: Session) -> None:
    MessageFactory()
    with listener(CHANNEL) as heard:
        step(session, accept, 10)

        assert heard(5) == 1


@pytest.mark.postgresql("NOTIFY")
@pytest.mark.parametrize(("at_hand", "expected"), [(0, 1), (2, 1), (3, 0)])
def test_nobody_is_called_for_what_is_waited_for(session: Session, at_hand: int, expected: int) -> None:
    for _ in range(3):
        MessageFactory()
    with listener(CHANNEL) as heard:
        step(session, accept, 10, lambda: at_hand)

        assert heard(0.3 if not expected else 5) == expected


@pytest.mark.postgresql("NOTIFY")
def test_one_by_one_they_wake_the_workers_too(session: Session) -> None:
    MessageFactory()
    MessageFactory(uid=JobFactory().id)  # refused in the batch, so the step goes on one by one
    with listener(CHANNEL) as heard:
        assert step(session, accept, 10) == Moved(1, 1)

        assert heard(5) == 1


@pytest.mark.postgresql("two that write at once: SQLite has one writer")
def test_two_relays_at_once_share_the_messages_and_lose_none() -> None:
    handles = tasks.noop.enqueue_many([(n,) for n in range(3000)])

    def relaying() -> int:
        own = session_on("default")
        try:
            return sum(moved.delivered for moved in iter(lambda: step(own, accept, 40), Moved(0, 0)))
        finally:
            own.close()

    moved = at_once(relaying, relaying)

    assert sum(moved) == 3000
    assert all(moved) or on_sqlite(), "on SQLite the turns are as they come"
    assert not Message.objects.exists()
    assert set(in_queue()) == {handle.id for handle in handles}


def test_what_is_relayed_while_many_write_is_what_they_committed() -> None:
    writing = 4

    def writer(seed: int) -> Callable[[], set[UUID]]:
        def write() -> set[UUID]:
            nonlocal writing
            chance = random.Random(seed)
            kept = set()
            for n in range(40):
                with transaction.atomic():
                    ids = {handle.id for handle in tasks.noop.enqueue_many([(n,)] * chance.randrange(1, 4))}
                    ids.add(tasks.noop.enqueue(n).id)
                    with a_cursor() as cursor:  # so that numbers commit out of their order
                        cursor.execute("SELECT pg_sleep(%s)", [chance.random() * 0.01])
                    if chance.random() < 0.2:
                        transaction.set_rollback(True)
                    else:
                        kept |= ids
            writing -= 1
            return kept

        return write

    def relaying() -> set[UUID]:
        own = session_on("default")
        try:
            while True:
                last = writing == 0
                if not step(own, accept, 10).total and last:
                    return set()
        finally:
            own.close()

    kept = at_once(*(writer(seed) for seed in range(4)), relaying, relaying)

    assert set(in_queue()) == set.union(*kept)
    assert Job.objects.count() == sum(map(len, kept))
    assert not Message.objects.exists()


@pytest.mark.postgresql("row locks: another transaction is open meanwhile")
def test_a_relay_takes_what_another_one_does_not_hold(session: Session) -> None:
    handles = tasks.noop.enqueue_many([(n,) for n in range(4)])

    with observer() as other, other.transaction():
        other.execute(relay.MOVE, (0, 3))  # another relay, in the middle of its move

        assert step(session, accept, 10) == Moved(1, 0)
        assert in_queue() == [handles[3].id]
        raise psycopg.Rollback

    assert step(session, accept, 10) == Moved(3, 0)
    assert len(in_queue()) == 4


@pytest.mark.postgresql("a server whose session can be ended")
def test_a_relay_that_dies_in_the_middle_has_moved_nothing(session: Session) -> None:
    tasks.noop.enqueue_many([(n,) for n in range(4)])

    def dying(messages: list[Written]) -> Delivery:
        with observer() as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (session.connection.info.backend_pid,))
        return accept(messages)

    with pytest.raises(psycopg.OperationalError):
        step(session, dying, 10)

    assert (Message.objects.count(), Job.objects.count(), SetAsideMessage.objects.count()) == (4, 0, 0)
    assert step(session, accept, 10) == Moved(4, 0)


# ---------------------------------------------------------------------------------------------------------------
# Poison.

POISON: dict[str, tuple[dict[str, Any], str]] = {
    "headers are no JSON": ({"headers": "{"}, "not JSON"),
    "headers are empty": ({"headers": ""}, "not JSON"),
    "headers are bytes of a pickle": ({"headers": "\u0080\u0004cos\nsystem\n(S'true'\ntR."}, "not JSON"),
    "headers are a list": ({"headers": "[]"}, "not a JSON object"),
    "headers are null": ({"headers": "null"}, "not a JSON object"),
    "headers nest without end": ({"headers": "[" * 100_000}, "not JSON"),
    "a number of 5,000 digits": ({"headers": headers()[:-1] + f', "depth": {"9" * 5000}}}'}, "not JSON"),
    "no version": ({"headers": headers(v=None)}, "version None"),
    "a later version": ({"headers": headers(v=2)}, "version 2"),
    "a version of many megabytes": ({"headers": headers(v="9" * 3_000_000)}, "version '999"),
    "no task": ({"headers": headers(task=None)}, "'task'"),
    "task is a number": ({"headers": headers(task=5)}, "headers are not right"),
    "task is a list": ({"headers": headers(task=["os.system"])}, "headers are not right"),
    "task is empty": ({"headers": headers(task="")}, "task ''"),
    "task is a path": ({"headers": headers(task="../x")}, "task '../x'"),
    "task is over-long": ({"headers": headers(task="a" * 201)}, "task 'aaa"),
    "task is a megabyte": ({"headers": headers(task="a" * 1_000_000)}, "task 'aaa"),
    "task has a line break": ({"headers": headers(task="tests.tasks.noop\n")}, r"noop\n'"),
    "no queue": ({"headers": headers(queue=None)}, "'queue'"),
    "queue is over-long": ({"headers": headers(queue="q" * 65)}, "queue 'qqq"),
    "queue has a blank": ({"headers": headers(queue="a b")}, "queue 'a b'"),
    "priority is a word": ({"headers": headers(priority="high")}, "priority 'high'"),
    "priority is true": ({"headers": headers(priority=True)}, "priority True"),
    "priority is out of range": ({"headers": headers(priority=101)}, "priority 101"),
    "priority is a fraction": ({"headers": headers(priority=0.5)}, "priority 0.5"),
    "no attempts": ({"headers": headers(max_attempts=0)}, "max_attempts 0"),
    "too many attempts": ({"headers": headers(max_attempts=40_000)}, "max_attempts 40000"),
    "source_name is over-long": ({"headers": headers(source_name="s" * 201)}, "source_name 'sss"),
    "source_name is markup": ({"headers": headers(source_name="<script>")}, "source_name '<script>'"),
    "source_name is a number": ({"headers": headers(source_name=5)}, "headers are not right"),
    "key is over-long": ({"headers": headers(key="k" * 201)}, "key 'kkk"),
    "key is a number": ({"headers": headers(key=5)}, "key 5"),
    "key has a NUL": ({"headers": headers(key="a\x00b")}, "NUL"),
    "key has a lone surrogate": ({"headers": headers(key="a\ud800b")}, "surrogate"),
    "delay is a word": ({"headers": headers(delay="soon")}, "headers are not right"),
    "delay is NaN": ({"headers": headers(delay=float("nan"))}, "NaN is not JSON"),
    "delay is for ever": ({"headers": headers(delay=float("inf"))}, "Infinity is not JSON"),
    "delay ends after the last year": ({"headers": headers(delay=8e11)}, "out of range"),
    "run_after is naive": ({"headers": headers(run_after="2999-01-01T00:00:00")}, "no time zone"),
    "run_after is no time": ({"headers": headers(run_after="tomorrow")}, "headers are not right"),
    "run_after is a number": ({"headers": headers(run_after=5)}, "headers are not right"),
    "parent is no id": ({"headers": headers(parent="me")}, "headers are not right"),
    "parent is a number": ({"headers": headers(parent=5)}, "headers are not right"),
    "depth is negative": ({"headers": headers(depth=-1)}, "depth -1"),
    "depth is out of range": ({"headers": headers(depth=32_768)}, "depth 32768"),
    "body is no JSON": ({"body": "{"}, "the body is not right"),
    "body is empty": ({"body": ""}, "the body is not right"),
    "body nests without end": ({"body": "[" * 100_000}, "nested too deep"),
    "body is a list": ({"body": "[[], {}]"}, "the body is not right"),
    "body without args": ({"body": '{"kwargs":{}}'}, "the body is not right"),
    "args is an object": ({"body": '{"args":{},"kwargs":{}}'}, "the body is not right"),
    "kwargs is a list": ({"body": '{"args":[],"kwargs":[]}'}, "the body is not right"),
    "a body number of 5,000 digits": ({"body": '{"args":[' + "9" * 5000 + '],"kwargs":{}}'}, "the body is not right"),
}


@pytest.mark.parametrize(("row", "reason"), POISON.values(), ids=POISON)
def test_a_poisoned_message_is_set_aside_with_its_reason_and_its_neighbours_are_delivered(
    session: Session, row: dict[str, Any], reason: str
) -> None:
    first = MessageFactory()
    bad = MessageFactory(**row)
    last = MessageFactory()

    assert step(session, accept, 10) == Moved(2, 1)

    assert in_queue() == [first.uid, last.uid]
    assert in_home(bad.uid) == ["outbox_setasidemessage"]
    aside = SetAsideMessage.objects.get()
    assert (aside.headers, aside.body, aside.written_at) == (bad.headers, bad.body, bad.written_at)
    assert reason in aside.error
    assert len(aside.error) <= 2000
    assert "Traceback" not in aside.error
    assert "object has no attribute" not in aside.error


def test_all_poisons_at_once_are_set_aside_and_the_others_delivered(session: Session) -> None:
    good = []
    for row, _ in POISON.values():
        good.append(MessageFactory().uid)
        MessageFactory(**row)

    assert step(session, accept, 1000) == Moved(len(POISON), len(POISON))

    assert in_queue() == good
    assert SetAsideMessage.objects.count() == len(POISON)


def test_the_second_of_two_messages_with_one_id_is_set_aside(session: Session) -> None:
    uid = uuid4()
    MessageFactory(uid=uid, body='{"args":[1],"kwargs":{}}')
    second = MessageFactory(uid=uid, body='{"args":[2],"kwargs":{}}')
    third = MessageFactory()

    assert step(session, accept, 10) == Moved(2, 1)

    assert set(in_queue()) == {uid, third.uid}
    assert Job.objects.get(pk=uid).arguments == '{"args":[1],"kwargs":{}}'
    assert SetAsideMessage.objects.get().body == second.body


def test_a_message_with_the_id_of_a_job_that_lives_is_set_aside(session: Session) -> None:
    job = JobFactory()
    MessageFactory(uid=job.id)
    good = MessageFactory()

    assert step(session, accept, 10) == Moved(1, 1)

    assert set(in_queue()) == {job.id, good.uid}


def test_a_message_with_the_id_of_a_job_that_has_ended_gives_it_no_second_home(session: Session) -> None:
    ended = FinishedJobFactory()
    MessageFactory(uid=ended.id)
    good = MessageFactory()

    step(session, accept, 10)

    assert in_queue() == [good.uid]
    assert not Message.objects.exists()


@pytest.mark.postgresql("a column that keeps such times: on SQLite it is text")
@pytest.mark.parametrize("when", ["infinity", "-infinity", "20000-01-01 00:00:00+00", "0044-03-15 00:00:00+00 BC"])
def test_a_time_that_python_cannot_say_holds_nobody_up(session: Session, when: str) -> None:
    MessageFactory()
    bad = MessageFactory()
    MessageFactory()
    with a_cursor() as cursor:
        cursor.execute("UPDATE outbox_message SET written_at = %s::timestamptz WHERE id = %s", [when, bad.id])

    assert step(session, accept, 10).total == 3
    assert not Message.objects.exists()
    assert Job.objects.exclude(pk=bad.uid).count() == 2
    assert len([*Job.objects.all(), *SetAsideMessage.objects.all()]) == 3  # and every row can be read


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_job_never_gets_a_time_that_python_cannot_read_back(session: Session, when: str) -> None:
    MessageFactory(headers=headers(run_after=when))

    step(session, accept, 10)

    assert [job.run_after for job in Job.objects.all()] in ([], [None])


def test_a_poisoned_message_whose_number_is_taken_among_those_set_aside_holds_nobody_up(session: Session) -> None:
    SetAsideMessageFactory(id=77)
    bad = MessageFactory(id=77, headers="garbage")  # the sequence was set back, by a restore of this table alone
    good = MessageFactory()

    assert step(session, accept, 10) == Moved(1, 1)

    assert in_queue() == [good.uid]
    assert SetAsideMessage.objects.count() == 2
    assert in_home(bad.uid) == ["outbox_setasidemessage"]


@pytest.mark.postgresql("constraints added to a table, locks and time limits of statements")
def test_what_the_database_alone_can_refuse_is_set_aside_without_its_neighbours(session: Session) -> None:
    with observer() as other:
        other.execute("ALTER TABLE jobs_job ADD CONSTRAINT picky CHECK (arguments NOT LIKE '%canary%')")
        try:
            first = MessageFactory()
            bad = MessageFactory(body='{"args":["canary"],"kwargs":{}}')
            last = MessageFactory()

            assert step(session, accept, 10) == Moved(2, 1)
        finally:
            other.execute("ALTER TABLE jobs_job DROP CONSTRAINT picky")

    assert in_queue() == [first.uid, last.uid]
    assert in_home(bad.uid) == ["outbox_setasidemessage"]
    assert "picky" in SetAsideMessage.objects.get().error


def test_setting_aside_is_logged_with_the_id_and_the_reason(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    bad = MessageFactory(headers="{")

    step(session, accept, 10)

    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert str(bad.uid) in record.getMessage()
    assert "not JSON" in record.getMessage()


def test_a_message_that_python_can_read_but_the_destination_cannot_is_set_aside_alone(session: Session) -> None:
    def moody(messages: list[Written]) -> Delivery:
        if any("moody" in message.body for message in messages):
            raise KeyError("moody")
        return accept(messages)

    good = MessageFactory()
    MessageFactory(body='{"args":["moody"],"kwargs":{}}')

    assert step(session, moody, 10) == Moved(1, 1)

    assert in_queue() == [good.uid]
    assert SetAsideMessage.objects.get().error == "KeyError: 'moody'"


def test_a_destination_may_say_undeliverable(session: Session) -> None:
    def refusing(messages: list[Written]) -> Delivery:
        raise Undeliverable("not here")

    MessageFactory()

    assert step(session, refusing, 10) == Moved(0, 1)
    assert "not here" in SetAsideMessage.objects.get().error


# ---------------------------------------------------------------------------------------------------------------
# Nothing is wrong with the messages when something is wrong with the database.


@pytest.mark.parametrize("table", ["jobs_job", "outbox_setasidemessage"])
def test_a_missing_table_poisons_nothing(session: Session, table: str, caplog: pytest.LogCaptureFixture) -> None:
    MessageFactory()
    MessageFactory(headers="{")

    with renamed(table), pytest.raises(faults.ANY):
        step(session, accept, 10)

    assert (Message.objects.count(), SetAsideMessage.objects.count(), Job.objects.count()) == (2, 0, 0)
    assert "one by one" not in caplog.text
    assert step(session, accept, 10) == Moved(1, 1)


def test_a_missing_table_of_keys_poisons_nothing(session: Session) -> None:
    tasks.noop.using(idempotency_key="k").enqueue()

    with renamed("jobs_key"), pytest.raises(faults.ANY):
        step(session, accept, 10)

    assert (Message.objects.count(), SetAsideMessage.objects.count()) == (1, 0)
    assert step(session, accept, 10) == Moved(1, 0)


def test_a_missing_outbox_is_an_error_of_the_database(session: Session) -> None:
    with renamed("outbox_message"), pytest.raises(faults.ANY):
        step(session, accept, 10)

    assert step(session, accept, 10) == Moved(0, 0)


@pytest.mark.postgresql("constraints added to a table, locks and time limits of statements")
def test_a_statement_that_takes_too_long_poisons_nothing() -> None:
    MessageFactory()
    hurried = session_on("default", statement_timeout=0.1)

    with observer() as other, other.transaction():
        other.execute("LOCK TABLE jobs_job IN EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.QueryCanceled):
            step(hurried, accept, 10)

    assert (Message.objects.count(), SetAsideMessage.objects.count()) == (1, 0)
    assert step(hurried, accept, 10) == Moved(1, 0)
    hurried.close()


def test_one_by_one_they_go_in_the_order_of_their_ids(session: Session) -> None:
    """Which is the order in which a whole batch takes its locks: so no two relays wait for one another."""
    messages = [MessageFactory() for _ in range(3)]
    messages += [MessageFactory(uid=UUID(int=n)) for n in (9, 3, 7)]
    MessageFactory(uid=JobFactory().id)  # refused in the batch, so the step goes on one by one
    seen: list[UUID] = []

    def noting(batch: list[Written]) -> Delivery:
        if len(batch) == 1:
            seen.append(batch[0].uid)
        return accept(batch)

    step(session, noting, 10)

    assert len(seen) == 7
    assert seen == sorted(seen)


@pytest.mark.postgresql("constraints added to a table, locks and time limits of statements")
def test_trouble_of_the_database_while_delivering_singly_poisons_nothing() -> None:
    tasks.noop.enqueue()
    MessageFactory(uid=JobFactory().id)  # refused in the batch, so the step goes on one by one
    hurried = session_on("default", statement_timeout=0.2)

    def locking(messages: list[Written]) -> Delivery:
        delivery = accept(messages)
        if len(messages) > 1:
            return delivery
        return Delivery([Query("SELECT pg_sleep(5)"), *delivery.queries], delivery.rejected)

    with pytest.raises(psycopg.errors.QueryCanceled):
        step(hurried, locking, 10)

    assert (Message.objects.count(), SetAsideMessage.objects.count()) == (2, 0)
    assert step(hurried, accept, 10) == Moved(1, 1)
    hurried.close()


# ---------------------------------------------------------------------------------------------------------------
# Back from being set aside.


def test_a_replayed_message_is_the_same_message_again(session: Session) -> None:
    aside = SetAsideMessageFactory(body='{"args":[5],"kwargs":{}}')
    kept = SetAsideMessageFactory()

    assert len(session.run(replay([aside.id]))) == 1

    message = Message.objects.get()
    assert (message.uid, message.headers, message.body) == (aside.uid, aside.headers, aside.body)
    assert message.written_at == aside.written_at
    assert in_home(aside.uid) == ["outbox_message"]
    assert in_home(kept.uid) == ["outbox_setasidemessage"]
    assert step(session, accept, 10) == Moved(1, 0)
    assert in_home(aside.uid) == ["jobs_job"]


def test_a_replayed_message_that_is_still_poisoned_is_set_aside_again(session: Session) -> None:
    aside = SetAsideMessageFactory(headers="{")

    session.run(replay([aside.id]))
    step(session, accept, 10)

    assert in_home(aside.uid) == ["outbox_setasidemessage"]


def test_two_who_replay_at_once_make_one_message() -> None:
    aside = SetAsideMessageFactory()

    def replaying() -> int:
        own = session_on("default")
        try:
            return len(own.run(replay([aside.id])))
        finally:
            own.close()

    assert sorted(at_once(replaying, replaying)) == [0, 1]
    assert Message.objects.count() == 1


def test_a_finished_job_is_not_made_again_by_a_replay(session: Session) -> None:
    handle = tasks.noop.using(idempotency_key="once").enqueue()
    step(session, accept, 10)
    job = Job.objects.get()
    FinishedJob.objects.create(
        id=job.id,
        task=job.task,
        queue=job.queue,
        state="succeeded",
        arguments=job.arguments,
        enqueued_at=job.enqueued_at,
    )
    job.delete()
    SetAsideMessageFactory(id=1, uid=handle.id, headers=headers(key="once"))

    session.run(replay([1]))
    step(session, accept, 10)

    assert in_home(handle.id) == ["jobs_finishedjob"]
    assert Key.objects.count() == 1


def test_without_a_destination_the_relay_says_what_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_destination", [])

    with pytest.raises(NoDestination, match="INSTALLED_APPS"):
        relay.destination()


def test_the_jobs_app_is_the_destination() -> None:
    deliver: Callable[..., Any] = relay.destination()

    assert deliver is accept
