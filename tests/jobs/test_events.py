"""Events: what is published commits with the business data, and each consumer gets a job of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from jobs import apublish, consumer, event, publish
from jobs.consume import check_consumers, consumers, declared, event_type
from jobs.context import JobContext, current
from jobs.declare import registry
from jobs.delivery import Delivery, delivery_of
from jobs.errors import (
    InvalidArguments,
    InvalidEvent,
    InvalidOption,
    InvalidTask,
    PayloadTooLarge,
    TooDeep,
    UnknownEvent,
)
from jobs.ids import id_for_key, new_id
from jobs.models import Event, Job, Key
from jobs.origin import request as request_at_hand
from outbox.errors import OutboxMissing, TransactionRequired
from outbox.models import Message
from outbox.relay import step
from outbox.session import Session
from tests import tasks
from tests.support.committing import _django_db_helper, on_default  # noqa: F401
from tests.support.observer import observer
from tests.support.sql import a_cursor

pytestmark = on_default


@pytest.fixture
def own() -> Iterator[None]:
    """What a test declares is forgotten after it."""
    before = dict(declared), {name: dict(theirs) for name, theirs in consumers.items()}, dict(registry)
    yield
    for known, then in zip((declared, consumers, registry), before, strict=True):
        known.clear()  # type: ignore[attr-defined]
        known.update(then)  # type: ignore[attr-defined]


def relayed(session: Session, n: int) -> list[Job]:
    from jobs.intake import accept

    moved = step(session, accept, 100)
    assert (moved.delivered, moved.set_aside) == (n, 0)
    return list(Job.objects.order_by("task"))


# Publish --------------------------------------------------------------------------------------------------------------


def test_one_job_for_each_consumer_with_its_own_policy(session: Session) -> None:
    """P82, P83, H21: 1:n, each consumer with its own priority, attempts and delay."""
    published = publish("tests.placed", {"order": 7})

    assert [handle.task.name for handle in published.jobs] == [
        "tests.tasks.note_placed", "tests.tasks.remind_placed", "tests.tasks.audit_placed",
    ]  # fmt: skip
    audit, note, remind = relayed(session, 3)
    assert {job.id for job in (audit, note, remind)} == {handle.id for handle in published.jobs}
    assert (note.priority, note.max_attempts, note.state) == (50, 2, "ready")
    assert (remind.source_name, remind.state, remind.max_attempts) == ("orders/slow", "scheduled", 1)
    assert (remind.run_after - remind.enqueued_at).total_seconds() == 30
    assert all(json.loads(job.arguments) == {"args": [{"order": 7}], "kwargs": {}} for job in (audit, note, remind))


def test_the_event_stands_in_the_log() -> None:
    """P81: a durable log with id, type and date."""
    published = publish("tests.placed", {"order": 7, "card": "ü"})

    found = Event.objects.get()
    assert (found.id, found.type, json.loads(found.payload)) == (
        published.id,
        "tests.placed",
        {"order": 7, "card": "ü"},
    )
    assert found.id.version == 7
    assert (found.origin, found.parent) == ("", None)


def test_without_a_consumer_the_event_is_kept() -> None:
    """H22: what nobody listens to can be given to somebody later."""
    assert publish("tests.lonely", {"a": 1}).jobs == []
    assert Event.objects.get().type == "tests.lonely"
    assert not Message.objects.exists()


def test_without_a_payload_it_is_an_empty_one() -> None:
    publish("tests.lonely")
    assert Event.objects.get().payload == "{}"


def test_rolled_back_it_has_never_happened() -> None:
    """O4, P51: invisible until the commit, gone on rollback; savepoints too."""
    with transaction.atomic():
        publish("tests.placed", {"order": 1})
        transaction.set_rollback(True)
    with transaction.atomic():
        publish("tests.placed", {"order": 2})
        try:
            with transaction.atomic():
                publish("tests.placed", {"order": 3})
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        with observer() as other:
            assert other.execute("SELECT count(*) FROM jobs_event").fetchone() == (0,)

    assert [json.loads(e.payload)["order"] for e in Event.objects.all()] == [2]
    assert Message.objects.count() == 3


@pytest.mark.postgresql("COPY, which Django does not count")
def test_it_is_two_statements_whatever_the_number_of_consumers() -> None:
    with transaction.atomic():
        with CaptureQueriesContext(connection) as queries:
            publish("tests.placed", {"order": 1})
        # The messages go by COPY, which Django does not count.
        assert [query["sql"].split("(")[0] for query in queries] == ["INSERT INTO jobs_event "]
        assert Message.objects.count() == 3


@pytest.mark.postgresql("two transactions that write are open at once")
def test_two_requests_at_once_do_not_wait_for_each_other() -> None:
    with transaction.atomic():
        publish("tests.placed", {"order": 1})
        with observer() as other:
            other.execute("SET lock_timeout = '1s'")
            other.execute("INSERT INTO jobs_event (id, type, payload) VALUES (%s, 'tests.placed', '{}')", (new_id(),))
            pid = connection.connection.info.backend_pid
            modes = other.execute("SELECT DISTINCT mode FROM pg_locks WHERE pid = %s AND locktype = 'relation'", (pid,))
            assert {mode for (mode,) in modes} <= {"RowExclusiveLock", "AccessShareLock"}


def test_outside_a_transaction_it_is_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("between the two")

    monkeypatch.setattr("jobs.emit.write_many", fail)
    with pytest.raises(RuntimeError):
        publish("tests.placed", {"order": 1})

    assert not Event.objects.exists() and not Message.objects.exists()


def test_where_a_transaction_is_wanted_it_is_wanted_here_too(settings: Any) -> None:
    settings.OUTBOX = {"REQUIRE_TRANSACTION": True}

    with pytest.raises(TransactionRequired, match=r"transaction.atomic"):
        publish("tests.placed", {"order": 1})
    assert not Event.objects.exists()
    with transaction.atomic():
        publish("tests.placed", {"order": 1})
    assert Event.objects.exists()


def test_where_the_tables_are_missing_it_says_what_to_run() -> None:
    with transaction.atomic():
        with a_cursor() as cursor:
            cursor.execute("ALTER TABLE jobs_event RENAME TO gone")
        with pytest.raises(OutboxMissing, match="migrate jobs --database default"):
            publish("tests.placed", {"order": 1})
        transaction.set_rollback(True)


def test_from_async_code() -> None:
    async def place() -> UUID:
        return (await apublish("tests.placed", {"order": 1})).id

    assert async_to_sync(place)() == Event.objects.get().id


def test_published_by_a_job_it_knows_its_parent_and_the_chain_has_an_end(settings: Any, session: Session) -> None:
    """P84: consumers may publish; a chain without an end is stopped."""
    parent = new_id()
    token = current.set(JobContext(parent, "", 1, 1, "t", "default", 0, "t", 4))
    try:
        publish("tests.placed", {"order": 1})
        settings.JOBS = {**settings.JOBS, "MAX_DEPTH": 4}
        with pytest.raises(TooDeep):
            publish("tests.placed", {"order": 2})
    finally:
        current.reset(token)

    assert Event.objects.get().parent == parent
    assert {(job.parent, job.depth) for job in relayed(session, 3)} == {(parent, 5)}


def test_published_in_a_request_it_knows_where_from(rf: Any, session: Session) -> None:
    token = request_at_hand.set(rf.post("/checkout/"))
    try:
        publish("tests.placed", {"order": 1})
    finally:
        request_at_hand.reset(token)

    assert Event.objects.get().origin == "POST /checkout/"
    assert {job.origin for job in relayed(session, 3)} == {"POST /checkout/"}


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "payload", "kind", "said"),
    [
        ("tests.plced", {"order": 1}, UnknownEvent, "no event type 'tests.plced': did you mean 'tests.placed'?"),
        ("zzz", {}, UnknownEvent, "There is no event type 'zzz'. Declare it with event('zzz')"),
        (5, {}, UnknownEvent, "no event type 5"),
        ("tests.placed", {"order": "1"}, InvalidEvent, 'tests.placed: payload["order"] is of type str; the schema'),
        ("tests.placed", {}, InvalidEvent, 'payload["order"] is missing; Placed wants it'),
        ("tests.placed", {"order": 1, "crad": "x"}, InvalidEvent, "did you mean 'card'?"),
        ("tests.placed", [1], InvalidEvent, "the payload is a list: give a dict"),
        ("tests.lonely", {"at": object()}, InvalidEvent, "payload['at'] is of type object"),
        ("tests.lonely", {"x": float("nan")}, InvalidEvent, "payload['x'] is nan"),
        ("tests.lonely", {1: 2}, InvalidEvent, "has the key 1; keys must be str"),
        ("tests.lonely", {"x": "a\x00"}, InvalidEvent, "NUL"),
        ("tests.lonely", {"x": "y" * 1_000_001}, PayloadTooLarge, "the payload is 1,000,009 bytes"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_published(name: Any, payload: Any, kind: Any, said: str) -> None:
    """P80: an unknown type is a clear error; P45: what is not JSON is caught at the call."""
    with pytest.raises(kind) as refused:
        publish(name, payload)

    assert said in str(refused.value)
    assert not Event.objects.exists() and not Message.objects.exists()


def test_a_wrong_payload_is_caught_with_wrong_arguments() -> None:
    assert issubclass(InvalidEvent, InvalidArguments) and issubclass(InvalidEvent, ValueError)


# Declare --------------------------------------------------------------------------------------------------------------


def on_order(payload: dict[str, Any]) -> None:
    pass


@pytest.mark.usefixtures("own")
def test_a_consumer_alone_makes_its_type_known() -> None:
    made = consumer("tests.only-consumed")(on_order)

    assert [handle.task for handle in publish("tests.only-consumed", {"a": 1}).jobs] == [made]


def takes_nothing() -> None:
    pass


def takes_two(payload: dict[str, Any], more: int) -> None:
    pass


def takes_context(context: JobContext) -> None:
    pass


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("declare", "kind", "said"),
    [
        (lambda: consumer("tests.placed")(takes_nothing), InvalidTask, "must take the payload, a dict, as its first"),
        (lambda: consumer("tests.placed")(takes_two), InvalidTask, "and nothing else"),
        (lambda: consumer("tests.placed", takes_context=True)(takes_context), InvalidTask, "as its second argument"),
        (lambda: consumer(on_order), InvalidTask, "needs the name of an event type"),
        (lambda: consumer(), InvalidTask, "needs the name of an event type"),
        (lambda: consumer("tests placed"), InvalidOption, "use 1 to 100 letters"),
        (lambda: consumer("tests.placed", delay=-1), InvalidOption, "0 or more minutes"),
        (lambda: consumer("tests.placed", priority="urgent")(on_order), InvalidOption, "priority='urgent'"),
        (lambda: consumer("tests.placed", max_attempts=0)(on_order), InvalidOption, "max_attempts=0"),
        (lambda: consumer("tests.placed")(lambda payload: None), InvalidTask, "not at module level"),
        (lambda: event("a#b"), InvalidOption, "use 1 to 100 letters"),
        (lambda: event("tests.placed"), InvalidOption, "declared twice and differently"),
        (lambda: event("tests.new", schema=dict), InvalidOption, "give a TypedDict or a dataclass"),
        (lambda: event("x", redact="card"), InvalidOption, "redact="),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_at_import(
    declare: Callable[[], Any], kind: Any, said: str
) -> None:
    with pytest.raises(kind, match=said.replace("(", r"\(")):
        declare()


@pytest.mark.usefixtures("own")
def test_the_same_declaration_again_is_the_same() -> None:
    assert event("tests.placed", schema=tasks.Placed, redact=["note"]) == event_type("tests.placed")


@pytest.mark.usefixtures("own")
def test_check_tells_of_a_consumer_whose_type_is_declared_nowhere() -> None:
    assert check_consumers() == []
    consumer("tests.plced")(on_order)

    (warning,) = check_consumers()

    assert warning.id == "jobs.W006"
    assert "test_events.on_order consumes 'tests.plced', which is declared nowhere: did you mean 'tests.placed'?" in (
        warning.msg
    )


# The key and the context ----------------------------------------------------------------------------------------------


def test_the_id_of_a_job_is_known_from_event_and_consumer() -> None:
    """Part of the contract: it is what makes a delivery happen once."""
    published = publish("tests.placed", {"order": 1})

    key = f"event:{published.id}:tests.placed"
    assert published.jobs[0].id == id_for_key("tests.tasks.note_placed", key)
    assert Delivery(published.id, "tests.placed").key == key
    assert delivery_of(key) == Delivery(published.id, "tests.placed")
    assert delivery_of(f"{key}#fix-1") == Delivery(published.id, "tests.placed", "fix-1")


SOME = "01a21043-a736-7413-911a-36fc5995964c"


@pytest.mark.parametrize("key", ["", "order-42", "event:", "event:1:a", f"event:{SOME}", f"event:{SOME}:a b"])
def test_another_key_is_no_delivery(key: str) -> None:
    assert delivery_of(key) is None


def test_a_consumer_is_told_of_its_event() -> None:
    """The id to give outside differs from consumer to consumer; the event is the same."""
    delivery = Delivery(new_id(), "tests.placed")
    one, other = (
        JobContext(id_for_key(name, delivery.key), delivery.key, 1, 1, name, "default", 0, name, 0) for name in "ab"
    )

    assert (one.event_id, one.event_type) == (other.event_id, other.event_type) == (delivery.event_id, "tests.placed")
    assert one.idempotency_key == str(one.job_id) != other.idempotency_key
    plain = JobContext(new_id(), "order-42", 1, 1, "a", "default", 0, "a", 0)
    assert (plain.event_id, plain.event_type, plain.idempotency_key) == (None, "", "order-42")


def test_delivered_twice_it_is_one_job(session: Session) -> None:
    """O9, O16: an at-least-once relay, one job."""
    publish("tests.placed", {"order": 1})
    rows = list(Message.objects.values("uid", "headers", "body"))
    assert len(relayed(session, 3)) == 3
    Message.objects.bulk_create(Message(**row) for row in rows)

    assert len(relayed(session, 3)) == 3
    assert Key.objects.count() == 3
