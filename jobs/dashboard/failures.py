"""Failed attempts grouped by what they have in common: the exception and the application's function it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from jobs.dashboard.counts import MOST, Count, bounded
from jobs.dashboard.filters import SPANS
from jobs.dashboard.look import Found, rows

LOOKED_THROUGH = 30_000
"""The newest failed attempts that are grouped."""

# The newest attempts by their number: time and again the same few thousand rows, however much history there is.
GROUPS = f"""WITH recent AS (SELECT * FROM jobs_attempt ORDER BY id DESC LIMIT {LOOKED_THROUGH}),
grouped AS (
  SELECT exception, frame, count(*) AS n, count(DISTINCT job) AS jobs, min(ended_at) AS first_at,
    max(ended_at) AS last_at, (array_agg(DISTINCT task))[1:4] AS tasks,
    array_remove((array_agg(DISTINCT version))[1:5], '') AS versions,
    (array_agg(error ORDER BY id DESC))[1] AS last_error, (array_agg(job ORDER BY id DESC))[1] AS last_job
  FROM recent WHERE ended_at > clock_timestamp() - %s * interval '1 second'
    AND (%s = '' OR task = %s) AND (%s = '' OR strpos(lower(exception || ' ' || frame), lower(%s)) > 0)
  GROUP BY exception, frame ORDER BY max(ended_at) DESC LIMIT 200)
SELECT grouped.*, (SELECT count(*) FROM recent JOIN jobs_finishedjob AS job
    ON job.id = recent.job AND job.lease = recent.lease AND job.state = 'dead'
  WHERE recent.exception = grouped.exception AND recent.frame = grouped.frame) AS dead
FROM grouped ORDER BY last_at DESC"""

OF_GROUP = """SELECT job.id FROM jobs_attempt AS attempt
JOIN jobs_finishedjob AS job ON job.id = attempt.job AND job.lease = attempt.lease AND job.state = 'dead'
WHERE attempt.exception = %s AND attempt.frame = %s ORDER BY attempt.id DESC LIMIT %s"""

NEWEST_OF_GROUP = """SELECT job.id, job.task, job.source_name, job.queue, job.ended_at, attempt.error, attempt.version
FROM jobs_attempt AS attempt
JOIN jobs_finishedjob AS job ON job.id = attempt.job AND job.lease = attempt.lease AND job.state = 'dead'
WHERE attempt.exception = %s AND attempt.frame = %s ORDER BY attempt.id DESC LIMIT 50"""


@dataclass(frozen=True)
class Group:
    """What failures have in common."""

    exception: str
    frame: str


def groups(within: str, task: str = "", search: str = "") -> list[Found]:
    """The groups of a span of time, the one that failed last first."""
    seconds = SPANS.get(within, SPANS["7d"])
    found = rows(GROUPS, (seconds, task, task, search, search))
    for group in found:
        group["message"] = group.last_error.removeprefix(f"{group.exception}: ") or group.last_error
    return found


def newest(group: Group) -> list[Found]:
    """The newest dead jobs of a group."""
    return rows(NEWEST_OF_GROUP, (group.exception, group.frame))


def count(group: Group) -> Count:
    """How many dead jobs a group has."""
    (found,) = rows(f"SELECT count(*) AS n FROM ({OF_GROUP}) AS these", (group.exception, group.frame, MOST))
    return bounded(found.n)


def batches(group: Group, size: int) -> Iterator[list[UUID]]:
    """The ids of a group's dead jobs, some at a time, as long as those before were dealt with."""
    last: list[UUID] = []
    while (ids := [row.id for row in rows(OF_GROUP, (group.exception, group.frame, size))]) and ids != last:
        last = ids
        yield ids
