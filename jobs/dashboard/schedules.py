"""Schedules as people read them: when in plain words, the next times, what became of the last ones."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from jobs.dashboard.look import Found, one, rows
from jobs.declare import registry
from jobs.envelope import loads
from jobs.errors import InvalidSchedule
from jobs.models import State
from jobs.recur import Rhythm

MOST = 500

SELECT = """SELECT schedule.*, clock_timestamp() AS now, coalesce(job.state, ended.state) AS last_state
FROM jobs_schedule AS schedule LEFT JOIN jobs_job AS job ON job.id = schedule.last_job
LEFT JOIN jobs_finishedjob AS ended ON ended.id = schedule.last_job"""

ALL = f"""{SELECT} ORDER BY schedule.paused_at IS NOT NULL OR schedule.orphaned_at IS NOT NULL, schedule.name
LIMIT %s"""

ONE = f"{SELECT} WHERE schedule.id = %s"

JOBS = """SELECT id, task, source_name, state, origin, enqueued_at, error FROM jobs_job WHERE parent = %s
UNION ALL SELECT id, task, source_name, state, origin, enqueued_at, error FROM jobs_finishedjob WHERE parent = %s
ORDER BY enqueued_at DESC, id DESC LIMIT 25"""

AILING = """SELECT count(*) FILTER (WHERE trouble <> '' AND orphaned_at IS NULL) AS troubled,
  count(*) FILTER (WHERE orphaned_at IS NOT NULL) AS orphaned,
  count(*) FILTER (WHERE next_at < clock_timestamp() - %s * interval '1 second' AND hold_until IS NULL
    AND orphaned_at IS NULL) AS late
FROM jobs_schedule WHERE paused_at IS NULL"""


@dataclass(frozen=True)
class ScheduleNow:
    """One schedule as it stands."""

    row: Found
    sentence: str
    next: list[datetime]
    """The next times, while it is not stopped."""
    trouble: str
    """Why it cannot be run; empty where it can."""

    @property
    def stopped(self) -> str:
        """In one word why it does not run; empty while it does."""
        if self.row.orphaned_at is not None:
            return "orphan"
        return "paused" if self.row.paused_at is not None else ""

    @property
    def last_state_label(self) -> str:
        return str(State(self.row.last_state).label) if self.row.last_state else "no longer kept"

    @property
    def options(self) -> dict[str, Any]:
        """What the task's `using` is given; empty where that cannot be read."""
        try:
            given = loads(self.row.options)
        except ValueError:
            return {}
        return given if isinstance(given, dict) else {}


def schedules(times: int = 3, *, most: int | None = MOST + 1) -> list[ScheduleNow]:
    """All of them, or the first so many; those that run come first."""
    return [_now(row, times) for row in rows(ALL, (most,))]


def schedule(number: UUID, times: int = 6) -> ScheduleNow | None:
    row = one(ONE, (number,))
    return _now(row, times) if row is not None else None


def jobs_of(row: Found) -> list[Found]:
    """The last jobs that it has made, the newest first; `why` is what there is to say beside its name."""
    prefix = f"schedule {row.name}, "
    return [Found({**job, "why": job.origin.removeprefix(prefix)}) for job in rows(JOBS, (row.id, row.id))]


def needs(grace: float) -> list[dict[str, Any]]:
    """What a person should look at."""
    found = one(AILING, (grace,))
    if found is None:
        return []
    words = {
        "troubled": ("bad", "cannot be run"),
        "late": ("bad", "late: no scheduler has looked at what is due"),
        "orphaned": ("mild", "left over: no running code has it any more"),
    }
    return [
        {"level": level, "text": text, "page": "schedules", "count": found[name]}
        for name, (level, text) in words.items()
        if found[name]
    ]


def _now(row: Found, times: int) -> ScheduleNow:
    trouble = row.trouble or ("" if row.task in registry else f"this code has no task {row.task}")
    try:
        rhythm = Rhythm(row.cron, row.every, row.timezone)
    except InvalidSchedule as error:
        return ScheduleNow(row, row.cron or str(row.every), [], str(error))
    ahead: list[datetime] = []
    if row.next_at is not None and row.paused_at is None and row.orphaned_at is None:
        ahead = [row.next_at, *itertools.islice(rhythm.ticks(row.next_at), times - 1)]
    return ScheduleNow(row, rhythm.sentence, ahead, trouble)
