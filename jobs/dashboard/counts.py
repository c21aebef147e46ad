"""How many jobs are where. Counts stop at a limit, and the history that ended well is only estimated."""

from __future__ import annotations

from typing import NamedTuple

from django.db import router

from jobs.conf import jobs_settings
from jobs.dashboard.look import Found, rows
from jobs.models import State
from outbox.models import SetAsideMessage

MOST = 300_000
"""Rows that one count reads; from there on it says "more than"."""

STATES = (
    State.READY,
    State.RUNNING,
    State.SCHEDULED,
    State.RETRYING,
    State.DEAD,
    State.CANCELLED,
    State.SUCCEEDED,
    State.SET_ASIDE,
)
"""In the order of the tabs."""

# Each queue that has something ready is found by one probe, then counted along its index, up to the limit.
QUEUES = """WITH RECURSIVE found AS (
  (SELECT queue FROM jobs_job WHERE state = 'ready' ORDER BY queue LIMIT 1)
  UNION ALL
  SELECT (SELECT queue FROM jobs_job WHERE state = 'ready' AND queue > found.queue ORDER BY queue LIMIT 1)
  FROM found WHERE found.queue IS NOT NULL)
SELECT found.queue, waiting.depth, waiting.eldest, extract(epoch FROM clock_timestamp() - waiting.eldest)::float8 AS lag
FROM found CROSS JOIN LATERAL (
  SELECT count(*) AS depth, min(ready_at) AS eldest FROM (
    SELECT ready_at FROM jobs_job WHERE state = 'ready' AND queue = found.queue LIMIT %s) AS these) AS waiting
WHERE found.queue IS NOT NULL ORDER BY found.queue LIMIT 200"""

HOT = """SELECT 'running' AS state, count(*) AS n FROM (SELECT 1 FROM jobs_job WHERE state = 'running' LIMIT %s) AS r
UNION ALL SELECT state, count(*) FROM (
  SELECT state FROM jobs_job WHERE state IN ('scheduled', 'retrying') LIMIT %s) AS later GROUP BY state
UNION ALL SELECT state, count(*) FROM (
  SELECT state FROM jobs_finishedjob WHERE state <> 'succeeded' LIMIT %s) AS badly GROUP BY state"""

# What the planner knows of the table's size, less what was counted.
HISTORY = """SELECT greatest(0, reltuples)::bigint AS n FROM pg_class WHERE oid = to_regclass('jobs_finishedjob')"""

# The planner knows nothing of a table that was never analysed; then the first few are counted.
FEW = "SELECT count(*) AS n FROM (SELECT 1 FROM jobs_finishedjob WHERE state = 'succeeded' LIMIT %s) AS these"
A_FEW = 10_000


class Count(NamedTuple):
    """How many, and how sure that is."""

    n: int
    sign: str = ""
    """Empty where it is exact, else "≈" or "more than"."""

    def __str__(self) -> str:
        return f"{self.sign} {self.n:,}".strip()


def depths() -> list[Found]:
    """Queue, depth, and how long the eldest has waited, of every queue that has something ready."""
    return rows(QUEUES, (MOST,))


def by_state(queues: list[Found]) -> dict[str, Count]:
    """How many jobs are in each state; `queues` is what `depths` said."""
    known = {row.state: row.n for row in rows(HOT, (MOST, MOST, MOST))}
    ready = sum(row.depth for row in queues)
    counts = {state.value: bounded(known.get(state.value, 0)) for state in STATES}
    counts["ready"] = Count(ready, "more than" if any(row.depth >= MOST for row in queues) else "")
    counts["succeeded"] = _succeeded(known.get("dead", 0) + known.get("cancelled", 0))
    outbox = router.db_for_write(SetAsideMessage) or jobs_settings().DATABASE
    counts["set_aside"] = bounded(SetAsideMessage.objects.using(outbox).order_by()[:MOST].count())
    return counts


def bounded(n: int, most: int = MOST) -> Count:
    return Count(n, "more than" if n >= most else "")


def _succeeded(others: int) -> Count:
    (few,) = rows(FEW, (A_FEW,))
    if few.n < A_FEW:
        return Count(few.n)
    (history,) = rows(HISTORY)
    return Count(max(A_FEW, history.n - others), "≈")
