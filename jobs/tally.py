"""Count outcomes in memory: a process adds up what it has written, and every few seconds the sums go to `jobs_stat`.

No counter in the database moves per job, so no two workers ever wait for one row. A crash loses the last few seconds
of counts and nothing else: what became of each job stands with the job.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobs.histogram import SIZE, UPPERS

if TYPE_CHECKING:
    from jobs.outcome import Outcome

COUNTED = frozenset({"succeeded", "retrying", "dead", "cancelled"})


@dataclass(slots=True)
class Sums:
    """Of one queue, task and outcome."""

    count: int = 0
    waited: float = 0.0
    ran: float = 0.0
    waits: list[int] = field(default_factory=lambda: [0] * SIZE)
    runs: list[int] = field(default_factory=lambda: [0] * SIZE)


Key = tuple[str, str, str]
"""Queue, task, outcome."""


class Tally:
    """What one process has counted and not yet written."""

    def __init__(self) -> None:
        self.skew = 0.0
        """Seconds the database's clock is ahead of this machine's: `ready_at` is by that clock."""
        self._sums: dict[Key, Sums] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._sums)

    def count(self, outcomes: Iterable[Outcome]) -> None:
        """Take outcomes that were written."""
        now = time.monotonic()
        clock = time.time() + self.skew - now
        before: tuple[str, str, str] | None = None
        row = Sums()
        with self._lock:
            for o in outcomes:
                outcome = o.state
                if outcome not in COUNTED:
                    if o.kind != "crashed" and o.kind != "lost":
                        continue
                    outcome = "crashed"
                key = (o.queue, o.task, outcome)
                if key != before:  # most batches are of one kind
                    row, before = self._sums.setdefault(key, Sums()), key
                row.count += 1
                if (started := o.started) is None:
                    continue
                ran = now - started
                row.ran += ran
                row.runs[bisect_left(UPPERS, ran)] += 1
                if o.ready_at is not None:
                    waited = clock + started - o.ready_at.timestamp()
                    if waited > 0.0:
                        row.waited += waited
                    row.waits[bisect_left(UPPERS, waited)] += 1

    def drop(self, outcomes: Iterable[Outcome]) -> None:
        """Take outcomes that were refused, because the job was no longer ours."""
        with self._lock:
            for o in outcomes:
                self._sums.setdefault((o.queue, o.task, "stale"), Sums()).count += 1

    def take(self) -> dict[Key, Sums]:
        """Everything counted since the last time."""
        with self._lock:
            taken, self._sums = self._sums, {}
        return taken


tally = Tally()
"""This process's own."""
