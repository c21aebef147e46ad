"""What people look at, on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs.dashboard import counts, failures, listing
from outbox.lite.book import Answer, Do, said, verb

said(
    counts.QUEUES,
    """SELECT queue, count(*) AS depth, min(ready_at) AS eldest,
      extract(epoch FROM clock_timestamp() - min(ready_at)) AS lag
    FROM (SELECT queue, ready_at FROM jobs_job WHERE state = 'ready' LIMIT %s) AS these
    GROUP BY queue ORDER BY queue LIMIT 200""",
)

said(counts.HISTORY, "SELECT count(*) AS n FROM jobs_finishedjob")

said(
    listing.READY,
    f"""SELECT {listing.HOT} FROM jobs_job WHERE state = 'ready' AND queue = ANY(%s::text[]){{after}}{{where}}
    ORDER BY priority DESC, ready_at, id LIMIT {listing.PAGE + 1}""",
    template=True,
)

RECENT = f"""SELECT recent.job, recent.exception, recent.frame, recent.task, recent.version, recent.error,
  recent.ended_at, job.state IS NOT NULL
FROM (SELECT * FROM jobs_attempt ORDER BY id DESC LIMIT {failures.LOOKED_THROUGH}) AS recent
LEFT JOIN jobs_finishedjob AS job ON job.id = recent.job AND job.lease = recent.lease AND job.state = 'dead'
WHERE recent.ended_at > clock_timestamp() - %s * interval '1 second'
  AND (%s = '' OR recent.task = %s)
  AND (%s = '' OR strpos(lower(recent.exception || ' ' || recent.frame), lower(%s)) > 0)
ORDER BY recent.id DESC"""

GROUP = (
    "exception",
    "frame",
    "n",
    "jobs",
    "first_at",
    "last_at",
    "tasks",
    "versions",
    "last_error",
    "last_job",
    "dead",
)


@verb(failures.GROUPS, reads=True)
def groups(do: Do, params: Sequence[Any]) -> Answer:
    """SQLite has no arrays, so the rows are grouped here; the newest of each comes first."""
    alike: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for row in do(RECENT, params):
        alike.setdefault((row[1], row[2]), []).append(row)
    rows = [
        (
            *group, len(those), len({row[0] for row in those}),
            min(row[6] for row in those), max(row[6] for row in those),
            sorted({row[3] for row in those})[:4], [each for each in sorted({row[4] for row in those})[:5] if each],
            those[0][5], those[0][0], sum(row[7] for row in those),
        )
        for group, those in alike.items()
    ]  # fmt: skip
    return Answer(GROUP, sorted(rows, key=lambda row: row[5], reverse=True)[:200])
