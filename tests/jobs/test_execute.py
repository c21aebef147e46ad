"""Executing: the function is called, and whatever it does, an outcome comes out. No database anywhere."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import uuid4

import pytest
from django.utils.safestring import mark_safe
from hypothesis import given

from jobs.claim import Claimed
from jobs.conf import JobsSettings
from jobs.context import JobContext, current
from jobs.errors import GiveUp, RetryAfter, TimedOut, TimeLimit
from jobs.execute import MISFITS, TRACEBACK_LIMIT, execute, execute_async, timeout_of
from jobs.outcome import Outcome
from tests.support.floor import DEFAULTS, a_claimed, a_task, properties
from tests.support.hostile import ERRORS, HOSTILE_ERRORS, results


def run(func: Callable[..., Any], job: Claimed | None = None, **options: Any) -> Outcome:
    return execute(job or a_claimed(max_attempts=3), a_task(func, **options), DEFAULTS, time.monotonic())


async def run_async(
    func: Callable[..., Any], job: Claimed | None = None, *, late: bool = False, **options: Any
) -> Outcome:
    given = job or a_claimed(max_attempts=3)
    return await execute_async(given, a_task(func, **options), DEFAULTS, time.monotonic(), lambda: late)


def failing(*_: Any) -> None:
    raise ValueError("no")


# The call -----------------------------------------------------------------------------------------------------------


def test_a_task_gets_its_arguments_as_they_were_enqueued() -> None:
    def tell(a: Any, b: Any, *, c: Any) -> Any:
        return [a, b, c]

    outcome = run(tell, a_claimed(args=[1e16, {"b": 1, "a": -0.0}], kwargs={"c": "ä\u2028"}))

    assert outcome.state == "succeeded"
    assert outcome.result == '[1e+16,{"b":1,"a":-0.0},"ä\u2028"]'


def test_the_context_says_which_job_and_attempt_this_is() -> None:
    seen: list[JobContext] = []
    job = a_claimed(
        task="shop.tasks.send",
        queue="mail",
        priority=7,
        attempts=2,
        crashes=1,
        max_attempts=5,
        source_name="checkout",
        idempotency_key="order-9",
        depth=4,
    )

    run(lambda context: seen.append(context), job, takes_context=True)

    context = JobContext(job.id, "order-9", 3, 5, "shop.tasks.send", "mail", 7, "checkout", 4, job.lease, job.claimer)
    assert seen == [context]


def test_without_key_and_source_name_the_context_has_the_id_and_the_task() -> None:
    seen: list[JobContext] = []
    job = a_claimed()

    run(lambda context: seen.append(context), job, takes_context=True)

    assert (seen[0].idempotency_key, seen[0].source_name) == (str(job.id), job.task)


def test_key_and_id_are_the_same_in_every_attempt() -> None:
    seen: list[JobContext] = []
    job = a_claimed(max_attempts=5)

    for attempts, lease in [(0, 1), (0, 2), (1, 3), (4, 9)]:
        run(lambda context: seen.append(context), job._replace(attempts=attempts, lease=lease), takes_context=True)

    assert {(context.job_id, context.idempotency_key) for context in seen} == {(job.id, str(job.id))}
    assert [context.attempt for context in seen] == [1, 1, 2, 5]


@pytest.mark.parametrize("func", [lambda: None, failing], ids=["succeeds", "fails"])
def test_the_job_is_current_only_while_it_runs(func: Callable[..., Any]) -> None:
    seen = []
    job = a_claimed()

    def tell() -> None:
        seen.append(current.get())
        func()

    run(tell, job)

    assert seen[0] is not None and seen[0].job_id == job.id
    assert current.get() is None


def test_a_job_that_changes_what_is_current_leaves_nothing_behind() -> None:
    def meddle() -> None:
        current.set(None)

    run(meddle)

    assert current.get() is None


def test_the_time_limit_passes_through_and_nothing_stays_current() -> None:
    def late() -> None:
        raise TimeLimit

    with pytest.raises(TimeLimit):
        run(late)

    assert current.get() is None


@pytest.mark.parametrize(
    ("own", "priority", "expected"),
    [(None, 50, 60), (None, 100, 60), (None, 49, 300), (None, -49, 300), (None, -50, 14_400), (2.5, 50, 2.5)],
)
def test_the_limit_is_the_tasks_own_or_that_of_the_priority(own: float | None, priority: int, expected: float) -> None:
    assert timeout_of(a_claimed(priority=priority), a_task(failing, timeout=own), DEFAULTS) == expected


# Failures -----------------------------------------------------------------------------------------------------------


def test_an_error_is_kept_in_one_line_with_its_traceback() -> None:
    outcome = run(failing)

    assert (outcome.state, outcome.kind, outcome.number) == ("retrying", "failed", 1)
    assert outcome.error == "ValueError: no"
    assert outcome.traceback.splitlines()[0] == "Traceback (most recent call last):"
    assert outcome.traceback.endswith("ValueError: no\n")


def test_the_traceback_begins_in_the_task_and_not_with_us() -> None:
    def deeper() -> None:
        failing()

    outcome = run(deeper)

    assert "jobs/execute.py" not in outcome.traceback
    assert "in deeper" in outcome.traceback.splitlines()[1]


def test_the_traceback_of_a_coroutine_begins_in_the_task_and_not_with_us() -> None:
    async def deeper() -> None:
        failing()

    outcome = asyncio.run(run_async(deeper))

    assert "jobs/execute.py" not in outcome.traceback
    assert "in deeper" in outcome.traceback.splitlines()[1]


def test_the_cause_of_an_error_is_told() -> None:
    def wrap() -> None:
        try:
            failing()
        except ValueError as error:
            raise KeyError("outer") from error

    outcome = run(wrap)

    assert outcome.error == "KeyError: 'outer'"
    assert "ValueError: no" in outcome.traceback
    assert "direct cause" in outcome.traceback


def test_the_values_of_local_variables_are_not_told() -> None:
    def charge(card: str) -> None:
        secret = card[::-1]
        raise ValueError(len(secret))

    outcome = run(charge, a_claimed(args=["4000123412341234"]))

    assert "4321" not in outcome.traceback and "4000" not in outcome.traceback


def test_of_a_long_traceback_the_end_is_kept() -> None:
    def talks() -> None:
        raise ValueError("x" * 100_000 + "the end")

    outcome = run(talks)

    assert len(outcome.traceback) <= TRACEBACK_LIMIT + 1
    assert outcome.traceback.startswith("…")
    assert outcome.traceback.endswith("the end\n")
    assert len(outcome.error) <= 2000


def test_endless_recursion_is_a_failure() -> None:
    def again() -> None:
        again()

    outcome = run(again)

    assert outcome.state == "retrying"
    assert outcome.error.startswith("RecursionError")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_what_would_end_a_program_is_a_failure_of_the_job(error: type[BaseException]) -> None:
    def leave() -> None:
        raise error

    outcome = run(leave)

    assert (outcome.state, outcome.kind) == ("retrying", "failed")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_that_cannot_be_read_is_a_failure_all_the_same(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    outcome = run(fail)

    assert (outcome.state, outcome.kind) == ("retrying", "failed")
    outcome.error.encode()
    outcome.traceback.encode()
    assert "\x00" not in outcome.error + outcome.traceback


@pytest.mark.parametrize("error", HOSTILE_ERRORS.values(), ids=HOSTILE_ERRORS.keys())
def test_an_error_that_fights_back_is_a_failure_all_the_same(error: type[BaseException]) -> None:
    """Nobody writes these by accident, but one of them ends the slot's process with all that waits in it."""

    def fail() -> None:
        raise error

    outcome = None
    with suppress(BaseException):  # pytest itself cannot report one of these
        outcome = run(fail)

    assert outcome is not None, "the error got out of execute"
    assert (outcome.state, outcome.kind) == ("retrying", "failed")


def test_a_job_raises_timed_out_itself() -> None:
    def late() -> None:
        raise TimedOut("the supplier did not answer")

    outcome = run(late)

    assert (outcome.state, outcome.kind, outcome.error) == (
        "retrying",
        "timed_out",
        "jobs.errors.TimedOut: the supplier did not answer",
    )


@pytest.mark.parametrize(
    ("error", "options", "state", "delay"),
    [
        (ValueError(), {"backoff": (9,)}, "retrying", None),
        (ValueError(), {"never_retry_on": (ValueError,)}, "dead", 0.0),
        (ValueError(), {"retry_on": (OSError,)}, "dead", 0.0),
        (GiveUp("gone"), {}, "dead", 0.0),
        (RetryAfter(77), {"backoff": (1,)}, "retrying", 77.0),
        (RetryAfter(timedelta(minutes=1)), {}, "retrying", 60.0),
        (ValueError(), {"backoff": lambda *_: None}, "dead", 0.0),
        (ValueError(), {"backoff": lambda *_: 3}, "retrying", 3.0),
    ],
)
def test_the_tasks_policy_decides(
    error: BaseException, options: dict[str, Any], state: str, delay: float | None
) -> None:
    def fail() -> None:
        raise error

    outcome = run(fail, **options)

    assert outcome.state == state
    assert delay is None or outcome.delay == delay


def test_the_last_attempt_is_dead_whatever_the_policy_says() -> None:
    outcome = run(failing, a_claimed(attempts=2, max_attempts=3), backoff=lambda *_: 1)

    assert (outcome.state, outcome.attempts) == ("dead", 3)


def broken_backoff(*_: Any) -> float:
    raise LookupError("no table")


def hopeless_backoff(*_: Any) -> float:
    raise SystemExit("no table")


@pytest.mark.parametrize("backoff", [broken_backoff, hopeless_backoff, lambda *_: "soon", lambda: 1])
def test_a_broken_backoff_function_gives_the_first_default_wait_and_is_named(backoff: Callable[..., Any]) -> None:
    outcome = run(failing, backoff=backoff)

    assert (outcome.state, outcome.delay) == ("retrying", DEFAULTS.BACKOFF[0])
    assert outcome.error.startswith("ValueError: no (its backoff function raised ")


# Arguments ----------------------------------------------------------------------------------------------------------

UNREADABLE = ["", "nonsense", "null", "[]", "{}", '{"args":{},"kwargs":{}}', '{"args":[],"kwargs":[]}', "[" * 100_000]


@pytest.mark.parametrize("arguments", UNREADABLE, ids=lambda text: text[:10])
def test_arguments_that_cannot_be_read_are_the_end_of_the_job(arguments: str) -> None:
    outcome = run(failing, a_claimed(arguments=arguments, max_attempts=3))

    assert (outcome.state, outcome.kind, outcome.attempts) == ("dead", "failed", 1)
    assert "cannot be read" in outcome.error
    assert outcome.traceback == ""


@pytest.mark.parametrize(("args", "kwargs"), [([], {}), ([1, 2], {}), ([1], {"b": 2}), ([], {"b": 1}), ([1], {"a": 1})])
@pytest.mark.parametrize("lease", [1, MISFITS - 1])
def test_a_call_that_does_not_fit_waits_for_a_worker_it_fits(
    args: list[Any], kwargs: dict[str, Any], lease: int
) -> None:
    outcome = run(lambda a: a, a_claimed(args=args, kwargs=kwargs, lease=lease))

    assert (outcome.state, outcome.attempts, outcome.kind) == ("scheduled", 0, "")
    assert outcome.delay > 0
    assert "cannot be called like this" in outcome.error


def test_a_call_that_fits_no_worker_for_an_hour_is_dead() -> None:
    outcome = run(lambda a: a, a_claimed(args=[], lease=MISFITS))

    assert (outcome.state, outcome.kind) == ("dead", "failed")


def test_a_type_error_of_the_task_is_no_misfit() -> None:
    def wrong() -> Any:
        return len(5)  # type: ignore[arg-type]

    outcome = run(wrong)

    assert (outcome.state, outcome.attempts) == ("retrying", 1)


# Results ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [None, True, 0, -1, 10**30, 1.5, -0.0, 1e16, "", "é", [], {}, [1, [2, {"a": None}]], {"b": 1, "a": 2}]
)
def test_a_result_comes_back_as_it_was(value: Any) -> None:
    outcome = run(lambda: value)

    assert outcome.state == "succeeded"
    assert outcome.result is not None
    assert repr(json.loads(outcome.result)) == repr(value)
    assert outcome.error == ""


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "of type object"),
        ({1, 2}, "of type set, which would not come back as it is; return list(...) of it"),
        (uuid4(), "of type uuid.UUID"),
        (Decimal(1), "of type decimal.Decimal"),
        (b"bytes", "of type bytes"),
        (float("nan"), "JSON cannot say"),
        (float("inf"), "JSON cannot say"),
        ({1: 2}, "keys must be str"),
        ([[[object()]]], "[0][0][0]"),
        (10**5000, "over 4000 digits"),
    ],
    ids=["object", "set", "uuid", "decimal", "bytes", "nan", "infinity", "number as key", "deep inside", "long number"],
)
def test_a_result_that_is_not_json_fails_the_attempt_for_good(value: Any, why: str) -> None:
    outcome = run(lambda: value, a_claimed(max_attempts=3))

    assert (outcome.state, outcome.kind, outcome.attempts, outcome.result) == ("dead", "failed", 1, None)
    assert outcome.error.startswith("jobs.errors.InvalidResult: the result")
    assert why in outcome.error


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ((1, (2,)), "[1,[2]]"),
        (mark_safe("<b>"), '"<b>"'),
        (Colour.RED, '"red"'),
        (Size.BIG, "3"),
        (OrderedDict(a=(True,)), '{"a":[true]}'),
    ],
    ids=["tuple", "safe text", "enum", "number of an enum", "mapping"],
)
def test_a_result_is_kept_as_json_spells_it(value: Any, kept: str) -> None:
    outcome = run(lambda: value)

    assert (outcome.state, outcome.result, outcome.error) == ("succeeded", kept, "")


def test_a_result_that_is_too_large_is_a_success_without_it() -> None:
    outcome = run(lambda: "x" * 1_000_001)

    assert (outcome.state, outcome.result, outcome.kind) == ("succeeded", None, "")
    assert outcome.error.startswith("its result was not kept: ")
    assert "over JOBS" in outcome.error


def test_the_size_of_a_result_is_in_bytes() -> None:
    settings = JobsSettings(MAX_RESULT=10)

    def size(text: str) -> str | None:
        return execute(a_claimed(), a_task(lambda: text), settings, 0.0).result

    assert size("12345678") == '"12345678"'
    assert size("123456789") is None
    assert size("ääää") == '"ääää"'
    assert size("äääää") is None


def test_text_that_cannot_be_stored_is_cleaned() -> None:
    outcome = run(lambda: {"a\x00": ["b\ud800c"]})

    assert outcome.result == '{"a\ufffd":["b\ufffdc"]}'


@pytest.mark.parametrize("kind", ["endless", "bottomless"])
def test_a_result_without_an_end_fails_the_attempt(kind: str) -> None:
    value: list[Any] = []
    if kind == "endless":
        value.append(value)
    else:
        for _ in range(100_000):
            value = [value]

    outcome = run(lambda: value)

    assert (outcome.state, outcome.result) == ("dead", None)
    assert outcome.error.startswith("jobs.errors.InvalidResult: ")


@properties
@given(results)
def test_any_result_leads_to_an_outcome_that_can_be_stored(value: Any) -> None:
    outcome = run(lambda: value)

    assert outcome.state in ("succeeded", "dead")
    for text in (outcome.result or "", outcome.error):
        text.encode()
        assert "\x00" not in text
    assert (outcome.result is None) == bool(outcome.error)
    assert outcome.state == "succeeded" or outcome.error.startswith("jobs.errors.InvalidResult: ")
    assert outcome.result is None or json.loads(outcome.result) is not ...


# Coroutines ---------------------------------------------------------------------------------------------------------


def test_a_coroutine_is_awaited() -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    outcome = asyncio.run(run_async(add, a_claimed(args=[20, 22])))

    assert (outcome.state, outcome.result) == ("succeeded", "42")


def test_coroutines_beside_one_another_have_each_their_own_current_job() -> None:
    async def tell(context: JobContext) -> list[Any]:
        before = current.get()
        await asyncio.sleep(0)
        after = current.get()
        return [str(seen.job_id) if seen else None for seen in (context, before, after)]

    async def many() -> list[tuple[Claimed, Outcome]]:
        jobs = [a_claimed() for _ in range(10)]
        outcomes = await asyncio.gather(*(run_async(tell, job, takes_context=True) for job in jobs))
        return list(zip(jobs, outcomes, strict=True))

    for job, outcome in asyncio.run(many()):
        assert json.loads(outcome.result or "") == [str(job.id)] * 3


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_coroutine_that_raises_has_failed(error: type[BaseException]) -> None:
    async def fail() -> None:
        raise error

    outcome = asyncio.run(run_async(fail))

    assert (outcome.state, outcome.kind) == ("retrying", "failed")


def test_a_coroutine_cancelled_at_its_limit_has_timed_out() -> None:
    async def wait() -> None:
        await asyncio.sleep(3600)

    async def cancelled() -> Outcome:
        job = asyncio.ensure_future(run_async(wait, late=True, timeout=2))
        await asyncio.sleep(0)
        job.cancel()
        return await job

    outcome = asyncio.run(cancelled())

    assert (outcome.state, outcome.kind) == ("retrying", "timed_out")
    assert outcome.error == "jobs.errors.TimedOut: cancelled at its limit of 2 s"
    assert "in wait" in outcome.traceback


@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_what_a_coroutine_does_with_its_cancellation_makes_it_no_success(ends: str) -> None:
    async def stubborn() -> str:
        if ends == "raises":
            raise LookupError("other")
        return "done"

    outcome = asyncio.run(run_async(stubborn, late=True))

    assert (outcome.state, outcome.kind, outcome.result) == ("retrying", "timed_out", None)


def test_a_timeout_of_a_coroutine_follows_the_policy() -> None:
    async def stubborn() -> None:
        return

    assert asyncio.run(run_async(stubborn, late=True, never_retry_on=(TimedOut,))).state == "dead"
    assert asyncio.run(run_async(stubborn, late=True, retry_on=(OSError,))).state == "dead"
    assert asyncio.run(run_async(stubborn, late=True, retry_on=(TimedOut,))).state == "retrying"


def test_misfits_and_unreadable_arguments_of_coroutines() -> None:
    async def one(a: int) -> int:
        return a

    assert asyncio.run(run_async(one, a_claimed(args=[]))).state == "scheduled"
    assert asyncio.run(run_async(one, a_claimed(arguments="?"))).state == "dead"


def test_no_job_is_current_after_a_coroutine() -> None:
    async def both() -> JobContext | None:
        await run_async(failing)
        return current.get()

    assert asyncio.run(both()) is None
