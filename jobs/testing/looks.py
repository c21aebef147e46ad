"""Look at what was enqueued, and say clearly what is missing."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any, NamedTuple
from uuid import UUID

from django.db import router

from jobs.conf import jobs_settings
from jobs.declare import registry
from jobs.envelope import unpack_body, unpack_headers
from jobs.models import Job
from jobs.tasks import Task
from jobs.testing.given import AnyTask, as_job_task
from outbox.models import Message

SHOWN = 10
"""Jobs that a failure lists."""


class Enqueued(NamedTuple):
    """A job that was enqueued and has not ended."""

    id: UUID
    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue_name: str
    priority: int
    max_attempts: int
    source_name: str
    """The task's name where none was given."""
    idempotency_key: str
    run_after: datetime | None
    """The earliest start; None is at once."""

    def __str__(self) -> str:
        given = [repr(value) for value in self.args] + [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.task}({', '.join(given)})"


def enqueued(task: AnyTask | str | None = None) -> list[Enqueued]:
    """The jobs that were enqueued and have not ended, in the order of their ids: of all tasks, or of this one.

    It sees what the open transaction of the test sees, so it works in a TestCase. A task may be given by its name.
    """
    name = task if task is None or isinstance(task, str) else as_job_task(task).name
    found = {job.id: job for job in [*_waiting(), *_written()]}
    return [found[key] for key in sorted(found) if name is None or found[key].task == name]


def _written() -> Iterable[Enqueued]:
    for message in Message.objects.using(router.db_for_write(Message)).order_by("id"):
        headers = unpack_headers(message.headers)
        due = headers.run_after or (message.written_at + headers.delay if headers.delay else None)
        yield Enqueued(
            message.uid,
            headers.task,
            *unpack_body(message.body),
            headers.queue,
            headers.priority,
            headers.max_attempts,
            headers.source_name or headers.task,
            headers.key,
            due,
        )


def _waiting() -> Iterable[Enqueued]:
    for job in Job.objects.using(jobs_settings().DATABASE).order_by("pk"):
        yield Enqueued(
            job.pk,
            job.task,
            *unpack_body(job.arguments),
            job.queue,
            job.priority,
            job.max_attempts,
            job.label,
            job.idempotency_key,
            job.run_after,
        )


def assert_enqueued(task: AnyTask, *args: Any, times: int | None = None, **kwargs: Any) -> Enqueued:
    """Raise AssertionError unless a job of `task` with these arguments was enqueued and has not ended.

    It returns the last such job; look there for its options: `assert_enqueued(remind, 7).priority`. Without arguments
    any call counts. Positional and keyword arguments are the same where they mean the same, defaults included. `times`
    says how many there must be; otherwise one or more.
    """
    if times is not None and times < 1:
        raise ValueError(f"times={times}: assert_not_enqueued says that there are none.")
    task = as_job_task(task)
    found = enqueued(task)
    alike = [job for job in found if not (args or kwargs) or _same(task, job, args, kwargs)]
    if alike and times in (None, len(alike)):
        return alike[-1]
    wanted = f"{task.name}({_shown(args, kwargs) if args or kwargs else '...'})"
    counted = f"{len(alike)} times" if alike else "not enqueued"
    said = f"{wanted} was {counted}" + (f", not {times} times." if times is not None else ".")
    raise AssertionError("\n".join([said, *_nearest(task, found, args, kwargs), *_all(task)]))


def assert_not_enqueued(task: AnyTask, *args: Any, **kwargs: Any) -> None:
    """Raise AssertionError where a job of `task` (with these arguments, if any are given) was enqueued."""
    task = as_job_task(task)
    alike = [job for job in enqueued(task) if not (args or kwargs) or _same(task, job, args, kwargs)]
    if alike:
        raise AssertionError("\n".join([f"{len(alike)} jobs were enqueued that should not be:", *_listed(alike)]))


def _bound(task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    given = (None, *args) if task.takes_context else args
    try:
        bound = inspect.signature(task.func).bind(*given, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    if task.takes_context:
        arguments.pop(next(iter(arguments)))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}


def _same(task: Task[Any, Any], job: Enqueued, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    wanted = _bound(task, args, kwargs)
    return wanted is not None and wanted == _bound(task, job.args, job.kwargs)


def _nearest(task: Task[Any, Any], found: list[Enqueued], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """The call of this task that differs in the fewest arguments, and in which."""
    if not (args or kwargs):
        return []
    wanted = _bound(task, args, kwargs)
    if wanted is None:
        return [f"These arguments do not fit {task.name}{inspect.signature(task.func)}."]
    best: tuple[int, str] | None = None
    for job in found:
        given = _bound(task, job.args, job.kwargs) or {}
        unlike = [name for name in wanted if name not in given or given[name] != wanted[name]]
        words = ", ".join(f"{name} is {given.get(name)!r} and not {wanted[name]!r}" for name in unlike)
        if unlike and (best is None or len(unlike) < best[0]):
            best = len(unlike), f"Nearest: {job}: {words}."
    return [best[1]] if best is not None else []


def _all(task: Task[Any, Any]) -> list[str]:
    others = enqueued()
    if not others:
        return ["Nothing was enqueued at all. In a view under test: was the transaction rolled back?"]
    names = {job.task for job in others}
    hint = []
    if task.name not in names and (close := get_close_matches(task.name, names, 1, 0.6)):
        hint = [f"Did you mean {close[0]}?"]
    if task.name not in registry:
        hint.append(f"{task.name} is not in the registry: is its module a tasks.py of an installed app?")
    return [*hint, f"Enqueued in all ({len(others)}):", *_listed(others)]


def _listed(jobs: list[Enqueued]) -> list[str]:
    lines = [f"  {job}" for job in jobs[:SHOWN]]
    return [*lines, f"  ... and {len(jobs) - SHOWN} more"] if len(jobs) > SHOWN else lines


def _shown(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    return ", ".join([*(repr(value) for value in args), *(f"{name}={value!r}" for name, value in kwargs.items())])
