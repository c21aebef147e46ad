"""Execute a claimed job: find its task, call it, and say what happened. Never touches the database.

It takes a job as claimed; it leaves an Outcome. Nothing a task returns, raises or says in an error can make this fail
or make the outcome unwritable. A crash here takes the process with it; the supervisor sees that from outside.
"""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Callable
from typing import Any

from jobs.claim import Claimed
from jobs.condition import aask, ask
from jobs.conf import JobsSettings, band_of
from jobs.context import JobContext, current
from jobs.errors import InvalidResult, TimedOut, TimeLimit
from jobs.fit import Misfit, Unreadable, arguments_of
from jobs.outcome import NO_TROUBLE, Happened, Outcome, Trouble, decide, retry_wait
from jobs.result import pack_result
from jobs.tasks import Task
from outbox.text import clean, describe

SAID_NO = Trouble("only_if said no")

TRACEBACK_LIMIT = 20_000
"""Characters of a traceback that are kept: its end, where the error is."""


def timeout_of(job: Claimed, task: Task[Any, Any], settings: JobsSettings) -> float:
    """Seconds this attempt may run: the task's own limit, else that of the job's priority."""
    return task.timeout if task.timeout is not None else settings.timeout(band_of(job.priority))


def context_of(job: Claimed) -> JobContext:
    return JobContext(
        job.id,
        job.idempotency_key,
        job.attempts + 1,
        job.max_attempts,
        job.task,
        job.queue,
        job.priority,
        job.source_name or job.task,
        job.depth,
        job.lease,
        job.claimer,
    )


def execute(job: Claimed, task: Task[Any, Any], settings: JobsSettings, started: float) -> Outcome:
    """Call a sync task. TimeLimit passes through: the process is about to be killed."""
    context = context_of(job)
    token = current.set(context)
    try:
        args, kwargs = arguments_of(job.arguments, job.version, task)
        if task.only_if is not None and not ask(task, context, args, kwargs):
            return unwanted(job, settings)
        value = task.func(context, *args, **kwargs) if task.takes_context else task.func(*args, **kwargs)
    except TimeLimit:
        raise
    except BaseException as error:
        return failed(job, task, settings, context, error, started)
    finally:
        current.reset(token)
    return succeeded(job, task, settings, context, value, started)


async def execute_async(
    job: Claimed, task: Task[Any, Any], settings: JobsSettings, started: float, timed_out: Callable[[], bool]
) -> Outcome:
    """Await an `async def` task. `timed_out` says whether the loop has cancelled it at its limit: then whatever it
    raised or returned after that is a timeout."""
    context = context_of(job)
    token = current.set(context)
    try:
        args, kwargs = arguments_of(job.arguments, job.version, task)
        if task.only_if is not None and not await aask(task, context, args, kwargs):
            return unwanted(job, settings)
        value = await (task.func(context, *args, **kwargs) if task.takes_context else task.func(*args, **kwargs))
    except (TimeLimit, GeneratorExit):
        raise
    except BaseException as error:
        if timed_out():
            error = TimedOut(f"cancelled at its limit of {timeout_of(job, task, settings):g} s").with_traceback(
                error.__traceback__
            )
        return failed(job, task, settings, context, error, started)
    finally:
        current.reset(token)
    if timed_out():
        late = TimedOut(f"returned only after its limit of {timeout_of(job, task, settings):g} s")
        return failed(job, task, settings, context, late, started)
    return succeeded(job, task, settings, context, value, started)


def unwanted(job: Claimed, settings: JobsSettings) -> Outcome:
    """Its condition said no: it has never started."""
    return decide(job, Happened.UNWANTED, settings, trouble=SAID_NO)


MISFITS = 60
"""Claims after which a job that fits no worker is dead: an hour of waiting for a deploy to be complete."""


def succeeded(
    job: Claimed, task: Task[Any, Any], settings: JobsSettings, context: JobContext, value: Any, started: float
) -> Outcome:
    """What follows from a return value. One that is not JSON fails the attempt and is not tried again: the effects
    would be repeated for the same answer."""
    try:
        result, note = ("null", "") if value is None else pack_result(value, settings.MAX_RESULT)
    except InvalidResult as error:
        return failed(job, task, settings, context, error, started)
    return decide(
        job, Happened.SUCCEEDED, settings, result=result, trouble=Trouble(note) if note else NO_TROUBLE, started=started
    )


def failed(
    job: Claimed,
    task: Task[Any, Any],
    settings: JobsSettings,
    context: JobContext,
    error: BaseException,
    started: float,
) -> Outcome:
    """What follows from an exception: by the task's policy, which may itself be wrong and is then ignored."""
    trouble = Trouble(describe(error), traceback_of(error))
    if isinstance(error, Misfit) and job.lease < MISFITS:
        return decide(job, Happened.UNKNOWN, settings, trouble=Trouble(trouble.error))
    if isinstance(error, Misfit | Unreadable):
        return decide(job, Happened.UNREADABLE, settings, trouble=Trouble(trouble.error), started=started)
    happened = Happened.TIMED_OUT if isinstance(error, TimedOut) else Happened.FAILED
    try:
        wait = retry_wait(task, error, context, settings)
    except TimeLimit:
        raise
    except BaseException as broken:
        trouble = Trouble(f"{trouble.error} (its backoff function raised {describe(broken)})", trouble.traceback)
        wait = settings.BACKOFF[0]
    return decide(job, happened, settings, trouble=trouble, started=started, retry_in=wait)


def traceback_of(error: BaseException) -> str:
    """The traceback without our own frames at its top, without local variables, cut at its start."""
    try:
        frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
        text = "".join(tracebacks.format_exception(type(error), error, frames))
    except BaseException:
        return "(the traceback could not be formatted)"
    if len(text) > TRACEBACK_LIMIT:
        text = "…" + text[-TRACEBACK_LIMIT:]
    return clean(text, TRACEBACK_LIMIT + 1)
