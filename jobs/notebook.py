"""What a running task says, kept in memory until the pump writes it: log lines and progress.

The task only puts a line down and goes on; it never waits for a database. The pump's thread writes about once a
second while the task runs, so a task that is killed leaves its lines. What does not fit is dropped and counted, oldest
promises first: a task that logs without end fills neither the memory nor the table.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from outbox.text import clean

if TYPE_CHECKING:
    from jobs.context import JobContext

MOST_LINES = 500
"""Lines of one attempt; from there to twice as many, warnings and errors only."""

MOST_BYTES = 128_000
"""Characters of one attempt's lines; counted like the lines."""

LONGEST = 4000
"""Characters of one line."""

MOST_WAITING = 10_000
"""Lines of the whole process that may wait for the pump."""

REMEMBERED = 2000
"""Attempts whose lines are counted."""


class Line(NamedTuple):
    """One log line of one attempt."""

    job: UUID
    lease: int
    number: int
    at: float
    """Seconds since 1970, by this machine."""
    level: int
    logger: str
    text: str
    task: str
    source_name: str


class Standing(NamedTuple):
    """How far a job is, with the fence of the claim that says so."""

    job: UUID
    lease: int
    claimer: int
    done: float
    total: float | None
    text: str


@dataclass(slots=True)
class Used:
    """How much of its share an attempt has used."""

    lines: int = 0
    size: int = 0
    full: bool = False


FULL = "(this attempt has logged its share: from here only some warnings and errors are kept)"


class Notebook:
    """Of one process. Tasks of any thread write in it; the pump's thread takes it out."""

    def __init__(self) -> None:
        self.ring: Callable[[], None] = lambda: None
        """Wakes the pump; called when the notebook is no longer empty."""
        self._lines: deque[Line] = deque()
        self._standings: dict[UUID, Standing] = {}
        self._used: dict[tuple[UUID, int], Used] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._lines or self._standings)

    def line(self, context: JobContext, level: int, logger: str, text: str) -> None:
        """Put a log line down, if there is room for it."""
        text = clean(text, LONGEST)
        with self._lock:
            if not self._fits(context, level, len(text)):
                return
            quiet = not self
            self._lines.append(_line(context, level, logger, text))
        if quiet:
            self.ring()

    def _fits(self, context: JobContext, level: int, size: int) -> bool:
        if len(self._lines) >= MOST_WAITING:
            return False
        used = self._used.get((context.job_id, context.lease))
        if used is None:
            while len(self._used) >= REMEMBERED:
                del self._used[next(iter(self._used))]
            used = self._used[context.job_id, context.lease] = Used()
        share = 2 if level >= logging.WARNING else 1
        if used.lines < share * MOST_LINES and used.size + size <= share * MOST_BYTES:
            used.lines += 1
            used.size += size
            return True
        if not used.full:
            used.full = True
            self._lines.append(_line(context, logging.WARNING, "jobs", FULL))
        return False

    def stand(self, context: JobContext, done: float, total: float | None, text: str) -> None:
        """Put down how far the job is; only the last word counts."""
        with self._lock:
            quiet = not self
            self._standings[context.job_id] = Standing(
                context.job_id, context.lease, context.claimer, done, total, clean(text, 200)
            )
        if quiet:
            self.ring()

    def take(self) -> tuple[list[Line], list[Standing]]:
        """Everything put down since the last time."""
        with self._lock:
            lines, standings = list(self._lines), list(self._standings.values())
            self._lines.clear()
            self._standings.clear()
        return lines, standings


def _line(context: JobContext, level: int, logger: str, text: str) -> Line:
    return Line(
        context.job_id,
        context.lease,
        context.attempt,
        time.time(),
        level,
        logger,
        text,
        context.task_name,
        context.source_name,
    )


notebook = Notebook()
"""This process's own."""
