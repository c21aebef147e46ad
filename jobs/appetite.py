"""How much a slot claims at once: decided from what its last jobs were like. Pure, but for the time it is told.

Quick jobs come in batches of about a twenty-fifth of a second's work; slow ones, those that may not be left lying and
those that have been there at a crash come alone; async ones as many as there are places for, and where they end fast
so many more as will have a place soon.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from jobs.claim import Claimed
from jobs.declare import registry

MOST = 500
"""The most jobs claimed, and about the most outcomes written, at once."""

BATCH_SECONDS = 0.04
"""How much work, by recent measure, is claimed at once."""

UNKNOWN_FOR = 30.0
"""Seconds for which jobs of a task that is not known here are passed over, once one of them has been put off."""


TOO_LONG_PASSING = 0.05
"""Seconds of a claim after which nothing is passed over any more: there are too many, and each is put off once."""


class Appetite:
    """Remembers the last claim and the pace of the jobs that came of it."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._batch = 4
        self._ahead = 0
        """Async jobs to have waiting while all places are taken."""
        self._counted_at = 0.0
        self._only_async = False
        self._some_async = True
        """All of the next claim may turn out async, and each of those needs a place."""
        self._one_by_one = False
        self.alone = False
        """The job in hand was claimed alone: no other beside it."""
        self._unknown: dict[str, float] = {}

    def paced(self, jobs: int, seconds: float) -> None:
        """So many sync jobs took so long."""
        if jobs:
            fit = int(BATCH_SECONDS * jobs / max(seconds, 1e-9))
            self._batch = max(1, min(fit, 4 * self._batch, MOST))

    def ended(self, jobs: int, now: float) -> None:
        """So many async jobs have ended since the last time."""
        took, self._counted_at = now - self._counted_at, now
        self._ahead = min(int(BATCH_SECONDS * jobs / max(took, 1e-3)), 2 * self._ahead + 8, MOST)

    def is_low(self, waiting: int) -> bool:
        """Whether so few wait that more should be claimed."""
        return 2 * waiting <= self._ahead

    def wants(self, *, waiting: int, free: int, busy_for: float | None) -> int:
        """How many to claim with `waiting` in the buffer and `free` places for async jobs; `busy_for` is the age of
        the sync job that runs, None between jobs."""
        if self._only_async and busy_for is None:
            room = free + self._ahead - waiting
            worth_it = not waiting or (2 * room >= self._places and self.is_low(waiting))
            return min(room, MOST) if room > 0 and worth_it else 0
        room = (free if self._some_async else MOST) - waiting
        if room <= 0:
            return 0
        if busy_for is not None and (self._batch == 1 or busy_for > BATCH_SECONDS):
            return 0
        if self._one_by_one:
            return 0 if waiting else 1
        return min(self._batch - waiting, room) if 2 * waiting <= self._batch else 0

    def had(self, jobs: Sequence[Claimed]) -> Claimed | None:
        """These were claimed; the one among them that has to be alone, if there is one."""
        is_async = [job.task in registry and registry[job.task].is_async for job in jobs]
        self._only_async, self._some_async = all(is_async), any(is_async)
        # It was running when a process died, and nobody else shall be in its way should it do that again; or it may
        # not be claimed and left lying, since whoever finds it could not tell whether it had started.
        alone = next((job for job in jobs if job.crashes or job.at_most_once), None)
        self.alone = self._one_by_one = alone is not None
        now = time.monotonic()
        self._unknown |= {job.task: now + UNKNOWN_FOR for job in jobs if job.task not in registry}
        return alone

    def passed_over(self) -> list[str]:
        """Tasks that were not known here a while ago: their jobs are left for a worker that knows them."""
        if not self._unknown:
            return []
        now = time.monotonic()
        self._unknown = {task: until for task, until in self._unknown.items() if until > now}
        return sorted(self._unknown)

    def passed(self, over: Sequence[str], seconds: float) -> None:
        """A claim that passed these tasks over took so long."""
        if over and seconds > TOO_LONG_PASSING:
            self._unknown.clear()  # so many that to pass them over costs more than to put them off
