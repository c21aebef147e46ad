"""What jobs have logged, newest last, for `manage.py joblogs`: their lines, and each try that did not succeed.

Rows become visible when they are committed, not in the order of their numbers: whoever follows looks a little back
each time and leaves out what it has shown already.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from jobs.dashboard.look import Found, rows

AT_ONCE = 5000

NOW = "SELECT clock_timestamp() AS at"

LINES = """SELECT 'line ' || id AS key, at, level, job, task, source_name, number, logger, text, '' AS traceback
FROM jobs_log WHERE at >= %s AND level >= %s{} ORDER BY at, id LIMIT %s"""

TRIES = """SELECT * FROM (SELECT 'try ' || attempt.id AS key, attempt.ended_at AS at, 40 AS level, attempt.job,
    attempt.task, coalesce(job.source_name, ended.source_name, '') AS source_name, attempt.number, 'jobs' AS logger,
    'attempt ' || attempt.number || ' ' || replace(attempt.kind, '_', ' ') || ': ' || attempt.error AS text,
    attempt.traceback
  FROM (SELECT * FROM jobs_attempt ORDER BY id DESC LIMIT 20000) AS attempt
  LEFT JOIN jobs_job AS job ON job.id = attempt.job LEFT JOIN jobs_finishedjob AS ended ON ended.id = attempt.job
  WHERE attempt.ended_at >= %s) AS tries
WHERE level >= %s{} ORDER BY at LIMIT %s"""


@dataclass(frozen=True)
class Wanted:
    """Which of them."""

    source_name: str = ""
    task: str = ""
    level: int = logging.NOTSET
    job: UUID | None = None

    def conditions(self) -> tuple[str, list[Any]]:
        given = [(name, getattr(self, name)) for name in ("source_name", "task", "job") if getattr(self, name)]
        return "".join(f" AND {name} = %s" for name, _ in given), [value for _, value in given]


def now() -> datetime:
    """The database's time."""
    (row,) = rows(NOW)
    at: datetime = row.at
    return at


def since(at: datetime, wanted: Wanted) -> list[Found]:
    """Everything since then, in the order of time, up to a limit; raises TooSlow."""
    where, params = wanted.conditions()
    given = [at, wanted.level, *params, AT_ONCE]
    found = [*rows(LINES.format(where), given), *rows(TRIES.format(where), given)]
    return sorted(found, key=lambda row: row.at)
