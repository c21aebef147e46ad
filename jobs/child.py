"""Fork children that die with their parent, and kill whole process trees.

A tree is found by walking the process table, not by process group: a grandchild may have left the group. Each slot
is a subreaper, so whatever its job left behind stays below that slot and is nobody else's.
"""

from __future__ import annotations

import ctypes
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger("jobs")

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

LINUX = sys.platform == "linux"
PROC = Path("/proc")


def fork(run: Callable[[], int], title: str, *, subreaper: bool = False) -> int:
    """Start `run` in a child; returns its pid. The child leaves by os._exit with what `run` returns.

    `title` is the name `ps` and `top` show, where the system has one (Linux, 15 characters).
    """
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        _settle(parent, subreaper)
        if LINUX:
            prctl(PR_SET_NAME, title.encode()[:15])
        code = run()
    except BaseException:
        logger.critical("a child process ended by an unexpected error", exc_info=True)
    finally:
        # Not sys.exit: the parent's atexit hooks and buffers are not this child's to run.
        with suppress(Exception):
            logging.shutdown()
        os._exit(code)


def _settle(parent: int, subreaper: bool) -> None:
    """Make the new process its own: no terminal signals, gone with its parent, its own chance."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    random.seed()
    if LINUX:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if subreaper:
            prctl(PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent:  # it died before the line above
        os._exit(0)


def prctl(option: int, value: int | bytes) -> None:
    """Linux's prctl; does nothing elsewhere."""
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


class Process(NamedTuple):
    """A line of the process table."""

    pid: int
    parent: int
    group: int


def kill_tree(pid: int, *, patience: float = 0.5) -> None:
    """Kill everything below `pid`, then `pid` itself. The root is stopped meanwhile, so it starts nothing new."""
    leads = _group_of(pid) == pid
    _signal_group(pid if leads else 0, signal.SIGSTOP)
    kill(pid, signal.SIGSTOP)
    until = time.monotonic() + patience
    while time.monotonic() < until:
        below = below_of(pid)
        if not below:
            break
        # All are stopped before the first is killed, and whole groups at once: one that forks fast stays ahead of
        # a walk, but not of a signal to its group. A slot leads a session of its own, so the groups below it hold
        # nobody else.
        for group in {process.group for process in below}:
            _signal_group(group, signal.SIGSTOP)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for victim in below:
                kill(victim.pid, number)
        time.sleep(0.002)
    _signal_group(pid if leads else 0, signal.SIGKILL)
    kill(pid, signal.SIGKILL)


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def _signal_group(group: int, number: int) -> None:
    """Signal all of a process group at once, but never our own."""
    if group > 1 and group != os.getpgrp():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


def descendants(pid: int) -> list[int]:
    """The living processes below `pid`, parents before their children."""
    return [process.pid for process in below_of(pid)]


def below_of(pid: int) -> list[Process]:
    children: dict[int, list[Process]] = {}
    for process in process_table():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    front = children.get(pid, [])
    while front:
        found += front
        front = [child for process in front for child in children.get(process.pid, ())]
    return found


def process_table() -> list[Process]:
    """Every process that is not already dead."""
    if not PROC.joinpath("self/stat").exists():
        return _process_table_by_ps()
    table = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                # The command's name stands in parentheses and may hold anything, so read after the last one.
                state, parent, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if state not in "ZX":
                    table.append(Process(int(entry.name), int(parent), int(group)))
    return table


def _process_table_by_ps() -> list[Process]:
    command = ["ps", "-axo", "pid=,ppid=,pgid=,state="]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    rows = (line.split() for line in listing.splitlines())
    return [Process(int(pid), int(ppid), int(pgid)) for pid, ppid, pgid, state in rows if not state.startswith("Z")]
