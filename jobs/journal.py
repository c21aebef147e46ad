"""Write what a process has counted and its tasks have said: beside the work, about once a second, never in its way.

It takes what stands in the tally and the notebook; it leaves rows in `jobs_stat`, `jobs_log` and `jobs_progress`. None
of it waits for a disk. Progress is fenced like everything about a running job. What the database refuses is dropped
with a warning: a job must not suffer from what it has said. A crash loses what was not yet written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from jobs.histogram import pack
from jobs.notebook import Line, Notebook, Standing, notebook
from jobs.tally import Key, Sums, tally
from outbox import faults
from outbox.session import Query, Session
from outbox.text import describe

logger = logging.getLogger("jobs")

SAY_EVERY = 1.0
"""Seconds between two writes of log lines and progress."""

COUNT_EVERY = 5.0
"""Seconds between two writes of counts."""

NOTHING_DUE = 3600.0

STAT = """INSERT INTO jobs_stat (at, span, queue, task, outcome, version, count, waited, ran, waits, runs)
SELECT clock_timestamp(), 0, queue, task, outcome, %s, n, waited, ran, waits, runs
FROM unnest(%s::text[], %s::text[], %s::text[], %s::int[], %s::float8[], %s::float8[], %s::text[], %s::text[])
  AS sums(queue, task, outcome, n, waited, ran, waits, runs)"""

CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"

LOG = """INSERT INTO jobs_log (job, lease, number, at, level, logger, text, task, source_name)
SELECT * FROM unnest(%s::uuid[], %s::int[], %s::smallint[], %s::timestamptz[], %s::smallint[], %s::text[], %s::text[],
  %s::text[], %s::text[])"""

# Fenced by the join. A claim that slips in between this look and the write has a higher lease and wins by it.
PROGRESS = """INSERT INTO jobs_progress AS known (job, lease, done, total, text, began_at, at)
SELECT said.job, said.lease, said.done, said.total, said.text, clock_timestamp(), clock_timestamp()
FROM unnest(%s::uuid[], %s::int[], %s::bigint[], %s::float8[], %s::float8[], %s::text[])
  AS said(job, lease, claimer, done, total, text)
JOIN jobs_job AS job ON job.id = said.job AND job.state || '' = 'running' AND job.lease = said.lease
  AND job.claimer = said.claimer
ORDER BY said.job
ON CONFLICT (job) DO UPDATE SET lease = excluded.lease, done = excluded.done, total = excluded.total,
  text = excluded.text, at = excluded.at,
  began_at = CASE WHEN known.lease = excluded.lease THEN known.began_at ELSE excluded.began_at END
WHERE known.lease <= excluded.lease"""


class Journal:
    """Of one process; whoever owns its session calls `step`."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._said_at = self._counted_at = 0.0
        self._waiting: list[Query] = []

    @property
    def empty(self) -> bool:
        """Nothing that a task has said waits to be written."""
        return not (notebook or self._waiting)

    def step(self, session: Session, *, hurry: bool = False) -> float:
        """Write what is due, or everything in a hurry; answers the seconds until it wants to be called again."""
        now = time.monotonic()
        counts = bool(tally) and (hurry or now - self._counted_at >= COUNT_EVERY)
        said = bool(notebook) and (hurry or now - self._said_at >= SAY_EVERY)
        if counts or said or self._waiting:
            self._write(session, counts, said, now)
        return self._due(now)

    def close(self, session: Session) -> None:
        """The last of it, if the database takes it."""
        with suppress(*faults.ANY):
            self.step(session, hurry=True)

    def _due(self, now: float) -> float:
        due = NOTHING_DUE
        if notebook:
            due = self._said_at + SAY_EVERY - now
        if tally:
            due = min(due, self._counted_at + COUNT_EVERY - now)
        return max(0.001, due)

    def _write(self, session: Session, counts: bool, said: bool, now: float) -> None:
        if said:
            self._waiting += said_in(notebook)
            self._said_at = now
        if counts:
            self._waiting += [_stat(tally.take(), self._version), Query(CLOCK)]
            self._counted_at = now
        try:
            results = session.run_all(self._waiting, durable=False)
        except faults.ANY as error:
            if not session.connected:
                raise  # all of it is written once there is a connection again
            logger.warning("what tasks have said or counted could not be kept: %s", describe(error))
        else:
            if counts:
                tally.skew = results[-1][0][0] - time.time()
        self._waiting = []


def said_in(book: Notebook) -> list[Query]:
    """The queries that write what stands in a notebook; it is empty then."""
    lines, standings = book.take()
    return _log(lines) + _progress(standings)


def _stat(sums: dict[Key, Sums], version: str) -> Query:
    rows = [
        (*key, row.count, row.waited, row.ran, pack(row.waits), pack(row.runs)) for key, row in sorted(sums.items())
    ]
    return Query(STAT, (version, *_columns(rows, 8)))


def _log(lines: Sequence[Line]) -> list[Query]:
    rows = [line._replace(at=datetime.fromtimestamp(line.at, UTC)) for line in lines]  # type: ignore[arg-type]
    return [Query(LOG, _columns(rows, len(Line._fields)))] if rows else []


def _progress(standings: Sequence[Standing]) -> list[Query]:
    return [Query(PROGRESS, _columns(standings, len(Standing._fields)))] if standings else []


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[n] for row in rows] for n in range(width)]
