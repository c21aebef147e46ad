"""What follows from what happened. Pure: properties over any sequence of events."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.claim import Claimed
from jobs.conf import JobsSettings
from jobs.context import JobContext
from jobs.errors import GiveUp, RetryAfter, TimedOut
from jobs.execute import context_of
from jobs.outcome import Happened, Outcome, Trouble, decide, jittered, retry_wait, wait_of
from tests.support.floor import DEFAULTS, a_claimed, properties

ENDS = ("succeeded", "dead", "cancelled")
CHARGED = (Happened.FAILED, Happened.TIMED_OUT)
CRASHES = (Happened.CRASHED, Happened.LOST)
FREE = (Happened.HANDED_BACK, Happened.UNKNOWN)

FOR_EVER = [float("inf"), 1e300, 1e15, timedelta.max]
TEN_YEARS = timedelta(days=3660).total_seconds()

happenings = st.sampled_from(list(Happened))
waits = st.none() | st.floats(0, 1e6)


class Policy(NamedTuple):
    """What a task says about retries."""

    retry_on: tuple[type[BaseException], ...] = (BaseException,)
    never_retry_on: tuple[type[BaseException], ...] = ()
    backoff: Any = None


def next_claim(job: Claimed, outcome: Outcome) -> Claimed:
    """The job as the next claim has it."""
    return job._replace(attempts=outcome.attempts, crashes=outcome.crashes, lease=job.lease + 1)


def wait(policy: Policy, error: BaseException, attempt: int = 1, settings: JobsSettings = DEFAULTS) -> float | None:
    return retry_wait(policy, error, context_of(a_claimed(attempts=attempt - 1, max_attempts=5)), settings)


# Any sequence -------------------------------------------------------------------------------------------------------


@properties
@given(events=st.lists(st.tuples(happenings, waits)), max_attempts=st.integers(1, 10), max_crashes=st.integers(1, 5))
def test_the_caps_hold_in_any_sequence(
    events: list[tuple[Happened, float | None]], max_attempts: int, max_crashes: int
) -> None:
    settings = JobsSettings(MAX_CRASHES=max_crashes)
    job = a_claimed(max_attempts=max_attempts)
    free = 0

    for starts, (happened, retry_in) in enumerate(events, 1):
        free += happened in FREE
        outcome = decide(job, happened, settings, retry_in=retry_in)

        assert outcome.attempts <= max_attempts
        assert outcome.crashes <= max_crashes
        assert starts <= max_attempts + max_crashes + free
        if outcome.state in ENDS:
            return
        job = next_claim(job, outcome)

    assert job.attempts < max_attempts
    assert job.crashes < max_crashes


@properties
@given(st.lists(st.sampled_from([h for h in Happened if h not in FREE]), min_size=12, max_size=12), st.integers(1, 10))
def test_an_end_is_always_reached_while_something_is_charged(events: list[Happened], max_attempts: int) -> None:
    job = a_claimed(max_attempts=max_attempts)

    for happened in events:
        outcome = decide(job, happened, DEFAULTS, retry_in=0.0)
        if outcome.state in ENDS:
            break
        job = next_claim(job, outcome)

    assert outcome.state in ENDS
    assert outcome.lease < max_attempts + DEFAULTS.MAX_CRASHES


@properties
@given(st.lists(st.sampled_from(FREE), max_size=200), st.integers(0, 4), st.integers(0, 2))
def test_a_shutdown_and_an_unknown_task_spend_nothing_however_often(
    events: list[Happened], attempts: int, crashes: int
) -> None:
    job = a_claimed(attempts=attempts, crashes=crashes, max_attempts=5)

    for happened in events:
        outcome = decide(job, happened, DEFAULTS)
        job = next_claim(job, outcome)

        assert outcome.state not in ENDS
        assert not outcome.kind

    assert (job.attempts, job.crashes) == (attempts, crashes)


@properties
@given(events=st.lists(happenings, max_size=20), max_attempts=st.integers(1, 5))
def test_counts_never_go_down_and_go_up_one_at_a_time(events: list[Happened], max_attempts: int) -> None:
    job = a_claimed(max_attempts=max_attempts)

    for happened in events:
        outcome = decide(job, happened, DEFAULTS, retry_in=1.0)
        spent, crashed = outcome.attempts - job.attempts, outcome.crashes - job.crashes

        assert (spent, crashed) in {(0, 0), (1, 0), (0, 1)}
        assert (spent, crashed) == (
            int(happened in (*CHARGED, "succeeded", "result_lost", "unreadable")),
            int(happened in CRASHES),
        )
        if outcome.state in ENDS:
            return
        job = next_claim(job, outcome)


@properties
@given(happened=happenings, retry_in=waits, lease=st.integers(1, 10_000), attempts=st.integers(0, 4))
def test_every_outcome_can_be_written(happened: Happened, retry_in: float | None, lease: int, attempts: int) -> None:
    job = a_claimed(lease=lease, attempts=attempts, max_attempts=5)

    outcome = decide(job, happened, DEFAULTS, retry_in=retry_in)

    assert (outcome.id, outcome.lease, outcome.claimer, outcome.task) == (job.id, lease, 11, job.task)
    assert outcome.state in ("succeeded", "dead", "cancelled", "ready", "retrying", "scheduled")
    assert outcome.delay >= 0
    assert (outcome.delay == 0) or outcome.state in ("retrying", "scheduled")
    assert outcome.number == attempts + 1
    no_failure = ("succeeded", "result_lost", "cancelled", "unwanted", "handed_back", "unknown")
    assert bool(outcome.kind) == (happened not in no_failure)


# Each event ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("happened", "before", "retry_in", "after"),
    [
        # attempts and crashes spent of three each; state, attempts and crashes after
        ("succeeded", (0, 0), None, ("succeeded", 1, 0)),
        ("succeeded", (2, 2), None, ("succeeded", 3, 2)),
        ("failed", (0, 0), 5.0, ("retrying", 1, 0)),
        ("failed", (1, 0), 5.0, ("retrying", 2, 0)),
        ("failed", (2, 0), 5.0, ("dead", 3, 0)),
        ("failed", (0, 0), None, ("dead", 1, 0)),
        ("failed", (0, 2), 0.0, ("retrying", 1, 2)),
        ("timed_out", (0, 0), 5.0, ("retrying", 1, 0)),
        ("timed_out", (2, 0), 5.0, ("dead", 3, 0)),
        ("timed_out", (1, 1), None, ("dead", 2, 1)),
        ("unreadable", (0, 0), 5.0, ("dead", 1, 0)),
        ("crashed", (0, 0), 5.0, ("ready", 0, 1)),
        ("crashed", (2, 1), 5.0, ("ready", 2, 2)),
        ("crashed", (0, 2), 5.0, ("dead", 0, 3)),
        ("lost", (1, 0), None, ("ready", 1, 1)),
        ("lost", (1, 2), None, ("dead", 1, 3)),
        ("handed_back", (2, 2), None, ("ready", 2, 2)),
        ("unknown", (2, 2), None, ("scheduled", 2, 2)),
    ],
)
def test_what_follows(
    happened: str, before: tuple[int, int], retry_in: float | None, after: tuple[str, int, int]
) -> None:
    job = a_claimed(attempts=before[0], crashes=before[1], max_attempts=3)

    outcome = decide(job, Happened(happened), DEFAULTS, retry_in=retry_in)

    assert (outcome.state, outcome.attempts, outcome.crashes) == after


@pytest.mark.parametrize(
    ("happened", "kind"),
    [
        ("failed", "failed"),
        ("unreadable", "failed"),
        ("timed_out", "timed_out"),
        ("crashed", "crashed"),
        ("lost", "lost"),
        ("succeeded", ""),
        ("handed_back", ""),
        ("unknown", ""),
    ],
)
def test_a_try_that_failed_is_kept_as_an_attempt(happened: str, kind: str) -> None:
    trouble = Trouble("ValueError: no", "Traceback")

    outcome = decide(a_claimed(), Happened(happened), DEFAULTS, trouble=trouble, retry_in=1.0, started=3.0)

    assert outcome.kind == kind
    assert (outcome.error, outcome.traceback, outcome.started) == ("ValueError: no", "Traceback", 3.0)


def test_an_unknown_task_waits_longer_each_time_up_to_a_minute() -> None:
    delays = [decide(a_claimed(lease=lease), Happened.UNKNOWN, DEFAULTS).delay for lease in (1, 2, 3, 4, 5, 6, 500)]

    assert delays == [5, 10, 20, 40, 60, 60, 60]


def test_deciding_does_not_change_the_job() -> None:
    job = a_claimed(attempts=1, max_attempts=3)
    before = tuple(job)

    for happened in Happened:
        decide(job, happened, DEFAULTS, retry_in=1.0)

    assert tuple(job) == before


# How long to wait ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [(1, 5), (2, 30), (3, 120), (4, 600), (5, 1200), (6, 2400), (7, 3600), (8, 3600), (1000, 3600)],
)
def test_the_default_waits_grow_up_to_an_hour(attempt: int, expected: float) -> None:
    assert wait_of(DEFAULTS.BACKOFF, attempt) == expected


def test_waits_past_the_list_double_and_longer_ones_stay() -> None:
    assert [wait_of([7], attempt) for attempt in (1, 2, 3, 4)] == [7, 14, 28, 56]
    assert [wait_of([timedelta(hours=5)], attempt) for attempt in (1, 2, 9)] == [18_000] * 3
    assert [wait_of([0], attempt) for attempt in (1, 2, 99)] == [0, 0, 0]


@properties
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6), st.integers(1, 1000), st.integers(1, 1000))
def test_the_waits_past_the_list_never_shrink(waits: list[float], attempt: int, later: int) -> None:
    sooner, later = sorted((len(waits) + attempt, len(waits) + attempt + later))

    assert wait_of(waits, sooner) <= wait_of(waits, later) <= max(waits[-1], 3600)


@properties
@given(st.floats(0, 1e6), st.floats(0, 1))
def test_jitter_keeps_its_share(wait: float, share: float) -> None:
    assert wait * (1 - share) * 0.999_999 <= jittered(wait, share) <= wait * (1 + share) * 1.000_001


@pytest.mark.parametrize(("attempt", "around"), [(1, 5), (2, 30), (3, 120), (4, 600)])
def test_the_default_backoff_has_jitter_of_a_fifth(attempt: int, around: float) -> None:
    drawn = {wait(Policy(), ValueError(), attempt) for _ in range(200)}

    assert len(drawn) > 100
    assert all(0.8 * around <= each <= 1.2 * around for each in drawn if each is not None)
    assert min(filter(None, drawn)) < 0.9 * around < 1.1 * around < max(filter(None, drawn))


def test_without_jitter_the_table_is_exact() -> None:
    settings = JobsSettings(BACKOFF_JITTER=0, BACKOFF=[1, 2])

    assert [wait(Policy(), ValueError(), attempt, settings) for attempt in (1, 2, 3)] == [1, 2, 4]


def test_a_task_has_its_own_waits() -> None:
    settings = JobsSettings(BACKOFF_JITTER=0)
    policy = Policy(backoff=(timedelta(minutes=1), 2.5))

    assert [wait(policy, ValueError(), attempt, settings) for attempt in (1, 2, 3)] == [60, 2.5, 5]


def test_a_wait_of_zero_is_zero() -> None:
    assert wait(Policy(backoff=(0,)), ValueError()) == 0.0


# Policy -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "error", "retried"),
    [
        (Policy(), ValueError(), True),
        (Policy(), SystemExit(), True),
        (Policy(), TimedOut(), True),
        (Policy(retry_on=(OSError,)), ConnectionError(), True),
        (Policy(retry_on=(OSError,)), ValueError(), False),
        (Policy(retry_on=(OSError,)), TimedOut(), False),
        (Policy(retry_on=(OSError, TimedOut)), TimedOut(), True),
        (Policy(never_retry_on=(ValueError,)), ValueError(), False),
        (Policy(never_retry_on=(ValueError,)), UnicodeError(), False),
        (Policy(never_retry_on=(ValueError,)), KeyError(), True),
        (Policy(never_retry_on=(TimedOut,)), TimedOut(), False),
        (Policy(retry_on=(OSError,), never_retry_on=(ConnectionError,)), ConnectionResetError(), False),
        (Policy(), GiveUp(), False),
        (Policy(retry_on=(GiveUp,)), GiveUp(), False),
        (Policy(backoff=lambda *_: 1), GiveUp(), False),
        (Policy(retry_on=()), ValueError(), False),
        (Policy(retry_on=()), RetryAfter(1), True),
        (Policy(never_retry_on=(RetryAfter,)), RetryAfter(1), False),
    ],
)
def test_the_policy_decides_what_is_retried(policy: Policy, error: BaseException, retried: bool) -> None:
    assert (wait(policy, error) is not None) is retried


@pytest.mark.parametrize(("delay", "expected"), [(0, 0.0), (12.5, 12.5), (timedelta(minutes=2), 120.0)])
def test_retry_after_says_when_exactly(delay: Any, expected: float) -> None:
    assert wait(Policy(backoff=(99,)), RetryAfter(delay)) == expected


@pytest.mark.parametrize("delay", [-1, float("nan"), timedelta(seconds=-1)])
def test_retry_after_refuses_what_is_no_wait(delay: Any) -> None:
    with pytest.raises(ValueError, match="delay"):
        RetryAfter(delay)


@pytest.mark.parametrize("delay", FOR_EVER)
def test_retry_after_for_ever_is_refused_or_bounded(delay: Any) -> None:
    """A time that no calendar has cannot be written: the job would be stuck running."""
    with suppress(ValueError):
        waited = wait(Policy(), RetryAfter(delay))

        assert waited is not None and waited <= TEN_YEARS


def test_retry_after_spends_an_attempt_and_ends_with_the_last() -> None:
    last = a_claimed(attempts=2, max_attempts=3)

    outcome = decide(last, Happened.FAILED, DEFAULTS, retry_in=wait(Policy(), RetryAfter(1)))

    assert (outcome.state, outcome.attempts) == ("dead", 3)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (7, 7.0),
        (0, 0.0),
        (True, 1.0),
        (timedelta(seconds=90), 90.0),
        (Decimal("1.5"), 1.5),
        (None, None),
        (-3, 0.0),
        (timedelta(days=-1), 0.0),
        (float("nan"), 0.0),
    ],
)
def test_a_tasks_own_backoff_answers_the_wait(answer: Any, expected: float | None) -> None:
    assert wait(Policy(backoff=lambda *_: answer), ValueError()) == expected


def test_a_backoff_function_is_told_the_error_and_the_context() -> None:
    told: list[tuple[BaseException, JobContext]] = []
    error = ValueError("this one")

    def backoff(*given: Any) -> float:
        told.append(given)
        return 1.0

    wait(Policy(backoff=backoff), error, attempt=3)

    assert told[0][0] is error
    assert (told[0][1].attempt, told[0][1].max_attempts) == (3, 5)


@pytest.mark.parametrize("answer", FOR_EVER)
def test_a_backoff_function_that_answers_for_ever_gets_a_wait_that_can_be_written(answer: Any) -> None:
    waited = wait(Policy(backoff=lambda *_: answer), ValueError())

    assert waited is not None and waited <= TEN_YEARS


def raising(*_: Any) -> float:
    raise ZeroDivisionError


@pytest.mark.parametrize("backoff", [raising, lambda: 1, lambda *_: "soon", lambda *_: 10**400])
def test_a_broken_backoff_function_raises_here_and_is_caught_by_who_asks(backoff: Callable[..., Any]) -> None:
    with pytest.raises((ZeroDivisionError, TypeError, ValueError, OverflowError)):
        wait(Policy(backoff=backoff), ValueError())


def test_a_result_that_is_lost_with_its_process_is_a_success_that_says_so() -> None:
    outcome = decide(a_claimed(), Happened.RESULT_LOST, DEFAULTS, result="null")

    assert (outcome.state, outcome.attempts, outcome.result, outcome.kind) == ("succeeded", 1, None, "")
    assert "its result was lost" in outcome.error
