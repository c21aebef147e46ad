"""`enqueue`: what is wrong is said at the caller and nothing is written; what is written comes back as it was."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from jobs import JobContext, task
from jobs.context import current
from jobs.errors import (
    InvalidArguments,
    InvalidOption,
    InvalidTask,
    JobsError,
    PayloadTooLarge,
    TooDeep,
)
from jobs.intake import accept
from jobs.models import Job
from outbox.errors import OutboxError, OutboxMissing, TransactionRequired
from outbox.models import Message
from outbox.relay import Moved, step
from outbox.session import Session
from tests import tasks
from tests.support import shapes
from tests.support.committing import BOTH, _django_db_helper, on_both, on_default  # noqa: F401
from tests.support.observer import committed
from tests.support.sql import a_cursor
from tests.support.values import json_values, same, text

rolled_back = pytest.mark.django_db(databases=BOTH)


def a_context(depth: int) -> JobContext:
    return JobContext(uuid4(), "k", 1, 1, "tests.tasks.noop", "default", 0, "tests.tasks.noop", depth)


def an_argument(size: int) -> str:
    """A text that makes the body of `echo` this many bytes."""
    return "x" * (size - len('{"args":[""],"kwargs":{}}'))


def headers() -> dict[str, Any]:
    said = json.loads(Message.objects.get().headers)
    assert isinstance(said, dict)
    return said


# ---------------------------------------------------------------------------------------------------------------
# What is written.


@rolled_back
def test_a_job_is_one_statement_and_its_id_is_known_at_once() -> None:
    with CaptureQueriesContext(connection) as queries:
        handle = tasks.add.enqueue(1, b=2)

    message = Message.objects.get()
    assert len(queries) == 1
    assert (message.uid, message.body) == (handle.id, '{"args":[1],"kwargs":{"b":2}}')
    assert headers() == {"v": 1, "task": "tests.tasks.add", "queue": "default", "priority": 0, "max_attempts": 1}
    assert (handle.id.version, handle.database, handle.task) == (7, "default", tasks.add)


@rolled_back
def test_all_options_are_written() -> None:
    later = datetime(2999, 1, 1, tzinfo=UTC)

    tasks.noop.using(
        run_after=later, priority="low", max_attempts=3, queue_name="mail", source_name="check/out",
        idempotency_key='"k"',
    ).enqueue()  # fmt: skip

    assert headers() == {
        "v": 1, "task": "tests.tasks.noop", "queue": "mail", "priority": -50, "max_attempts": 3,
        "source_name": "check/out", "run_after": "2999-01-01T00:00:00+00:00", "key": '"k"',
    }  # fmt: skip


@rolled_back
def test_ids_are_never_the_same_and_grow() -> None:
    ids = [tasks.noop.enqueue().id for _ in range(50)]

    assert len(set(ids)) == 50
    assert ids == sorted(ids)


@on_default
@pytest.mark.parametrize(
    ("delay", "seconds"), [(5, 300), (0.5, 30), (timedelta(hours=1), 3600), (timedelta(seconds=90), 90)]
)
def test_a_delay_is_counted_by_the_clock_of_the_database(session: Session, delay: Any, seconds: int) -> None:
    tasks.noop.using(delay=delay).enqueue()

    step(session, accept, 10)

    job = Job.objects.get()
    assert job.state == "scheduled"
    assert job.run_after == job.enqueued_at + timedelta(seconds=seconds)


@on_default
def test_run_after_is_kept_to_the_microsecond(session: Session) -> None:
    later = timezone.now() + timedelta(days=1, microseconds=7)

    tasks.noop.using(run_after=later).enqueue()
    step(session, accept, 10)

    assert (Job.objects.get().state, Job.objects.get().run_after) == ("scheduled", later)


@on_both
def test_it_goes_to_the_database_that_was_named() -> None:
    with suppress(RuntimeError), transaction.atomic(using="other"):
        tasks.noop.using(database="default").enqueue(1)
        tasks.noop.using(database="other").enqueue(2)
        tasks.noop.enqueue(3)
        raise RuntimeError

    assert committed("default") == ['{"args":[1],"kwargs":{}}']
    assert committed("other") == []


@on_default
def test_a_message_written_in_a_transaction_is_known_there_and_nowhere_else() -> None:
    with transaction.atomic():
        handle = tasks.noop.enqueue()

        assert Message.objects.get().uid == handle.id
        assert committed() == []
    assert len(committed()) == 1


# ---------------------------------------------------------------------------------------------------------------
# What is refused. Each says what to do; nothing is written.


class Blank(str):
    pass


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no JSON": (lambda: tasks.echo.enqueue(object()), InvalidArguments, r"args\[0\] is of type object"),
    "a set": (lambda: tasks.echo.enqueue({1}), InvalidArguments, r"pass list\(...\) of it"),
    "a tuple": (lambda: tasks.echo.enqueue((1, 2)), InvalidArguments, r"pass list\(...\) of it"),
    "a decimal": (lambda: tasks.echo.enqueue(Decimal(1)), InvalidArguments, "decimal.Decimal"),
    "a time": (lambda: tasks.echo.enqueue(timezone.now()), InvalidArguments, "parse it in the task"),
    "a subclass": (lambda: tasks.echo.enqueue(Blank("a")), InvalidArguments, r"pass str\(...\) of it"),
    "a keyword": (lambda: tasks.echo.enqueue(value={"a": {1}}), InvalidArguments, r"kwargs\['value'\]\['a'\] is of"),
    "no text as key": (lambda: tasks.echo.enqueue({1: 2}), InvalidArguments, "keys must be str"),
    "NaN": (lambda: tasks.echo.enqueue(float("nan")), InvalidArguments, "nan, which JSON cannot say"),
    "infinity": (lambda: tasks.echo.enqueue(float("inf")), InvalidArguments, "inf, which JSON cannot say"),
    "NUL": (lambda: tasks.echo.enqueue("a\x00"), InvalidArguments, "NUL character, which PostgreSQL cannot store"),
    "a surrogate": (lambda: tasks.echo.enqueue("\ud800"), InvalidArguments, "lone surrogate"),
    "too deep": (lambda: tasks.echo.enqueue(json.loads("[" * 80 + "]" * 80)), InvalidArguments, "64 levels"),
    "too many digits": (lambda: tasks.echo.enqueue(10**5000), InvalidArguments, "digits"),
    "too large": (lambda: tasks.echo.enqueue("x" * 1_000_000), PayloadTooLarge, "Pass an id or a file name instead"),
    "too few arguments": (lambda: tasks.add.enqueue(1), InvalidArguments, "missing a required argument: 'b'"),
    "too many arguments": (lambda: tasks.add.enqueue(1, 2, 3), InvalidArguments, "too many positional arguments"),
    "an unknown argument": (lambda: tasks.add.enqueue(1, c=2), InvalidArguments, "cannot be called like this"),
    "an unknown queue": (lambda: tasks.noop.using(queue_name="q").enqueue(), InvalidOption, "add it there"),
    "a negative delay": (lambda: tasks.noop.using(delay=-1).enqueue(), InvalidOption, "0 or more minutes"),
    "an unknown priority": (lambda: tasks.noop.using(priority="top").enqueue(), InvalidOption, 'give "low"'),
    "no attempts": (lambda: tasks.noop.using(max_attempts=0).enqueue(), InvalidOption, "from 1 to 10"),
    "too many attempts": (lambda: tasks.noop.using(max_attempts=11).enqueue(), InvalidOption, "from 1 to 10"),
    "a naive time": (
        lambda: tasks.noop.using(run_after=datetime(2999, 1, 1)).enqueue(), InvalidOption, "give an aware datetime",
    ),
    "a task inside a function": (lambda: task(lambda: None).enqueue(), InvalidTask, "Move it there"),
    "an unknown database": (lambda: tasks.noop.using(database="x").enqueue(), InvalidOption, "settings.DATABASES has"),
}  # fmt: skip


@rolled_back
@pytest.mark.parametrize(("call", "error", "said"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_at_the_caller_and_nothing_is_written(call: Any, error: Any, said: str) -> None:
    with transaction.atomic():
        with CaptureQueriesContext(connection) as queries, pytest.raises(error, match=said):
            call()

        assert len(queries) == 0
        assert Message.objects.count() == 0  # and the transaction is as good as before


@pytest.mark.parametrize("error", [InvalidArguments, InvalidOption, PayloadTooLarge, InvalidTask, TooDeep])
def test_every_refusal_is_one_kind_of_error(error: type[Exception]) -> None:
    assert issubclass(error, JobsError)


@on_default
def test_outside_a_transaction_it_is_refused_where_one_is_required(settings: Any) -> None:
    settings.OUTBOX = {"REQUIRE_TRANSACTION": True}

    with pytest.raises(TransactionRequired, match="Wrap the business change and this call together"):
        tasks.noop.enqueue()

    assert committed() == []
    assert issubclass(TransactionRequired, OutboxError)


@rolled_back
def test_a_database_that_was_not_migrated_is_an_error_that_says_what_to_run() -> None:
    with a_cursor() as cursor:
        cursor.execute("ALTER TABLE outbox_message RENAME TO gone")

    with pytest.raises(OutboxMissing, match=r"manage\.py migrate outbox"):
        tasks.noop.enqueue()


@pytest.mark.parametrize("call", [lambda: tasks.add(1, 2), lambda: tasks.async_wait(1, "x"), lambda: tasks.noop()])
def test_a_task_is_not_called_by_mistake(call: Any) -> None:
    with pytest.raises(TypeError, match=r"\.enqueue\(\.\.\.\) runs it in a worker, \.call\(\.\.\.\) runs it here"):
        call()


# ---------------------------------------------------------------------------------------------------------------
# How much.


@rolled_back
@pytest.mark.parametrize(("size", "warned"), [(100_000, False), (100_001, True), (1_000_000, True)])
def test_large_arguments_are_warned_about_from_the_first_byte_over_the_limit(
    size: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.echo.enqueue(an_argument(size))

    assert len(Message.objects.get().body) == size
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warned
    assert (f"{size:,} bytes of JSON" in caplog.text) == warned
    assert "xxxxx" not in caplog.text


@rolled_back
def test_too_large_arguments_are_refused_from_the_first_byte_over_the_limit() -> None:
    with pytest.raises(PayloadTooLarge, match=r'are 1,000,001 bytes of JSON; JOBS\["MAX_PAYLOAD"\] is 1,000,000'):
        tasks.echo.enqueue(an_argument(1_000_001))

    assert not Message.objects.exists()


@rolled_back
@pytest.mark.parametrize(
    ("letter", "size"), [("x", 1), ("ä", 2), ("漢", 3), ("😀", 4), ("\\", 2), ('"', 2), ("\x01", 6)]
)
def test_bytes_are_counted_as_they_are_stored(settings: Any, letter: str, size: int) -> None:
    settings.JOBS = {"MAX_PAYLOAD": 25 + 100 * size, "WARN_PAYLOAD": 10_000}

    tasks.echo.enqueue(letter * 100)
    with pytest.raises(PayloadTooLarge):
        tasks.echo.enqueue(letter * 100 + "x")

    assert len(Message.objects.get().body.encode()) == 25 + 100 * size


@rolled_back
@pytest.mark.parametrize(("levels", "fits"), [(60, True), (66, False)])
def test_nesting_has_a_limit(levels: int, fits: bool) -> None:
    value = json.loads("[" * levels + "]" * levels)

    if fits:
        tasks.echo.enqueue(value)
    else:
        with pytest.raises(InvalidArguments, match="nested deeper than 64 levels"):
            tasks.echo.enqueue(value)

    assert Message.objects.exists() == fits


# ---------------------------------------------------------------------------------------------------------------
# What comes back.


@on_default
@examples(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.tuples(st.lists(json_values, max_size=3), st.dictionaries(text, json_values, max_size=3)),
                      min_size=1, max_size=4), many=st.booleans())  # fmt: skip
def test_arguments_come_back_through_the_database_to_the_type_and_digit(
    session: Session, calls: list[tuple[list[Any], dict[str, Any]]], many: bool
) -> None:
    Job.objects.all().delete()

    if many:
        given_ones = [[[args, kwargs], {}] for args, kwargs in calls]
        handles = shapes.anything.enqueue_many([tuple(args) for args, _ in given_ones])
    else:
        given_ones = [[[args, kwargs], {"k": kwargs}] for args, kwargs in calls]
        handles = [shapes.anything.enqueue(*args, **kwargs) for args, kwargs in given_ones]
    bodies = {message.uid: message.body for message in Message.objects.all()}
    assert step(session, accept, 100) == Moved(len(calls), 0)

    jobs = {job.id: job.arguments for job in Job.objects.all()}
    assert jobs == bodies
    for handle, (args, kwargs) in zip(handles, given_ones, strict=True):
        assert same(json.loads(jobs[handle.id]), {"args": args, "kwargs": kwargs})


# ---------------------------------------------------------------------------------------------------------------
# A chain of jobs.


@rolled_back
def test_a_job_from_a_job_knows_its_parent() -> None:
    parent = a_context(depth=3)
    token = current.set(parent)
    try:
        tasks.noop.enqueue()
    finally:
        current.reset(token)

    assert (headers()["parent"], headers()["depth"]) == (str(parent.job_id), 4)


@rolled_back
@pytest.mark.parametrize("many", [False, True])
def test_a_chain_without_an_end_is_stopped(settings: Any, many: bool) -> None:
    settings.JOBS = {"MAX_DEPTH": 5}

    for depth in (4, 5):
        token = current.set(a_context(depth))
        try:
            if depth == 5:
                with pytest.raises(TooDeep, match=r'would be job 6 in a chain .*JOBS\["MAX_DEPTH"\] is 5'):
                    tasks.noop.enqueue_many([()]) if many else tasks.noop.enqueue()
            else:
                tasks.noop.enqueue_many([()]) if many else tasks.noop.enqueue()
        finally:
            current.reset(token)

    assert headers()["depth"] == 5


@rolled_back
def test_the_limit_of_a_chain_is_a_hundred() -> None:
    token = current.set(a_context(100))
    try:
        with pytest.raises(TooDeep):
            tasks.noop.enqueue()
    finally:
        current.reset(token)


@on_default
def test_parent_and_depth_reach_the_job(session: Session) -> None:
    parent = a_context(depth=98)
    token = current.set(parent)
    try:
        tasks.noop.enqueue()
    finally:
        current.reset(token)

    step(session, accept, 10)

    job = Job.objects.get()
    assert (job.parent, job.depth) == (parent.job_id, 99)


# ---------------------------------------------------------------------------------------------------------------
# From async code.


@on_default
@pytest.mark.parametrize("many", [False, True])
def test_async_code_enqueues_in_the_transaction_of_its_caller(many: bool) -> None:
    async def view(n: int) -> None:
        if many:
            await tasks.noop.aenqueue_many([(n,)])
        else:
            await tasks.noop.aenqueue(n)

    with transaction.atomic():
        async_to_sync(view)(1)
        inside = committed()
    with transaction.atomic():
        async_to_sync(view)(2)
        transaction.set_rollback(True)

    assert inside == []
    assert committed() == ['{"args":[1],"kwargs":{}}']


@on_default
def test_an_async_view_that_wraps_a_sync_block_shares_its_transaction() -> None:
    def block() -> None:
        with transaction.atomic():
            async_to_sync(tasks.noop.aenqueue)(1)
            transaction.set_rollback(True)

    async def view() -> None:
        await sync_to_async(block)()
        await tasks.noop.aenqueue(2)

    async_to_sync(view)()

    assert committed() == ['{"args":[2],"kwargs":{}}']


@rolled_back
def test_async_code_gets_the_same_refusals() -> None:
    with pytest.raises(InvalidArguments):
        async_to_sync(tasks.add.aenqueue)(1)
    with pytest.raises(InvalidArguments, match="Call 0"):
        async_to_sync(tasks.add.aenqueue_many)([(1,)])

    assert not Message.objects.exists()


# ---------------------------------------------------------------------------------------------------------------
# Here and now.


def test_call_runs_the_function_here() -> None:
    assert tasks.add.call(20, b=22) == 42
    assert shapes.contextual.call("x") == (1, "x")
    assert shapes.coroutine.call(1) == (1, 2)
    assert shapes.contextual_coroutine.call(1) == (1, 1)


def test_acall_runs_it_in_async_code() -> None:
    async def all_of_them() -> list[Any]:
        return [
            await tasks.add.acall(20, b=22),
            await shapes.contextual.acall("x"),
            await shapes.coroutine.acall(1),
            await shapes.contextual_coroutine.acall(1),
        ]

    assert async_to_sync(all_of_them)() == [42, (1, "x"), (1, 2), (1, 1)]


def test_what_the_function_raises_is_the_callers() -> None:
    with pytest.raises(TypeError):
        tasks.add.call(1)  # type: ignore[call-arg]


@rolled_back
@pytest.mark.parametrize("name", ["self", "args", "kwargs", "key", "func", "draft", "database"])
def test_a_parameter_may_have_any_name(name: str) -> None:
    shapes.any_kwargs.enqueue(**{name: 1})

    assert json.loads(Message.objects.get().body) == {"args": [], "kwargs": {name: 1}}
