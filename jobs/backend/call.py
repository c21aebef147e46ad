"""What a worker calls for a Django task: the application's function, in Django's terms.

It takes the job's context; the function gets Django's `TaskContext` where it wants one, `task_started` is sent before
it, and `task_finished` once its outcome is written. Where nobody hears and nothing asks, nothing is made. A receiver
that raises is logged and harms no job. A crash here is the job's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.utils import timezone

from jobs.afterwards import afterwards
from jobs.backend import results
from jobs.backend.api import base, exceptions, normalize_json, signals, tasks
from jobs.backend.hearers import hears
from jobs.backend.look import find
from jobs.context import JobContext, current
from jobs.errors import TimeLimit
from jobs.outcome import Outcome

standing: dict[tuple[UUID, int], Any] = {}
"""The TaskResult of each attempt that runs here, by job and lease, where one was made."""


class JobsTaskContext(base.TaskContext):  # type: ignore[misc]  # a class of the installed Django
    """Django's context with ours beside it: `context.job.progress(3, 10)`, `context.job.idempotency_key`."""

    job: JobContext

    def __init__(self, task_result: Any, job: JobContext) -> None:
        super().__init__(task_result=task_result)
        object.__setattr__(self, "job", job)


def callable_of(task: Any, alias: str, *, keeps: bool) -> Callable[..., Any]:
    """The function that stands in the registry for the task's own. `keeps`: its backoff function wants the result."""
    function, takes_context = task.func, task.takes_context

    def wanted() -> bool:
        return keeps or hears(signals.task_started, logging.INFO) or hears(signals.task_finished, logging.INFO)

    if iscoroutinefunction(function):

        @wraps(function)
        async def acall(*args: Any, **kwargs: Any) -> Any:
            context, args = _split(args, takes_context)
            if context is None or not (takes_context or wanted()):
                return _plain(await function(*args, **kwargs))
            if results.known_here(context):
                result = _stand(alias, context, args, kwargs)
            else:
                result = await sync_to_async(_stand)(alias, context, args, kwargs)
            if context.lease and hears(signals.task_started, logging.INFO):
                await signals.task_started.asend_robust(_sender(alias), task_result=result)
            given = (JobsTaskContext(result, context), *args) if takes_context else args
            try:
                value = _plain(await function(*given, **kwargs))
            except BaseException as error:
                _expect(alias, context, result, None, error)
                raise
            _expect(alias, context, result, value, None)
            return value

        made: Callable[..., Any] = acall
    else:

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            context, args = _split(args, takes_context)
            if context is None or not (takes_context or wanted()):
                return _plain(function(*args, **kwargs))
            again = (context.job_id, context.lease) in standing  # an atomic task whose transaction was repeated
            result = _stand(alias, context, args, kwargs)
            if context.lease and not again and hears(signals.task_started, logging.INFO):
                signals.task_started.send_robust(_sender(alias), task_result=result)
            given = (JobsTaskContext(result, context), *args) if takes_context else args
            try:
                value = _plain(function(*given, **kwargs))
            except TimeLimit:
                raise
            except BaseException as error:
                _expect(alias, context, result, None, error)
                raise
            _expect(alias, context, result, value, None)
            return value

        made = call
    made.__qualname__ = function.__name__  # its name in the registry says where it lies
    return made


def policy_backoff(function: Callable[..., Any], name: str) -> Callable[[BaseException, JobContext], Any]:
    """A function `(exception, task_result)` as the registry's tasks have it: with the job's context."""

    def backoff(error: BaseException, context: JobContext) -> Any:
        result = standing.get((context.job_id, context.lease))
        if result is None:  # the process that ran it is gone
            result = results.bare(name, context)
        return function(error, results.failed(result, error))

    return backoff


def _split(args: tuple[Any, ...], takes_context: bool) -> tuple[JobContext | None, tuple[Any, ...]]:
    return (args[0], args[1:]) if takes_context else (current.get(), args)


def _sender(alias: str) -> type:
    return type(tasks.task_backends[alias])


def _plain(value: Any) -> Any:
    """As Django has it: bytes become text. What is no JSON stays, and fails the attempt."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    try:
        return normalize_json(value)
    except (TypeError, ValueError):
        return value


def _stand(alias: str, context: JobContext, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    backend = tasks.task_backends[alias]
    result = None
    if not results.known_here(context):
        with suppress(exceptions.TaskResultDoesNotExist):  # discarded by a person meanwhile
            result = find(backend, str(context.job_id))
    if result is None:
        result = results.running(backend, context, args, kwargs, str(afterwards.worker()))
    if context.lease:
        standing[context.job_id, context.lease] = result
        afterwards.waiting[context.job_id, context.lease] = lambda _: _over(context)
    return result


def _over(context: JobContext) -> None:
    standing.pop((context.job_id, context.lease), None)


def _expect(alias: str, context: JobContext, result: Any, value: Any, error: BaseException | None) -> None:
    """Once the outcome is written, say so."""
    if not context.lease or not hears(signals.task_finished, logging.INFO):
        return

    def ended(outcome: Outcome | None) -> None:
        _over(context)
        if outcome is None or outcome.state not in ("succeeded", "dead", "cancelled"):
            return  # it will run again
        results.end(result, outcome, value, timezone.now())
        token = current.set(context)
        try:
            _finished(alias, result, error)
        finally:
            current.reset(token)

    afterwards.waiting[context.job_id, context.lease] = ended


def _finished(alias: str, result: Any, error: BaseException | None) -> None:
    if error is None:
        signals.task_finished.send_robust(_sender(alias), task_result=result)
        return
    try:
        raise error  # receivers, Django's log first of all, look at the exception that is being handled
    except BaseException:
        signals.task_finished.send_robust(_sender(alias), task_result=result)
