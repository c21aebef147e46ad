"""What the jobs of the scorecard do. Each says in the side file what it does, with its job, process and time."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from django.db import connection

from jobs import GiveUp, JobContext, task
from jobs.declare import registry
from tests.support.side_file import append
from tests.trust.models import Effect


def say(word: str, number: int, context: JobContext) -> None:
    append(f"{word} {number} {context.job_id} {os.getpid()} {time.monotonic():.6f}")


def pause(seconds: float) -> None:
    """Sleep; time.sleep names a moment of a clock, which a faked clock makes nonsense of."""
    if seconds:
        select.select([], [], [], seconds)


@task(takes_context=True)
def works(context: JobContext, number: int, seconds: float = 0.0) -> int:
    """A job with an effect outside every table."""
    say("begins", number, context)
    pause(seconds)
    say("ends", number, context)
    return os.getpid()


@task(takes_context=True)
def writes(context: JobContext, number: int, seconds: float = 0.0) -> int:
    """A job with an effect in a table beside the one in the file."""
    say("begins", number, context)
    Effect.objects.create(number=number)
    pause(seconds)
    say("ends", number, context)
    return os.getpid()


@task(takes_context=True)
async def works_async(context: JobContext, number: int, seconds: float = 0.0) -> int:
    import asyncio

    say("begins", number, context)
    await asyncio.sleep(seconds)
    say("ends", number, context)
    return os.getpid()


# The soak's four kinds. What each says of itself, in its result and in its error, bears the lease it ran under: a row
# in which a zombie has written is one whose lease is another.


@task(takes_context=True, max_attempts=10, backoff=0.05)
def plain(context: JobContext, number: int, seconds: float = 0.0) -> dict[str, int]:
    begin(number, context)
    pause(seconds)
    return end(number, context)


@task(takes_context=True, max_attempts=10, backoff=0.05)
async def plain_async(context: JobContext, number: int, seconds: float = 0.0) -> dict[str, int]:
    import asyncio

    begin(number, context)
    await asyncio.sleep(seconds)
    return end(number, context)


@task(takes_context=True, max_attempts=10, backoff=0.05, at_most_once=True)
def once(context: JobContext, number: int, seconds: float = 0.0) -> dict[str, int]:
    begin(number, context)
    pause(seconds)
    return end(number, context)


@task(takes_context=True, max_attempts=10, backoff=0.05, atomic=True)
def exactly(context: JobContext, number: int, seconds: float = 0.0) -> dict[str, int]:
    """Every tenth has a child, which is as much its effect as the row it writes."""
    begin(number, context)
    Effect.objects.create(number=number)
    if number % 10 == 0:
        plain.enqueue(-number - 1)
    pause(seconds)
    return end(number, context)


def begin(number: int, context: JobContext) -> None:
    """Says under which lease it begins, in one write."""
    of = f"{context.job_id} {os.getpid()} {time.monotonic():.6f}"
    append(f"under {context.lease} {of}\nbegins {number} {of}")


def end(number: int, context: JobContext) -> dict[str, int]:
    """Every tenth fails at its first attempt, an outcome that is seen."""
    if number % 10 == 3 and context.attempt == 1:
        raise ConnectionError(f"lease {context.lease}")
    say("ends", number, context)
    return {"lease": context.lease}


@task(takes_context=True)
def holds_the_gil(context: JobContext, number: int, seconds: float) -> None:
    """Nothing of Python runs in this process meanwhile."""
    say("begins", number, context)
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    say("ends", number, context)


@task(takes_context=True)
def spins(context: JobContext, number: int, seconds: float) -> None:
    say("begins", number, context)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    say("ends", number, context)


@task(takes_context=True, max_attempts=5, backoff=3600)
def ends_when_told(context: JobContext, number: int, folder: str, how: str) -> int:
    """Waits for a file that bears its process's number, then ends in one way or the other."""
    say("begins", number, context)
    while not Path(folder, f"go-{os.getpid()}").exists() and not Path(folder, "go").exists():
        time.sleep(0.005)
    say("ends", number, context)
    if how == "retry" and not Path(folder, "go").exists():
        raise ConnectionError("a zombie wants another try")
    if how == "die" and not Path(folder, "go").exists():
        raise GiveUp("a zombie wants an end")
    return os.getpid()


@task(takes_context=True)
def poison(context: JobContext, number: int, how: str) -> None:
    """Takes its process with it."""
    say("begins", number, context)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(3)
    elif how == "memory":
        # Over the limit there is no memory, and a C library that does not ask writes to address 0.
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        ctypes.memset(libc.malloc(1 << 40) or 0, 1, 1 << 20)
    elif how == "fork bomb":
        for _ in range(50):
            subprocess.Popen(["sleep", "3600"], start_new_session=True)
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "abort":
        os.abort()


@task(takes_context=True, max_attempts=3, backoff=0)
def eats_memory(context: JobContext, number: int) -> None:
    """Allocates until there is no more: a MemoryError, which spends an attempt and leaves the process alive."""
    say("begins", number, context)
    eaten = []
    while True:
        eaten.append(bytearray(64 << 20))


@task(takes_context=True)
def asks(context: JobContext, number: int, questions: int, one_backend: bool = True) -> None:
    """Asks the database things only this job would ask, and checks each answer and, without a pooler, whose it is."""
    say("begins", number, context)
    with connection.cursor() as cursor:
        for n in range(questions):
            question = number * 1000 + n
            cursor.execute("SELECT %s::bigint, pg_backend_pid()", (question,))
            answer, backend = cursor.fetchone()
            if answer != question or (one_backend and backend != connection.connection.info.backend_pid):
                say("wrong", number, context)
    say("ends", number, context)


@task(takes_context=True)
def gives(context: JobContext, number: int, value: Any) -> Any:
    return value


@task(takes_context=True)
def raises(context: JobContext, number: int, which: int) -> None:
    from tests.support.hostile import ERRORS  # brings hypothesis along, which other workers need not wait for

    raise ERRORS[which % len(ERRORS)]


@task(takes_context=True)
def gives_hostile(context: JobContext, number: int, seed: int) -> Any:
    from tests.trust.r27_payloads import hostile_result

    return hostile_result(seed)


# A worker of an older release does not know these.
for _unknown in os.environ.get("TEST_UNKNOWN", "").split():
    registry.pop(_unknown)
