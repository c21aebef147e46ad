"""`enqueue_many`: all or none, in order, each call checked and named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from jobs.errors import InvalidArguments, InvalidOption, PayloadTooLarge
from jobs.intake import accept
from jobs.models import Job
from outbox.errors import OutboxMissing, TransactionRequired
from outbox.models import Message
from outbox.relay import Moved, step
from outbox.session import Session
from tests import tasks
from tests.support.committing import BOTH, _django_db_helper, on_both, on_default  # noqa: F401
from tests.support.observer import committed
from tests.support.sql import a_cursor

rolled_back = pytest.mark.django_db(databases=BOTH)


class Pair(NamedTuple):
    a: int
    b: int


def bodies() -> list[dict[str, Any]]:
    return [json.loads(body) for body in Message.objects.order_by("id").values_list("body", flat=True)]


@rolled_back
def test_calls_by_position_and_by_name_in_order() -> None:
    named: Mapping[str, Any] = MappingProxyType({"b": 8, "a": 7})

    handles = tasks.add.enqueue_many([(1, 2), {"a": 3, "b": 4}, Pair(5, 6), named])

    assert bodies() == [
        {"args": [1, 2], "kwargs": {}},
        {"args": [], "kwargs": {"a": 3, "b": 4}},
        {"args": [5, 6], "kwargs": {}},
        {"args": [], "kwargs": {"b": 8, "a": 7}},
    ]
    assert [handle.id for handle in handles] == list(Message.objects.order_by("id").values_list("uid", flat=True))
    assert {handle.database for handle in handles} == {"default"}


@rolled_back
def test_a_generator_of_calls() -> None:
    def calls() -> Iterator[tuple[int]]:
        yield from ((n,) for n in range(3))

    assert len(tasks.noop.enqueue_many(calls())) == 3


@rolled_back
def test_none_is_none() -> None:
    with CaptureQueriesContext(connection) as queries:
        assert tasks.noop.enqueue_many([]) == []
        assert tasks.noop.enqueue_many([], idempotency_keys=[]) == []

    assert len(queries) == 0


@rolled_back
def test_the_options_are_those_of_all() -> None:
    tasks.noop.using(priority="high", queue_name="mail", source_name="bulk", max_attempts=2, delay=1).enqueue_many(
        [(), ()]
    )

    for message in Message.objects.all():
        assert json.loads(message.headers) == {
            "v": 1, "task": "tests.tasks.noop", "queue": "mail", "priority": 50, "max_attempts": 2,
            "source_name": "bulk", "delay": 60.0,
        }  # fmt: skip


@rolled_back
@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ((1,), InvalidArguments, "Call 1 of enqueue_many: .* missing a required argument: 'b'"),
        ({"a": 1}, InvalidArguments, "Call 1 of enqueue_many: .* missing a required argument: 'b'"),
        ({"a": 1, "b": 2, 3: 4}, InvalidArguments, "Call 1 of enqueue_many"),
        ((1, {2}), InvalidArguments, r"Call 1 of enqueue_many: .*args\[1\] is of type set"),
        ((1, "x" * 1_000_000), PayloadTooLarge, "Call 1 of enqueue_many: .*Pass an id or a file name"),
        ([1, 2], InvalidArguments, "Call 1 of enqueue_many is a list: give a tuple"),
        (1, InvalidArguments, "Call 1 of enqueue_many is a int: give a tuple"),
        ("ab", InvalidArguments, "Call 1 of enqueue_many is a str: give a tuple"),
        (None, InvalidArguments, "Call 1 of enqueue_many is a NoneType: give a tuple"),
        ({1, 2}, InvalidArguments, "Call 1 of enqueue_many is a set: give a tuple"),
    ],
    ids=str,
)
def test_one_bad_call_stops_them_all_and_is_named(call: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        tasks.add.enqueue_many([(1, 2), call, (3, 4)])

    assert not Message.objects.exists()


@rolled_back
def test_a_generator_that_fails_writes_nothing() -> None:
    def calls() -> Iterator[tuple[int]]:
        yield (1,)
        raise KeyError("the caller's own")

    with pytest.raises(KeyError, match="the caller's own"):
        tasks.noop.enqueue_many(calls())

    assert not Message.objects.exists()


@on_default
def test_they_go_with_the_callers_transaction() -> None:
    with transaction.atomic():
        tasks.noop.enqueue_many([(n,) for n in range(3)])
        transaction.set_rollback(True)
    rolled = committed()
    with transaction.atomic():
        tasks.noop.enqueue_many([(n,) for n in range(3)])
        inside = committed()

    assert rolled == inside == []
    assert len(committed()) == 3


@on_default
def test_outside_a_transaction_they_are_one_of_their_own(settings: Any) -> None:
    assert len(tasks.noop.enqueue_many([(n,) for n in range(3)])) == 3

    assert len(committed()) == 3
    settings.OUTBOX = {"REQUIRE_TRANSACTION": True}
    with pytest.raises(TransactionRequired):
        tasks.noop.enqueue_many([(1,)])
    assert len(committed()) == 3


@on_both
def test_they_go_to_the_database_that_was_named() -> None:
    handles = tasks.noop.using(database="other").enqueue_many([(1,), (2,)])

    assert (len(committed()), len(committed("other"))) == (0, 2)
    assert {handle.database for handle in handles} == {"other"}


@rolled_back
def test_a_missing_table_is_an_error_that_says_what_to_run() -> None:
    with a_cursor() as cursor:
        cursor.execute("ALTER TABLE outbox_message RENAME TO gone")

    with pytest.raises(OutboxMissing, match=r"manage\.py migrate outbox"):
        tasks.noop.enqueue_many([(1,)])


@rolled_back
def test_a_key_for_each() -> None:
    handles = tasks.noop.enqueue_many([(1,), (2,), (3,)], idempotency_keys=["a", "b", "a"])

    assert handles[0].id == handles[2].id == tasks.noop.using(idempotency_key="a").enqueue().id
    assert handles[0].id != handles[1].id


@rolled_back
@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["a"], "has 1 keys for 2 calls"),
        (["a", "b", "c"], "has 3 keys for 2 calls"),
        ([], "has 0 keys for 2 calls"),
        (["a", ""], "Call 1 of enqueue_many: idempotency_key=''"),
        (["a", 5], "Call 1 of enqueue_many: idempotency_key=5"),
        (["a", "k" * 201], "Call 1 of enqueue_many: idempotency_key="),
        (["a", "\x00"], "Call 1 of enqueue_many: idempotency_key"),
        ("ab", "idempotency_keys"),
    ],
    ids=str,
)
def test_keys_that_cannot_be_taken(keys: Any, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        tasks.noop.enqueue_many([(1,), (2,)], idempotency_keys=keys)

    assert not Message.objects.exists()


@rolled_back
def test_one_key_for_many_calls_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"give idempotency_keys=\[\.\.\.\] instead"):
        tasks.noop.using(idempotency_key="k").enqueue_many([(1,), (2,)])

    assert not Message.objects.exists()


@on_default
def test_a_great_many(session: Session) -> None:
    handles = tasks.add.enqueue_many([(n, 1) for n in range(5000)])

    assert step(session, accept, 10_000) == Moved(5000, 0)

    assert Job.objects.count() == len({handle.id for handle in handles}) == 5000
    assert json.loads(Job.objects.get(pk=handles[4999].id).arguments) == {"args": [4999, 1], "kwargs": {}}
