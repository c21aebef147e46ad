"""Pure: what is to be done about a schedule whose time has come.

A row and the database's time go in; which ticks become jobs, which do not, and when to look again come out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from jobs.recur import Rhythm

LONGEST_HOLD = timedelta(seconds=10)


class Waiting(NamedTuple):
    """A schedule with a tick that is due, as the table has it."""

    id: UUID
    name: str
    task: str
    cron: str
    every: timedelta | None
    timezone: str
    arguments: str
    options: str
    tick_as: str
    missed: str
    missed_limit: int
    overlap: str
    next_at: datetime
    last_job: UUID | None
    trouble: str
    now: datetime
    alive: bool
    """The last job has not ended."""


@dataclass(frozen=True)
class Decision:
    """What becomes of the ticks that have come due."""

    next_at: datetime | None
    """The first tick that is not decided; None is never again."""
    ticks: list[datetime] = field(default_factory=list)
    """They become a job each."""
    missed: int = 0
    """Came while no scheduler ran, and are not made up for."""
    skipped: int = 0
    """Came while the last job had not ended."""
    hold: timedelta | None = None
    """Nothing is decided: look again after that."""


def decide(row: Waiting, grace: float) -> Decision:
    """What to do now. `grace` is the seconds a tick may be late before it counts as missed."""
    due = Rhythm(row.cron, row.every, row.timezone).due(
        row.next_at, row.now, row.missed_limit if row.missed == "all" else 1
    )
    if not due.total:  # the clock went back
        return Decision(row.next_at, hold=timedelta(seconds=1))
    if row.alive and row.overlap == "skip":
        return Decision(due.next, skipped=due.total)
    if row.alive and row.overlap == "queue":
        # A tenth of the time it has waited: the end of a long job is not met to the second, and not asked for often.
        late = (row.now - row.next_at) / 10
        return Decision(row.next_at, hold=max(timedelta(seconds=1), min(late, LONGEST_HOLD)))
    ticks = due.latest
    if row.missed == "skip":
        ticks = [tick for tick in ticks if (row.now - tick).total_seconds() <= grace]
    if len(ticks) > 1 and row.overlap != "allow":
        # One after another: the first of them now, the others when it has ended.
        gone = due.total - len(ticks)
        if row.overlap == "queue":
            return Decision(ticks[1], ticks[:1], missed=gone)
        return Decision(due.next, ticks[-1:], missed=gone, skipped=len(ticks) - 1)
    return Decision(due.next, ticks, missed=due.total - len(ticks))


def with_tick(kwargs: dict[str, Any], tick_as: str, at: datetime) -> dict[str, Any]:
    """The keyword arguments of the job of that tick."""
    return {**kwargs, tick_as: at.isoformat()} if tick_as else kwargs
