"""Decide what follows from what happened to a job. Pure: nothing here touches a database or a clock.

It takes the job as it was claimed and what happened; it leaves an Outcome for `finish` to write. Every path that ends
a try comes through `decide`: an error, a timeout, a dead process, a lost worker, a shutdown.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from jobs.conf import JobsSettings
from jobs.context import JobContext
from jobs.errors import LONGEST_WAIT, GiveUp, RetryAfter


class Happened(StrEnum):
    """What became of a try."""

    SUCCEEDED = "succeeded"
    RESULT_LOST = "result_lost"
    """It succeeded, and its process died before the result was written."""
    FAILED = "failed"
    """The task raised: spends an attempt."""
    TIMED_OUT = "timed_out"
    """Killed at its limit: spends an attempt."""
    UNREADABLE = "unreadable"
    """The row's arguments cannot be read or do not fit the task: no try could succeed."""
    CRASHED = "crashed"
    """Its process died under it: spends no attempt, counts as a crash."""
    LOST = "lost"
    """Its whole worker is gone: counts as a crash, started or not."""
    HANDED_BACK = "handed_back"
    """Claimed and not started, or stopped by a shutdown: spends nothing."""
    UNWANTED = "unwanted"
    """Its condition said no: it is not called, and spends nothing."""
    CANCELLED = "cancelled"
    """A person has stopped it while it ran."""
    UNKNOWN = "unknown"
    """This worker does not know the task: waits for one that does, spends nothing."""


class Facts(Protocol):
    """What `decide` needs to know of a claimed job."""

    @property
    def id(self) -> UUID: ...
    @property
    def task(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def ready_at(self) -> datetime | None: ...
    @property
    def lease(self) -> int: ...
    @property
    def claimer(self) -> int: ...
    @property
    def attempts(self) -> int: ...
    @property
    def crashes(self) -> int: ...
    @property
    def max_attempts(self) -> int: ...
    @property
    def at_most_once(self) -> bool: ...
    @property
    def calls_back(self) -> bool: ...


class Policy(Protocol):
    """What a task says about its retries."""

    @property
    def retry_on(self) -> tuple[type[BaseException], ...]: ...
    @property
    def never_retry_on(self) -> tuple[type[BaseException], ...]: ...
    @property
    def backoff(self) -> Any: ...


class Trouble(NamedTuple):
    """Why a try did not succeed, as it is kept."""

    error: str
    """In one line."""
    traceback: str = ""


NO_TROUBLE = Trouble("")
LOST_RESULT = Trouble("its result was lost: its process died before it was written")


class Outcome(NamedTuple):
    """What `finish` writes: the job's next state, fenced by `lease` and `claimer`."""

    id: UUID
    lease: int
    claimer: int
    state: str
    attempts: int
    crashes: int
    delay: float
    """Seconds until it may run again; only for scheduled and retrying."""
    result: str | None
    error: str
    traceback: str
    kind: str
    """Kind of the Attempt row to keep, or empty for none."""
    number: int
    """Which attempt this was, from 1."""
    started: float | None
    """Monotonic time of the start, None if it never started or nobody knows."""
    task: str
    queue: str
    ready_at: datetime | None
    calls_back: bool = False
    """Its row has callbacks, which an end of the job enqueues."""


UNKNOWN_WAITS = (5.0, 10.0, 20.0, 40.0, 60.0)

KEPT_AS_ATTEMPT = {
    Happened.FAILED: "failed",
    Happened.UNREADABLE: "failed",
    Happened.TIMED_OUT: "timed_out",
    Happened.CRASHED: "crashed",
    Happened.LOST: "lost",
}


def decide(
    job: Facts,
    happened: Happened,
    settings: JobsSettings,
    *,
    trouble: Trouble = NO_TROUBLE,
    result: str | None = None,
    started: float | None = None,
    retry_in: float | None = None,
) -> Outcome:
    """What follows. `retry_in` is the wait before the next attempt, None for no retry by the task's policy; `started`
    is None for a job that was claimed and never started."""
    if happened is Happened.RESULT_LOST:
        happened, result, trouble = Happened.SUCCEEDED, None, LOST_RESULT
    if happened is Happened.SUCCEEDED:
        return Outcome(
            job.id,
            job.lease,
            job.claimer,
            "succeeded",
            job.attempts + 1,
            job.crashes,
            0.0,
            result,
            trouble.error,
            trouble.traceback,
            "",
            job.attempts + 1,
            started,
            job.task,
            job.queue,
            job.ready_at,
            job.calls_back,
        )
    if happened is Happened.HANDED_BACK and started is not None and job.at_most_once:
        happened = Happened.LOST  # it ran, and nobody has seen how far it came
        trouble = Trouble(trouble.error or "stopped while it ran", trouble.traceback)
    attempts, crashes, state, delay = job.attempts, job.crashes, "ready", 0.0
    if happened in (Happened.FAILED, Happened.TIMED_OUT):
        attempts += 1
        if retry_in is not None and attempts < job.max_attempts:
            state, delay = "retrying", min(retry_in, LONGEST_WAIT)
        else:
            state = "dead"
    elif happened is Happened.UNREADABLE:
        attempts, state = attempts + 1, "dead"
    elif happened in (Happened.CRASHED, Happened.LOST):
        crashes += 1
        if job.at_most_once:
            trouble = Trouble(
                f"{trouble.error}; at_most_once: it may have run, so it is not run again", trouble.traceback
            )
        if job.at_most_once or crashes >= settings.MAX_CRASHES:
            state = "dead"
    elif happened in (Happened.CANCELLED, Happened.UNWANTED):
        state = "cancelled"
    elif happened is Happened.UNKNOWN:
        state, delay = "scheduled", UNKNOWN_WAITS[min(job.lease, len(UNKNOWN_WAITS)) - 1]
    return Outcome(
        job.id,
        job.lease,
        job.claimer,
        state,
        attempts,
        crashes,
        delay,
        result,
        trouble.error,
        trouble.traceback,
        KEPT_AS_ATTEMPT.get(happened, ""),
        job.attempts + 1,
        started,
        job.task,
        job.queue,
        job.ready_at,
        job.calls_back,
    )


def retry_wait(policy: Policy, error: BaseException, context: JobContext, settings: JobsSettings) -> float | None:
    """Seconds until the next attempt after `error`, or None where the task does not want one."""
    if isinstance(error, (GiveUp, *policy.never_retry_on)) or not _wanted(error, policy):
        return None
    if isinstance(error, RetryAfter):
        return error.delay
    if callable(policy.backoff):
        answer = policy.backoff(error, context)
        return None if answer is None else min(max(0.0, seconds(answer)), LONGEST_WAIT)
    return jittered(wait_of(policy.backoff or settings.BACKOFF, context.attempt), settings.BACKOFF_JITTER)


def _wanted(error: BaseException, policy: Policy) -> bool:
    return isinstance(error, (RetryAfter, *policy.retry_on))


def wait_of(waits: Sequence[float | timedelta], attempt: int) -> float:
    """The wait after attempt `attempt` (from 1); past the end the last one doubles, up to an hour."""
    if attempt <= len(waits):
        return seconds(waits[attempt - 1])
    last = seconds(waits[-1])
    return max(last, min(3600.0, last * 2.0 ** min(attempt - len(waits), 30)))


def jittered(wait: float, share: float) -> float:
    """`wait`, off by up to `share` of itself: many jobs that failed together do not come back together."""
    return wait * random.uniform(1.0 - share, 1.0 + share)  # noqa: S311


def seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
