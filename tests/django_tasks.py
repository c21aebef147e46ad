"""Django tasks, named for what they do: declared with Django's own decorator, as an application would."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from django.db import transaction

from jobs.backend.api import signals
from jobs.backend.api import tasks as api
from tests.models import Effect
from tests.support.side_file import append

task: Any = api.task


class Refused(Exception):
    """An exception of the application's own."""


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task
def echo(value: Any) -> Any:
    return value


@task
def refuse(why: str) -> None:
    raise Refused(why)


@task
def leave_mark(mark: str) -> None:
    append(mark)


@task(takes_context=True)
def tell_context(context: Any, mark: str) -> dict[str, Any]:
    return {
        "mark": mark,
        "attempt": context.attempt,
        "id": context.task_result.id,
        "status": str(context.task_result.status),
        "kind": [kind.__qualname__ for kind in type(context).__mro__],
    }


@task(takes_context=True)
async def async_tell_context(context: Any) -> dict[str, Any]:
    return {"attempt": context.attempt, "id": context.task_result.id, "args": context.task_result.args}


@task
async def async_add(a: int, b: int) -> int:
    return a + b


@task
def answer_what_is_no_json() -> Any:
    return {1, 2}


@task
def answer_a_tuple() -> Any:
    return {"pair": (1, 2)}


@task
def answer_bytes() -> Any:
    return [b"caf\xc3\xa9"]


@task
def effects_seen() -> list[str]:
    return sorted(Effect.objects.values_list("note", flat=True))


@task
def wait_for_file(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


@task
def tell_pid_and_wait_for_file(path: str) -> None:
    append(str(os.getpid()))
    while not Path(path).exists():
        time.sleep(0.01)


@task(backend="eager", takes_context=True)
def fail_until(context: Any, attempt: int) -> dict[str, Any]:
    result = context.task_result
    if context.attempt < attempt:
        raise Refused(f"not yet: {context.attempt}")
    return {"attempt": context.attempt, "errors": len(result.errors), "workers": len(result.worker_ids)}


def enqueue_and_roll_back(declared: Any, *args: Any) -> None:
    """Enqueue in a transaction that comes to nothing."""
    with transaction.atomic():
        declared.enqueue(*args)
        transaction.set_rollback(True)


# What the signals said, in this process or in a worker: a line each in the side file.


def tell_enqueued(sender: type, task_result: Any, **_: Any) -> None:
    _tell("enqueued", sender, task_result)


def tell_started(sender: type, task_result: Any, **_: Any) -> None:
    _tell("started", sender, task_result)


def tell_finished(sender: type, task_result: Any, **_: Any) -> None:
    errors = ",".join(error.exception_class_path for error in task_result.errors)
    stored = ""
    if getattr(task_result.task.get_backend(), "supports_get_result", False):
        stored = str(task_result.task.get_result(task_result.id).status)
    _tell("finished", sender, task_result, f"stored={stored} errors={errors}")


def _tell(signal: str, sender: type, result: Any, more: str = "") -> None:
    name = f"{sender.__module__}.{sender.__qualname__}" if isinstance(sender, type) else "no-class"
    append(f"{signal} {result.id} {result.task.name} {result.status} {result.attempts} {name} {more}".strip())


def listen() -> None:
    """Connect the three."""
    signals.task_enqueued.connect(tell_enqueued)
    signals.task_started.connect(tell_started)
    signals.task_finished.connect(tell_finished)


def stop_listening() -> None:
    """Disconnect them."""
    signals.task_enqueued.disconnect(tell_enqueued)
    signals.task_started.disconnect(tell_started)
    signals.task_finished.disconnect(tell_finished)


if os.environ.get("TELL_SIGNALS"):
    listen()
