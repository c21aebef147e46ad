"""Tasks named for what they do."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from django.conf import settings

from jobs import GiveUp, JobContext, consumer, event, task
from jobs.declare import registry
from tests.models import Effect
from tests.support.side_file import append
from tests.support.sql import a_cursor


@task
def add(a: int, b: int) -> int:
    return a + b


@task
def noop(n: int = 0) -> None:
    pass


@task
def echo(value: object) -> object:
    return value


@task
def leave_mark(mark: str) -> None:
    append(mark)


@task(takes_context=True)
def tell_context(context: JobContext, mark: str) -> dict[str, object]:
    append(f"{mark} {context.job_id} {context.idempotency_key} {context.attempt}")
    return {"attempt": context.attempt, "job_id": str(context.job_id)}


@task(max_attempts=5, backoff=0)
def fail_always(mark: str) -> None:
    append(mark)
    raise ValueError(f"no {mark}")


@task(max_attempts=5, backoff=0.05, takes_context=True)
def fail_until(context: JobContext, attempt: int, mark: str) -> int:
    append(f"{mark} {context.attempt}")
    if context.attempt < attempt:
        raise ConnectionError("not yet")
    return context.attempt


@task
def wait_for_file(path: str, mark: str) -> None:
    append(f"{mark} begins")
    while not Path(path).exists():
        time.sleep(0.01)
    append(f"{mark} ends")


@task
def kill_itself(mark: str) -> None:
    append(mark)
    os.kill(os.getpid(), signal.SIGKILL)


@task
async def async_wait(seconds: float, mark: str) -> str:
    append(f"{mark} begins")
    await asyncio.sleep(seconds)
    append(f"{mark} ends")
    return mark


@task
async def async_wait_for_file(path: str, mark: str) -> None:
    append(f"{mark} begins")
    while not Path(path).exists():
        await asyncio.sleep(0.01)


@task
def with_orphan_wait_for_file(path: str, mark: str) -> None:
    with subprocess.Popen(["sleep", "3600"], start_new_session=True) as grandchild:
        append(f"{mark} {time.monotonic()} {os.getpid()} {grandchild.pid}")
        while not Path(path).exists():
            time.sleep(0.01)
        grandchild.kill()


@task(timeout=0.5)
def sleep_about(seconds: float, number: int) -> None:
    time.sleep(seconds + (number % 8 - 4) * 0.02)
    append(f"{number} ends")


@task(timeout=0.5, max_attempts=2, backoff=0, takes_context=True)
def hang_once(context: JobContext, mark: str) -> None:
    append(f"{mark} {context.attempt}")
    if context.attempt == 1:
        try:
            time.sleep(3600)
        finally:
            append(f"{mark} cleans up")


@task
def tell_pid_and_wait_for_file(path: str, mark: str) -> None:
    append(f"{mark} {os.getpid()}")
    while not Path(path).exists():
        time.sleep(0.01)


@task
async def async_make_effect(note: str) -> str:
    effect = await Effect.objects.acreate(note=note)
    return effect.note


@task(max_attempts=2, backoff=0)
async def async_fail_always(message: str) -> None:
    await asyncio.sleep(0)
    raise RuntimeError(message)


def _from_version_1(text: str) -> dict[str, object]:
    return {"number": int(text)}


@task(version=2, upgrade={1: _from_version_1})
def renamed_argument(number: int) -> int:
    return number


@task(at_most_once=True, max_attempts=3, backoff=0)
def once_then_wait_for_file(path: str, mark: str) -> None:
    append(f"{mark} {os.getpid()}")
    while not Path(path).exists():
        time.sleep(0.01)


@task(at_most_once=True, max_attempts=3, backoff=0, timeout=0.5, takes_context=True)
def once_fail_hang_then_end(context: JobContext, mark: str) -> str:
    append(f"{mark} {context.attempt}")
    if context.attempt == 1:
        raise ConnectionError("no")
    if context.attempt == 2:
        time.sleep(3600)
    return "ended"


@task(atomic=True, takes_context=True)
def atomic_effect_then_wait_for_file(context: JobContext, path: str, mark: str) -> int:
    Effect.objects.create(job=context.job_id, note=mark)
    leave_mark.enqueue(f"child of {mark}")
    append(f"{mark} {os.getpid()}")
    while not Path(path).exists():
        time.sleep(0.01)
    return 7


@task(atomic=True, takes_context=True, timeout=0.5, max_attempts=2, backoff=0)
def atomic_effect_hang_once(context: JobContext, mark: str) -> None:
    Effect.objects.create(job=context.job_id, note=f"{mark} {context.attempt}")
    append(f"{mark} {context.attempt}")
    if context.attempt == 1:
        time.sleep(3600)


@task(atomic=True, takes_context=True)
def atomic_effect(context: JobContext, mark: str) -> None:
    Effect.objects.create(job=context.job_id, note=mark)
    append(mark)


@task(atomic=True, takes_context=True)
def atomic_on_one_snapshot_then_wait_for_file(context: JobContext, path: str, mark: str) -> None:
    with a_cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    Effect.objects.create(job=context.job_id, note=mark)
    append(mark)
    done = 0
    while not Path(path).exists():
        done += 1
        context.progress(done, text=mark)
        context.log(f"{mark} {done}")
        time.sleep(0.05)


@task(takes_context=True, max_attempts=3, backoff=0)
def say_and_wait_for_file(context: JobContext, path: str, mark: str) -> None:
    logging.getLogger("shop").warning("%s heard", mark)
    context.log(f"{mark} said")
    context.progress(3, 10, "a third")
    append(f"{mark} {os.getpid()}")
    while not Path(path).exists():
        time.sleep(0.01)


# For assert_idempotent: the same work in ways that bear a second run, and in ways that do not.


@task(takes_context=True)
def two_effects_once(context: JobContext, note: str) -> None:
    for part in ("first", "second"):
        Effect.objects.get_or_create(job=context.job_id, note=f"{note} {part}")
    leave_mark.using(idempotency_key=f"{context.idempotency_key} mark").enqueue(note)


@task(takes_context=True)
def two_effects_again_and_again(context: JobContext, note: str) -> None:
    for part in ("first", "second"):
        Effect.objects.create(job=context.job_id, note=f"{note} {part}")


@task
def enqueue_again_and_again(note: str) -> None:
    leave_mark.enqueue(note)


@task
def only_the_first_time(note: str) -> None:
    if Effect.objects.filter(note=note).exists():
        raise RuntimeError("it is there already")
    Effect.objects.create(note=note)


@task(atomic=True)
def two_effects_in_one_transaction(note: str) -> None:
    Effect.objects.create(note=f"{note} first")
    Effect.objects.create(note=f"{note} second")
    leave_mark.enqueue(note)


@task(takes_context=True)
def note_of_the_process(context: JobContext) -> None:
    Effect.objects.update_or_create(job=context.job_id, defaults={"note": str(os.getpid())})


@task
async def async_effect_once(note: str) -> None:
    await Effect.objects.aget_or_create(note=note)


# What is called back, and what asks first.


@task
def tell_end(mark: str, *, ended: dict[str, object]) -> None:
    append(f"{mark} {ended['job_id']} {ended['outcome']} {ended['result']}")


@task(timeout=0.3, max_attempts=2, backoff=0, takes_context=True, on_complete=tell_end.callback("ended"))
def end_somehow(context: JobContext, how: str) -> str:
    """Ends in every way there is, some of them only after a kill."""
    if how == "hangs":
        time.sleep(3600)
    if how == "kills" or (how == "kills once" and context.lease == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fails" or (how == "fails once" and context.attempt == 1):
        raise ValueError("no")
    if how == "gives up":
        raise GiveUp("no")
    return how


def still_wanted(mark: str) -> bool:
    append(f"{mark} asked")
    return not Effect.objects.filter(note=mark).exists()


@task(only_if=still_wanted, on_complete=tell_end.callback("reminder"))
def remind(mark: str) -> None:
    append(f"{mark} reminded")


from tests.benchmarks import tasks as timed  # noqa: E402, F401  and those that are timed

# A worker of an older release: it knows none of these tasks, or an older version of one.


@task
def new_in_this_release(mark: str) -> None:
    append(f"{mark} {os.getpid()}")


if os.environ.get("TEST_OLD_RELEASE"):
    registry.pop("tests.tasks.new_in_this_release")
    registry["tests.tasks.renamed_argument"] = replace(renamed_argument, version=1, func=lambda text: 0, upgrade={})


# Consumers ------------------------------------------------------------------------------------------------------------


class Placed(TypedDict):
    """What `tests.placed` says."""

    order: int
    card: NotRequired[str]
    note: NotRequired[str | None]


placed = event("tests.placed", schema=Placed, redact=["note"])
event("tests.lonely")


@consumer("tests.placed", priority="high", max_attempts=2, backoff=0, timeout=30)
def note_placed(payload: dict[str, Any]) -> int:
    append(f"noted {payload['order']}")
    return int(payload["order"])


@consumer("tests.placed", delay=0.5, source_name="orders/slow")
def remind_placed(payload: dict[str, Any]) -> None:
    append(f"reminded {payload['order']}")


@consumer(placed, "tests.undone", takes_context=True, max_attempts=2, backoff=0)
async def audit_placed(context: JobContext, payload: dict[str, Any]) -> list[str]:
    append(f"audited {payload['order']} attempt {context.attempt}")
    if payload["order"] == 13:
        raise ValueError("an unlucky order")
    return [str(context.event_id), context.event_type, context.idempotency_key]


event("tests.undone")


@task
def mark_start_and_end(number: int, seconds: float) -> None:
    append(f"start {number} {time.time()}")
    time.sleep(seconds)
    append(f"end {number} {time.time()}")


from tests import hangs  # noqa: E402, F401  tasks of their own

if getattr(settings, "TASKS", None):  # the settings of the scorecard and of the benchmarks have none
    from tests import django_tasks  # noqa: F401  declared with Django's decorator
