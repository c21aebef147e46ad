"""Judge what became of the jobs of a dead slot. Pure: the board as it was read goes in, a fate for each job comes out.

One job is to blame for a timeout, and one for a crash where that can be told; its neighbours go back uncharged.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from jobs.board import Ended, Running
from jobs.outcome import Happened
from jobs.verdict import Fated

SUCCEEDED = {True: Happened.SUCCEEDED, False: Happened.RESULT_LOST}

BLOCKED = 0.5
"""Seconds in one step after which a coroutine blocks its loop."""


def culprit(overdue: Running, running: Sequence[Running], stepping: tuple[int, float], now: float) -> Running:
    """Who made `overdue` overdue: itself, or the coroutine that blocks the event loop they share."""
    place, since = stepping
    if overdue.place and place and place != overdue.place and now - since > BLOCKED:
        return next((job for job in running if job.place == place), overdue)
    return overdue


def timed_out(running: Sequence[Running], guilty: Running, stack: str, now: float) -> list[Fated]:
    """The slot was killed because `guilty` was at its limit."""
    limit, ran = guilty.deadline - guilty.started, now - guilty.started
    if ran < limit:
        error = f"TimedOut: it blocked the event loop past the limit of a neighbour, and was killed after {ran:.1f} s"
    else:
        error = f"TimedOut: killed at its limit of {limit:g} s"
    return [
        _fated(job, Happened.TIMED_OUT, now, error, stack) if job.place == guilty.place else _spared(job, now)
        for job in running
    ]


def cancelled(running: Sequence[Running], guilty: Running, reason: str, now: float) -> list[Fated]:
    """The slot was killed because a person had cancelled `guilty`."""
    return [
        _fated(job, Happened.CANCELLED, now, reason) if job.place == guilty.place else _spared(job, now)
        for job in running
    ]


def crashed(running: Sequence[Running], stepping: int, status: int, now: float) -> list[Fated]:
    """The slot died by itself. The sync job and the coroutine the loop was in may have done it; if there was neither,
    any of them may."""
    suspects = {job.place for job in running if job.place in (0, stepping)} or {job.place for job in running}
    error = f"its process died: {spell(status)}"
    return [
        _fated(job, Happened.CRASHED, now, error) if job.place in suspects else _spared(job, now) for job in running
    ]


def with_ended(jobs: Sequence[Fated], ended: Sequence[Ended]) -> list[Fated]:
    """The fates of the jobs that ran, and those of the jobs that had already succeeded: these are not judged."""
    done = {(str(job.job), job.lease) for job in ended}
    return [
        *(Fated(str(job.job), job.lease, job.claimer, SUCCEEDED[job.empty], 0.0) for job in ended),
        *(job for job in jobs if (job.job, job.lease) not in done),
    ]


def spared(running: Sequence[Running], now: float) -> list[Fated]:
    """The slot was stopped for a reason that is no job's."""
    return [_spared(job, now) for job in running]


def _spared(job: Running, now: float) -> Fated:
    return _fated(job, Happened.HANDED_BACK, now)


def _fated(job: Running, happened: Happened, now: float, error: str = "", stack: str = "") -> Fated:
    return Fated(str(job.job), job.lease, job.claimer, happened, now - job.started, error, stack)


def spell(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
