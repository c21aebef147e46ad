"""Ask a task's condition, `only_if`: whether the job is still wanted, after the delay and just before it would run.

It takes the function that the task was declared with, never a name from a row, and the arguments of the job; it leaves
a yes or a no. What it raises is the attempt's failure. A crash here is one of the task.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asgiref.sync import sync_to_async

from jobs.context import JobContext
from jobs.errors import InvalidTask
from jobs.signature import wants_context
from jobs.tasks import Task


def ask(task: Task[Any, Any], context: JobContext, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Of a sync task."""
    condition: Any = task.only_if
    return bool(condition(context, *args, **kwargs) if wants_context(condition) else condition(*args, **kwargs))


async def aask(task: Task[Any, Any], context: JobContext, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Of an `async def` task. A plain function is asked in a thread, so that it may use the ORM and holds up nobody."""
    condition: Any = task.only_if
    given = (context, *args) if wants_context(condition) else args
    if inspect.iscoroutinefunction(condition):
        return bool(await condition(*given, **kwargs))
    return bool(await sync_to_async(condition)(*given, **kwargs))


def check_condition(value: Any, task: str, *, is_async: bool) -> Callable[..., Any] | None:
    """What was given to `only_if=`."""
    if value is None:
        return None
    if not inspect.isroutine(value):
        raise InvalidTask(f"@task(only_if={value!r}) of {task}: give a function that answers whether it should run.")
    if inspect.iscoroutinefunction(value) and not is_async:
        raise InvalidTask(f"@task(only_if=...) of {task}: the task is a plain function, so its condition must be one.")
    return value
