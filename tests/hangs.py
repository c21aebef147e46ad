"""Tasks that never end by themselves, each in its own way. All have a limit of one second and one attempt."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from django.db import transaction

from jobs import task
from tests.models import Effect
from tests.support.side_file import append
from tests.support.sql import a_cursor

LIMIT = 1.0


def begin(name: str, *others: int) -> None:
    """Say which processes are part of this job, and when it began."""
    append(f"{name} {time.monotonic()} {' '.join(map(str, (os.getpid(), *others)))}")


@task(timeout=LIMIT)
def sleeps() -> None:
    begin("sleeps")
    time.sleep(3600)


@task(timeout=LIMIT)
def spins() -> None:
    begin("spins")
    while True:
        pass


@task(timeout=LIMIT)
def swallows_everything() -> None:
    begin("swallows_everything")
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            continue


@task(timeout=LIMIT)
def blocks_all_signals() -> None:
    begin("blocks_all_signals")
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    while True:
        time.sleep(3600)


@task(timeout=LIMIT)
def holds_the_gil() -> None:
    begin("holds_the_gil")
    libc = ctypes.PyDLL(None)
    while True:
        libc.sleep(3600)


@task(timeout=LIMIT)
def queries_for_ever() -> None:
    begin("queries_for_ever")
    with a_cursor() as cursor:
        cursor.execute("SELECT pg_sleep(3600)")


@task(timeout=LIMIT)
def holds_a_row() -> None:
    begin("holds_a_row")
    with transaction.atomic():
        Effect.objects.create(note="never committed")
        time.sleep(3600)


@task(timeout=LIMIT)
def has_a_grandchild_in_its_own_session() -> None:
    grandchild = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    begin("has_a_grandchild_in_its_own_session", grandchild.pid)
    time.sleep(3600)


DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
time.sleep(3600)
"""


@task(timeout=LIMIT)
def has_a_daemon() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pid")
        subprocess.run([sys.executable, "-c", DAEMON, str(file)], stdin=subprocess.DEVNULL, check=True)
        while not file.exists() or not file.read_text():
            time.sleep(0.01)
        begin("has_a_daemon", int(file.read_text()))
        time.sleep(3600)


@task(timeout=LIMIT)
def has_many_children() -> None:
    children = [subprocess.Popen(["sleep", "3600"], start_new_session=n % 2 == 0) for n in range(50)]
    begin("has_many_children", *(child.pid for child in children))
    time.sleep(3600)


@task(timeout=LIMIT)
def has_a_thread_that_never_ends() -> None:
    threading.Thread(target=time.sleep, args=(3600,), daemon=False).start()
    begin("has_a_thread_that_never_ends")
    time.sleep(3600)


@task(timeout=LIMIT)
def hangs_at_exit() -> None:
    atexit.register(time.sleep, 3600)
    begin("hangs_at_exit")
    try:
        time.sleep(3600)
    finally:
        time.sleep(3600)


@task(timeout=LIMIT)
def stops_itself() -> None:
    begin("stops_itself")
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(3600)


@task(timeout=LIMIT)
def closes_its_files() -> None:
    begin("closes_its_files")
    os.closerange(3, 200)
    time.sleep(3600)


@task(timeout=LIMIT)
async def awaits_for_ever() -> None:
    begin("awaits_for_ever")
    await asyncio.sleep(3600)


@task(timeout=LIMIT)
async def swallows_its_cancellation() -> None:
    begin("swallows_its_cancellation")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


@task(timeout=LIMIT)
async def blocks_its_loop() -> None:
    begin("blocks_its_loop")
    time.sleep(3600)


@task(timeout=LIMIT)
def cleans_up() -> None:
    try:
        time.sleep(3600)
    finally:
        append("cleaned up")


@task
def say_and_die(text: str) -> None:
    """What was printed may not go with the process."""
    print(text)
    os.kill(os.getpid(), signal.SIGKILL)
