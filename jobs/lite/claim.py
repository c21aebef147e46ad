"""Claim on SQLite: the next of each lane until there are enough, then all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs import claim, promote
from outbox.lite.book import Do, Row, said, verb

NEXT = """SELECT id FROM jobs_job
WHERE state = 'ready' AND queue = %s AND priority BETWEEN %s AND %s AND task <> ALL(%s::text[])
ORDER BY priority DESC, ready_at LIMIT %s"""

TAKE = """UPDATE jobs_job SET state = 'running', worker = %s, claimer = %s, lease = lease + 1,
  claimed_at = clock_timestamp()
WHERE id = ANY(%s::uuid[]) AND state = 'ready'
RETURNING id, task, queue, priority, arguments, lease, claimer, attempts, crashes, max_attempts, source_name,
  idempotency_key, depth, version, at_most_once, ready_at, callbacks, trace"""


@verb(claim.CLAIM)
def take(do: Do, params: Sequence[Any]) -> list[Row]:
    worker, claimer, queues, lows, highs, unknown, limit, _ = params
    ids: list[Any] = []
    for lane in zip(queues, lows, highs, strict=True):
        if len(ids) < limit:
            ids += [row[0] for row in do(NEXT, (*lane, unknown, limit - len(ids))) if row[0] not in ids]
    # Not `callbacks IS NOT NULL` in RETURNING: SQLite 3.40 says that everything is.
    return [(*row[:-2], row[-2] is not None, row[-1]) for row in do(TAKE, (worker, claimer, ids))] if ids else []


said(claim.DISCOVER, "SELECT DISTINCT queue FROM jobs_job WHERE state = 'ready' ORDER BY queue")

DUE = """SELECT id FROM jobs_job WHERE state IN ('scheduled', 'retrying') AND run_after <= clock_timestamp()
ORDER BY run_after LIMIT %s"""

TURN_OVER = """UPDATE jobs_job SET state = 'ready', ready_at = clock_timestamp()
WHERE id = %s AND state IN ('scheduled', 'retrying') RETURNING 1"""


@verb(promote.PROMOTE)
def turn_over(do: Do, params: Sequence[Any]) -> list[Row]:
    """One by one, so that each gets its place in the order of their times."""
    return [row for due in do(DUE, params) for row in do(TURN_OVER, due)]
