"""The gate: messages become jobs, and a message that cannot be one stops nobody else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import LazySettings
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.ids import id_for_key, new_id
from jobs.intake import CHANNEL, accept
from jobs.models import FinishedJob, Job, Key
from outbox import relay
from outbox.models import Message, SetAsideMessage
from outbox.relay import Moved, Written
from outbox.session import Query, Session
from tests.factories import FinishedJobFactory, JobFactory, MessageFactory, in_home
from tests.support.floor import broken, claim, everything, properties

pytest_plugins = ["tests.support.ours"]

HEADERS: dict[str, Any] = {"v": 1, "task": "tests.tasks.noop", "queue": "default", "priority": 0, "max_attempts": 1}
BODY = '{"args":[],"kwargs":{}}'


def message(*, uid: UUID | None = None, body: str = BODY, written_at: datetime | None = None, **headers: Any) -> UUID:
    """A message in the outbox; its id."""
    fields: dict[str, Any] = {"headers": json.dumps({**HEADERS, **headers}), "body": body, "uid": uid or new_id()}
    if written_at is not None:
        fields["written_at"] = written_at
    return MessageFactory(**fields).uid


def keyed(key: str, **headers: Any) -> UUID:
    return message(uid=id_for_key("tests.tasks.noop", key), key=key, **headers)


def written(**headers: Any) -> Written:
    """A message in the relay's hands."""
    return Written(1, new_id(), json.dumps({**HEADERS, **headers}), BODY, datetime(2026, 1, 1, tzinfo=UTC))


def deliver(session: Session, batch: int = 1000) -> Moved:
    return relay.step(session, accept, batch)


# A good message -----------------------------------------------------------------------------------------------------


def test_a_message_becomes_a_ready_job(ours: Session) -> None:
    before = timezone.now() - timedelta(seconds=5)
    uid = message()

    assert deliver(ours) == Moved(1, 0)

    job = Job.objects.get()
    assert in_home(uid) == ["jobs_job"]
    assert (job.state, job.attempts, job.crashes, job.lease, job.worker, job.claimer) == ("ready", 0, 0, 0, None, None)
    assert (job.run_after, job.error, job.parent, job.idempotency_key) == (None, "", None, "")
    assert job.ready_at is not None and before < job.ready_at < timezone.now() + timedelta(seconds=5)


def test_everything_the_headers_say_stands_in_the_row(ours: Session) -> None:
    parent = uuid4()
    at = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
    message(
        body='{"args":[1e+16,-0.0,"\u00e4"],"kwargs":{"b":1,"a":2}}',
        written_at=at,
        task="shop.tasks.send",
        queue="mail",
        priority=-100,
        max_attempts=7,
        source_name="check-out/1",
        parent=str(parent),
        depth=4,
    )

    deliver(ours)

    job = Job.objects.get()
    assert (job.task, job.queue, job.priority, job.max_attempts) == ("shop.tasks.send", "mail", -100, 7)
    assert (job.source_name, job.parent, job.depth, job.enqueued_at) == ("check-out/1", parent, 4, at)
    assert job.arguments == '{"args":[1e+16,-0.0,"\u00e4"],"kwargs":{"b":1,"a":2}}'


def test_jobs_are_ready_in_the_order_in_which_they_were_written(ours: Session) -> None:
    uids = [message() for _ in range(30)]

    deliver(ours)

    assert [job.id for job in claim(ours)] == uids


@pytest.mark.parametrize(
    ("headers", "state", "seconds"),
    [
        ({}, "ready", None),
        ({"delay": 60}, "scheduled", 60),
        ({"delay": 0.5}, "scheduled", 0.5),
        ({"delay": 0}, "ready", None),
        ({"delay": -5}, "ready", -5),
    ],
)
def test_a_delay_counts_from_the_write(ours: Session, headers: Any, state: str, seconds: float | None) -> None:
    at = timezone.now()
    message(written_at=at, **headers)

    deliver(ours)

    job = Job.objects.get()
    assert job.state == state
    assert job.run_after == (None if seconds is None else at + timedelta(seconds=seconds))


def test_a_delay_that_has_passed_on_the_way_is_over(ours: Session) -> None:
    message(written_at=timezone.now() - timedelta(minutes=10), delay=300)

    deliver(ours)

    assert Job.objects.get().state == "ready"


@pytest.mark.parametrize(("hours", "state"), [(1, "scheduled"), (-1, "ready")])
@pytest.mark.parametrize("offset", [0, 14, -11])
def test_a_time_to_run_is_absolute_in_any_zone(ours: Session, hours: int, state: str, offset: int) -> None:
    zone = timezone.get_fixed_timezone(offset * 60)
    at = (timezone.now() + timedelta(hours=hours)).astimezone(zone)
    message(run_after=at.isoformat())

    deliver(ours)

    assert (Job.objects.get().state, Job.objects.get().run_after) == (state, at)


def test_an_empty_outbox_is_nothing_to_do(ours: Session) -> None:
    assert deliver(ours) == Moved(0, 0)


def test_a_batch_is_the_eldest_messages(ours: Session) -> None:
    uids = [message() for _ in range(5)]

    assert deliver(ours, 3) == Moved(3, 0)

    assert set(Job.objects.values_list("id", flat=True)) == set(uids[:3])
    assert set(Message.objects.values_list("uid", flat=True)) == set(uids[3:])


def test_accepting_touches_no_database() -> None:
    """The test has none: asking for it would raise."""
    delivery = accept([written(), written(v=2)])

    assert len(delivery.queries) == 1
    assert delivery.announce == Query(f"NOTIFY {CHANNEL}")
    assert [reason for _, reason in delivery.rejected] == ["the headers are of version 2; this code reads version 1"]


def test_only_bad_messages_are_no_query_at_all() -> None:
    assert accept([written(v=2)]).queries == []
    assert accept([]) == ([], [], False, None)


# A bad message ------------------------------------------------------------------------------------------------------

BAD_HEADERS: dict[str, Any] = {
    "not JSON": "nonsense",
    "empty": "",
    "not an object": "[]",
    "too deep": "[" * 100_000,
    "another version": {"v": 2},
    "no task": {"task": None},
    "a task that is no name": {"task": "os; drop"},
    "a long task": {"task": "a" * 201},
    "no queue": {"queue": None},
    "an odd queue": {"queue": "a b"},
    "a newline at the end": {"queue": "default\n"},
    "priority as text": {"priority": "high"},
    "priority too high": {"priority": 101},
    "priority true": {"priority": True},
    "no attempts": {"max_attempts": 0},
    "too many attempts": {"max_attempts": 40_000},
    "an odd source": {"source_name": "<b>"},
    "source as number": {"source_name": 5},
    "a key that is no text": {"key": 7},
    "a long key": {"key": "k" * 201},
    "NUL in the key": {"key": "a\x00b"},
    "half a character in the key": {"key": "\ud800"},
    "an odd parent": {"parent": "me"},
    "a parent that is a number": {"parent": 5},
    "negative depth": {"depth": -1},
    "deeper than a column": {"depth": 40_000},
    "a naive time": {"run_after": "2026-01-01T00:00:00"},
    "a time that is none": {"run_after": "soon"},
    "a time as number": {"run_after": 5},
    "a delay as text": {"delay": "5"},
    "a delay without end": {"delay": 1e300},
    "a delay past all calendars": {"delay": 1e12},
}


@pytest.mark.parametrize("given", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_a_message_with_bad_headers_is_set_aside_and_the_others_go_on(ours: Session, given: Any) -> None:
    before, after = message(), None
    headers = given if isinstance(given, str) else json.dumps({**HEADERS, **given})
    bad = MessageFactory(headers=headers).uid
    after = message()

    assert deliver(ours) == Moved(2, 1)

    assert set(Job.objects.values_list("id", flat=True)) == {before, after}
    assert in_home(bad) == ["outbox_setasidemessage"]
    assert SetAsideMessage.objects.get().error
    assert SetAsideMessage.objects.get().headers == headers


@pytest.mark.parametrize(
    "body",
    ["", "nonsense", "null", "[]", "{}", '{"args":[]}', '{"args":{},"kwargs":{}}', "[" * 100_000, "9" * 5000],
    ids=lambda text: text[:12],
)
def test_a_message_with_a_bad_body_is_set_aside_and_the_others_go_on(ours: Session, body: str) -> None:
    good, bad = message(), message(body=body)

    assert deliver(ours) == Moved(1, 1)

    assert in_home(good) == ["jobs_job"]
    assert in_home(bad) == ["outbox_setasidemessage"]
    assert "body" in SetAsideMessage.objects.get().error


def test_a_message_that_is_delivered_again_is_set_aside_and_not_lost(ours: Session) -> None:
    """Unkeyed, from a restored outbox: the job is there already."""
    job = JobFactory()
    other = message()
    message(uid=job.id)

    assert deliver(ours) == Moved(1, 1)

    assert in_home(other) == ["jobs_job"]
    assert "jobs_job" in in_home(job.id)
    assert SetAsideMessage.objects.get().uid == job.id


def test_replaying_a_message_that_has_been_put_right_makes_it_a_job(ours: Session) -> None:
    uid = message(max_attempts=0)
    deliver(ours)
    SetAsideMessage.objects.update(headers=json.dumps(HEADERS))

    ours.run(relay.replay([SetAsideMessage.objects.get().id]))

    assert deliver(ours) == Moved(1, 0)
    assert in_home(uid) == ["jobs_job"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
some_headers = st.fixed_dictionaries(
    {},
    optional={
        name: st.just(HEADERS[name]) | json_values if name in HEADERS else json_values
        for name in (*HEADERS, "source_name", "delay", "run_after", "key", "parent", "depth")
    },
)
any_headers = (
    some_headers.map(json.dumps)
    | some_headers.map(lambda given: json.dumps({**given, **HEADERS}))
    | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=60)
)
any_text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=60)
any_body = st.just(BODY) | json_values.map(json.dumps) | any_text


@settings(properties, max_examples=60)
@given(st.lists(st.tuples(any_headers, any_body), min_size=1, max_size=5))
def test_garbage_never_stops_the_relay_and_ends_in_one_home(ours: Session, given: list[tuple[str, str]]) -> None:
    for table in ("jobs_job", "jobs_key", "outbox_setasidemessage"):
        ours.run(Query(f"DELETE FROM {table}"), durable=False)
    insert = "INSERT INTO outbox_message (uid, headers, body) VALUES (%s, %s, %s)"
    garbage = {new_id(): each for each in given}
    ours.run_all([Query(insert, (uid, *each)) for uid, each in garbage.items()], durable=False)

    moved = deliver(ours)

    assert moved.total == len(garbage)
    assert not Message.objects.exists()
    assert broken(ours) == []
    assert (moved.delivered, moved.set_aside) == (len(Job.objects.all()), SetAsideMessage.objects.count())


# Keys ---------------------------------------------------------------------------------------------------------------


def test_a_keyed_job_leaves_its_key_with_a_time_to_forget_it(ours: Session) -> None:
    uid = keyed("order-1")

    deliver(ours)

    key = Key.objects.get()
    assert (key.id, key.task, key.key) == (uid, "tests.tasks.noop", "order-1")
    assert key.expires_at is not None
    assert abs(key.expires_at - timezone.now() - timedelta(days=365)) < timedelta(minutes=1)
    assert Job.objects.get().idempotency_key == "order-1"


@pytest.fixture
def keys_for_ever(settings: LazySettings) -> None:
    settings.JOBS = {**settings.JOBS, "KEEP_KEYS": None}


@pytest.mark.usefixtures("keys_for_ever")
def test_keys_may_be_remembered_for_ever(ours: Session) -> None:
    keyed("order-1")

    deliver(ours)

    assert Key.objects.get().expires_at is None


def test_the_same_key_in_one_batch_is_one_job_and_the_first_counts(ours: Session) -> None:
    uid = keyed("order-1", priority=1)
    keyed("order-1", priority=2)
    other = keyed("order-2")
    plain = message()

    assert deliver(ours) == Moved(4, 0)

    assert set(Job.objects.values_list("id", flat=True)) == {uid, other, plain}
    assert Job.objects.get(pk=uid).priority == 1


@pytest.mark.parametrize("where", ["waiting", "running", "in the history", "pruned"])
def test_a_key_that_was_used_makes_no_second_job_wherever_the_first_is(ours: Session, where: str) -> None:
    uid = keyed("order-1")
    deliver(ours)
    if where == "running":
        claim(ours, 1)
    if where in ("in the history", "pruned"):
        Job.objects.all().delete()
    if where == "in the history":
        FinishedJobFactory(id=uid)
    before = everything(ours)
    keyed("order-1")

    assert deliver(ours) == Moved(1, 0)

    assert everything(ours) == before


def test_the_same_key_of_another_task_is_another_job(ours: Session) -> None:
    keyed("order-1")
    message(uid=id_for_key("tests.tasks.add", "order-1"), key="order-1", task="tests.tasks.add")

    deliver(ours)

    assert Job.objects.count() == Key.objects.count() == 2


def test_a_forgotten_key_makes_a_job_again(ours: Session) -> None:
    keyed("order-1")
    deliver(ours)
    Job.objects.all().delete()
    Key.objects.all().delete()
    uid = keyed("order-1")

    deliver(ours)

    assert in_home(uid) == ["jobs_job"]


def test_keys_beside_a_poisoned_message_are_still_used_once(ours: Session) -> None:
    """One by one, each in its savepoint: the poisoned one leaves no key behind."""
    uid = keyed("order-1")
    keyed("order-1")
    taken = JobFactory(id=id_for_key("tests.tasks.noop", "taken"))
    keyed("taken")

    assert deliver(ours) == Moved(2, 1)

    assert set(Job.objects.values_list("id", flat=True)) == {uid, taken.id}
    assert list(Key.objects.values_list("key", flat=True)) == ["order-1"]
    assert not FinishedJob.objects.exists()
