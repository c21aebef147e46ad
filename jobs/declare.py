"""Declare tasks: `@task` registers a function under its dotted name.

Code is only ever found in this registry, never imported by a name that stands in a row: a row can name a task, but
not bring one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from jobs.callback import Callback, as_callback
from jobs.condition import check_condition
from jobs.context import JobContext
from jobs.envelope import TASK_NAME
from jobs.errors import InvalidTask
from jobs.options import (
    Backoff,
    Upgrade,
    check_backoff,
    check_exceptions,
    check_redact,
    check_upgrade,
    check_version,
    priority_number,
)
from jobs.tasks import Task

P = ParamSpec("P")
R = TypeVar("R")

CallbackLike: TypeAlias = "Callback | Task[..., Any] | None"
Exceptions = type[BaseException] | tuple[type[BaseException], ...] | list[type[BaseException]]

registry: dict[str, Task[Any, Any]] = {}
"""Every task this process knows, by name. A worker runs nothing else."""


class Decorator(Protocol):
    """What `@task(...)` is before it meets its function."""

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Task[P, R]: ...


class ContextDecorator(Protocol):
    """The same for `takes_context=True`: the context is not an argument of `enqueue`."""

    @overload
    def __call__(self, func: Callable[Concatenate[JobContext, P], Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, func: Callable[Concatenate[JobContext, P], R], /) -> Task[P, R]: ...


@overload
def task(func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
@overload
def task(func: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    takes_context: Literal[True],
    name: str | None = ...,
    priority: str | int = ...,
    queue_name: str = ...,
    max_attempts: int = ...,
    timeout: float | timedelta | None = ...,
    backoff: Backoff | None = ...,
    retry_on: Exceptions = ...,
    never_retry_on: Exceptions = ...,
    source_name: str = ...,
    at_most_once: bool = ...,
    atomic: bool = ...,
    version: int = ...,
    upgrade: Mapping[int, Upgrade] | None = ...,
    redact: Sequence[str] = ...,
    on_success: CallbackLike = ...,
    on_failure: CallbackLike = ...,
    on_complete: CallbackLike = ...,
    only_if: Callable[..., Any] | None = ...,
) -> ContextDecorator: ...
@overload
def task(
    *,
    takes_context: Literal[False] = ...,
    name: str | None = ...,
    priority: str | int = ...,
    queue_name: str = ...,
    max_attempts: int = ...,
    timeout: float | timedelta | None = ...,
    backoff: Backoff | None = ...,
    retry_on: Exceptions = ...,
    never_retry_on: Exceptions = ...,
    source_name: str = ...,
    at_most_once: bool = ...,
    atomic: bool = ...,
    version: int = ...,
    upgrade: Mapping[int, Upgrade] | None = ...,
    redact: Sequence[str] = ...,
    on_success: CallbackLike = ...,
    on_failure: CallbackLike = ...,
    on_complete: CallbackLike = ...,
    only_if: Callable[..., Any] | None = ...,
) -> Decorator: ...
def task(
    func: Callable[..., Any] | None = None,
    /,
    *,
    takes_context: bool = False,
    name: str | None = None,
    priority: str | int = "default",
    queue_name: str = "default",
    max_attempts: int = 1,
    timeout: float | timedelta | None = None,
    backoff: Backoff | None = None,
    retry_on: Exceptions = BaseException,
    never_retry_on: Exceptions = (),
    source_name: str = "",
    at_most_once: bool = False,
    atomic: bool = False,
    version: int = 1,
    upgrade: Mapping[int, Upgrade] | None = None,
    redact: Sequence[str] = (),
    on_success: CallbackLike = None,
    on_failure: CallbackLike = None,
    on_complete: CallbackLike = None,
    only_if: Callable[..., Any] | None = None,
) -> Any:
    """Make a module-level function, sync or `async def`, a task.

    `takes_context`: the function's first parameter is named `context` and gets a JobContext.
    `name`: dotted name in rows, default module and function; give the old one when a function moves.
    `priority`, `queue_name`, `max_attempts`, `source_name`: what `using` can change for a job.
    `timeout`: seconds (or a timedelta) an attempt may run, else 60 / 300 / 14,400 for high / default / low.
    `backoff`: the wait before a retry: seconds, a list of them, or a function `(exception, context)` that answers
    seconds, a timedelta, or None for no retry; else JOBS["BACKOFF"] with jitter.
    `retry_on`, `never_retry_on`: exception classes; a timeout counts as `jobs.TimedOut`.
    `at_most_once`: where a lost worker leaves it open whether the job ran, it is dead, never run a second time. An
    error or a timeout is an outcome that was seen, and is retried as long as attempts are left.
    `atomic`: the task runs inside a transaction on the queue's database. Its writes there, the jobs it enqueues, its
    result and its completion commit together, or not at all. Neither of the two is for `async def`.
    `version`, `upgrade`: raise the version when the arguments change; `upgrade={1: function}` says what to make of
    those of version 1: it is called with them and answers a tuple or a dict for the next version.
    `redact`: names of arguments, and of keys in them, whose values no page and no command shows.
    `on_success`, `on_failure`, `on_complete`: a task, or one with arguments (`task.callback(...)`), enqueued in the
    transaction that writes the outcome; `using` can change them for a job.
    `only_if`: a function that gets the job's arguments (and before them the context, where its first parameter is named
    `context`), asked just before the job would run; where it answers no, the job is cancelled.

    Raises InvalidTask or InvalidOption at import.
    """

    def declare(function: Callable[..., Any]) -> Task[Any, Any]:
        made: Task[Any, Any] = Task(
            func=_checked(function, takes_context),
            name=_name(function, name),
            takes_context=takes_context,
            priority=priority_number(priority),
            queue_name=queue_name,
            max_attempts=max_attempts,
            timeout=timeout.total_seconds() if isinstance(timeout, timedelta) else timeout,
            backoff=check_backoff(backoff),
            retry_on=check_exceptions("retry_on", retry_on),
            never_retry_on=check_exceptions("never_retry_on", never_retry_on),
            source_name=source_name,
            at_most_once=at_most_once,
            atomic=atomic,
            version=check_version(version),
            upgrade=check_upgrade(upgrade, version),
            redact=check_redact(redact),
            on_success=as_callback("on_success", on_success),
            on_failure=as_callback("on_failure", on_failure),
            on_complete=as_callback("on_complete", on_complete),
            only_if=check_condition(only_if, function.__qualname__, is_async=inspect.iscoroutinefunction(function)),
        )
        if made.is_async and (at_most_once or atomic):
            promise = "at_most_once" if at_most_once else "atomic"
            raise InvalidTask(f"@task({promise}=True): {made.name} is `async def`. Write it as a plain function.")
        return _register(made)

    return declare if func is None else declare(func)


def _checked(function: Any, takes_context: bool) -> Callable[..., Any]:
    if not inspect.isfunction(function):
        raise InvalidTask(f"@task: {function!r} is not a function. Put @task outermost, on a module-level function.")
    name = f"{function.__module__}.{function.__qualname__}"
    if "." in function.__qualname__ or function.__name__ == "<lambda>":
        raise InvalidTask(f"@task: {name} is not at module level, so a worker could not find it. Move it there.")
    if function.__module__ == "__main__":
        raise InvalidTask(f"@task: {name} is in a script, which workers do not import. Put it into an app's tasks.py.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidTask(f"@task: {name} is a generator: calling it runs nothing. Write a function without yield.")
    if takes_context:
        first = next(iter(inspect.signature(function).parameters), None)
        if first != "context":
            raise InvalidTask(f"@task(takes_context=True): the first parameter of {name} must be named `context`.")
    return function


def _name(function: Callable[..., Any], given: str | None) -> str:
    name = f"{function.__module__}.{function.__qualname__}" if given is None else given
    if len(name) > 200 or not TASK_NAME.match(name):
        raise InvalidTask(f"@task: {name!r} is no name for a task: use a dotted Python name of at most 200 characters.")
    return name


def _register(made: Task[Any, Any]) -> Task[Any, Any]:
    known = registry.get(made.name)
    if known is not None and _place(known.func) != _place(made.func):
        raise InvalidTask(
            f"@task: two functions are named {made.name!r}: {_place(known.func)} and {_place(made.func)}."
            " Rename one, or give one a name of its own with @task(name=...)."
        )
    registry[made.name] = made
    return made


def _place(function: Callable[..., Any]) -> str:
    # The file, not the line: a module that is loaded again after an edit declares the same tasks.
    return f"{function.__qualname__} in {inspect.getsourcefile(function) or function.__module__}"
