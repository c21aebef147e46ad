"""What can go wrong with a job, and what a task may raise to steer its own retry. Each message says what to do."""

from __future__ import annotations

from datetime import timedelta

from outbox.errors import TransactionRequired

LONGEST_WAIT = 3660 * 86_400.0
"""Seconds, ten years: no wait is longer, or the time it ends at could not be written."""


class JobsError(Exception):
    """Base of every error this package raises at its callers."""


class InvalidTask(JobsError):
    """A function that cannot be a task, or options of @task that make no sense. Raised at import."""


class InvalidOption(JobsError, ValueError):
    """An option of @task or using() with a value that cannot be taken. Nothing was written."""


class InvalidSchedule(JobsError, ValueError):
    """A schedule that cannot be: an unreadable cron expression, an unknown time zone, a wrong policy."""


class InvalidArguments(JobsError, ValueError):
    """Arguments that the task cannot take or that JSON cannot keep exactly. Nothing was written."""


class PayloadTooLarge(InvalidArguments):
    """The arguments are larger than JOBS["MAX_PAYLOAD"]. Pass an id or a file name instead of the data."""


class InvalidEvent(InvalidArguments):
    """A payload that does not fit the schema of its event type, or that JSON cannot keep. Nothing was written."""


class UnknownEvent(JobsError, LookupError):
    """An event type that is neither declared nor consumed, or a consumer that is not known. Nothing was written."""


class TooDeep(JobsError):
    """A job enqueued a job that enqueued a job ... past JOBS["MAX_DEPTH"]. Nothing was written."""


class JobDoesNotExist(JobsError, LookupError):
    """There is no such job: its transaction was rolled back, it was discarded, or its history has been pruned."""


class ResultMissing(JobsError, ValueError):
    """`return_value` was asked of a job that has none: it has not succeeded, or its result could not be kept."""


class TimedOut(Exception):
    """What a retry policy sees when an attempt hit its time limit; list it in `retry_on` or `never_retry_on`."""


class WorkerLost(Exception):
    """What a TaskError names for a try whose process or worker was gone before it ended."""


class JobCancelled(Exception):
    """What a TaskError names for a job that was stopped by a person."""


class TimeLimit(BaseException):
    """Raised in a task at its time limit, one second before the process is killed: the last moment to clean up."""


class GiveUp(Exception):
    """Raise it in a task that knows it can never succeed: the job is dead at once, whatever attempts are left."""


class InvalidResult(GiveUp):
    """What a task returned is not JSON: the attempt has failed, and trying again would only repeat its effects."""


class RetryAfter(Exception):
    """Raise it in a task to be tried again after `delay` (seconds or a timedelta), if attempts are left."""

    def __init__(self, delay: float | timedelta, reason: str = "") -> None:
        self.delay = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        if not 0 <= self.delay <= LONGEST_WAIT:
            raise ValueError(f"RetryAfter: delay must be from 0 to {LONGEST_WAIT:,.0f} seconds, not {delay!r}.")
        super().__init__(reason or f"again in {self.delay:g} s")


class TagOutsideTransaction(TransactionRequired):
    """OUTBOX["REQUIRE_TRANSACTION"] is on, and a `{% background %}` tag was rendered outside a transaction."""

    def __init__(self, alias: str, where: str) -> None:
        super().__init__(alias)
        self.args = (
            f"{{% background %}} at {where} was rendered outside a transaction on the database {alias!r}, and"
            ' OUTBOX["REQUIRE_TRANSACTION"] is True. Django renders a TemplateResponse after the view, and so after the'
            " request's transaction: answer with render(request, ...) instead. Elsewhere render inside"
            f" transaction.atomic(using={alias!r}).",
        )
