"""Add up counts: what processes append every few seconds becomes a row a minute, later ten minutes, then hours.

It takes rows that are old enough; it leaves their sums in fewer rows, in one transaction. Any number may do it at once:
each takes only rows that no other is adding up. A crash undoes one batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from jobs.histogram import merged, pack
from outbox.session import Session

BATCH = 4000

STEPS = ((60, 90), (600, 3 * 3600), (7200, 3 * 86_400), (21_600, 14 * 86_400))
"""Seconds that a row is to span, and the age from which it does."""

TAKE = """DELETE FROM jobs_stat WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM jobs_stat WHERE at < statement_timestamp() - %s * interval '1 second' AND span < %s
  ORDER BY at LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING at, queue, task, outcome, version, count, waited, ran, waits, runs"""

PUT = """INSERT INTO jobs_stat (at, span, queue, task, outcome, version, count, waited, ran, waits, runs)
SELECT to_timestamp(at), %s, queue, task, outcome, version, n, waited, ran, waits, runs
FROM unnest(%s::float8[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::float8[], %s::float8[],
  %s::text[], %s::text[]) AS sums(at, queue, task, outcome, version, n, waited, ran, waits, runs)"""


def compact(session: Session) -> bool:
    """One batch of each step; whether there may be more."""
    more = False
    for span, age in STEPS:
        with session.transaction(durable=False) as connection:
            taken = connection.execute(TAKE, (age, span, BATCH)).fetchall()
            if taken:
                connection.execute(PUT, (span, *sums_of(taken, span)))
        more = more or len(taken) == BATCH
    return more


def sums_of(rows: Iterable[tuple[Any, ...]], span: int) -> list[list[Any]]:
    """The rows added up, as columns."""
    groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for at, *key, count, waited, ran, waits, runs in rows:
        groups.setdefault((start_of(at, span), *key), []).append((count, waited, ran, waits, runs))
    added = [
        (
            *key,
            min(2**31 - 1, sum(row[0] for row in group)),
            sum(row[1] for row in group),
            sum(row[2] for row in group),
            pack(merged(row[3] for row in group)),
            pack(merged(row[4] for row in group)),
        )
        for key, group in sorted(groups.items())
    ]
    return [list(column) for column in zip(*added, strict=True)]


def start_of(at: datetime, span: int) -> float:
    """Start of the time of `span` seconds that `at` lies in."""
    seconds = at.astimezone(UTC).timestamp()
    return float(seconds - seconds % span)
