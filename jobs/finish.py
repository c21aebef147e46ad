"""Write outcomes, fenced: whoever lost the lease changes nothing.

It takes outcomes; it leaves ended jobs in the history and the others in their next state, each with its row in the
attempts where a try failed. The WHERE is the guard and the returned ids are the answer: an outcome whose id does not
come back was stale, and nothing of it was written. A crash before the commit leaves the jobs running; the keeper
finds them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from uuid import UUID

from jobs.afterwards import afterwards
from jobs.announce import announce
from jobs.callback import called
from jobs.frames import top_frame
from jobs.outcome import Outcome
from jobs.tally import tally
from outbox.arrays import plain, quoted
from outbox.session import Query, Row

logger = logging.getLogger("jobs")

# `state || ''` so that no plan can use the index over what runs: with statistics from an empty table it was read whole
# for a batch, in its own order. What is left is one probe by id for each outcome, in the order of the arrays.
FENCE = "job.id = o.id AND job.state || '' = 'running' AND job.lease = o.lease AND job.claimer = o.claimer"

KEPT = """id, task, queue, priority, source_name, arguments, version, at_most_once, max_attempts, lease, depth, parent,
  origin, idempotency_key, enqueued_at, run_after, ready_at, worker,
  callbacks, trace"""

# The array order is the id order: two writers that meet on several rows take the locks in the same order. A batch that
# needs more than one statement takes all its locks first, or the second would go back to lower ids. No rows come back.
LOCK = f"""WITH mine AS MATERIALIZED (
  SELECT 1 FROM unnest(%s::uuid[], %s::int[], %s::bigint[]) AS o(id, lease, claimer) JOIN jobs_job AS job ON {FENCE}
  FOR UPDATE OF job)
SELECT 1 FROM mine HAVING count(*) < 0"""

# Ages in seconds instead of times: a worker's clock is nobody's business.
GONE = f"""gone AS (
  DELETE FROM jobs_job AS job USING unnest(%s::uuid[], %s::int[], %s::bigint[], %s::text[], %s::text[], %s::float8[])
    AS o(id, lease, claimer, result, note, age)
  WHERE {FENCE}
  RETURNING job.*, o.result, o.note, o.age)"""
SUCCEEDED = f"""INSERT INTO jobs_finishedjob ({KEPT}, state, attempts, crashes, result, error, started_at, ended_at)
SELECT {KEPT}, 'succeeded', attempts + 1, crashes, result, note,
  clock_timestamp() - age * interval '1 second', clock_timestamp()
FROM gone RETURNING id::text"""
WELL = "'succeeded'"
SUCCEED = f"WITH {GONE}\n{SUCCEEDED}"
SUCCEED_CALLING = f"WITH {GONE}, {called('gone', outcome=WELL, result='result', error='note')}\n{SUCCEEDED}"

OUTCOMES = """o AS MATERIALIZED (SELECT * FROM unnest(%s::uuid[], %s::int[], %s::bigint[], %s::text[], %s::smallint[],
    %s::smallint[], %s::float8[], %s::text[], %s::text[], %s::text[], %s::text[], %s::smallint[], %s::float8[])
  AS o(id, lease, claimer, state, attempts, crashes, delay, error, traceback, frame, kind, number, age))"""

ATTEMPTS = """noted AS (
  INSERT INTO jobs_attempt (job, lease, number, kind, error, traceback, task, exception, frame, version, worker,
    started_at, ended_at)
  SELECT id, lease, number, kind, error, traceback, task, left(split_part(error, ': ', 1), 200), frame,
    coalesce((SELECT version FROM jobs_worker WHERE jobs_worker.id = moved.worker), ''), worker,
    clock_timestamp() - age * interval '1 second', clock_timestamp()
  FROM moved WHERE kind <> '' ON CONFLICT (job, lease) DO NOTHING)"""

# A coroutine that was cancelled alone does not know by whom: the wish that its slot was told of still stands there.
SAID = """coalesce((SELECT nullif(reason, '') FROM jobs_cancellation AS wish WHERE wish.job = job.id
    AND o.state = 'cancelled'), o.error) AS error"""

DYING = f"""{OUTCOMES}, moved AS (
  DELETE FROM jobs_job AS job USING o WHERE {FENCE}
  RETURNING job.id, job.lease, job.worker, o.number, o.kind, {SAID}, o.traceback, o.frame, o.age, o.state, o.attempts,
    o.crashes, job.task, job.queue, job.priority, job.source_name, job.arguments, job.version, job.at_most_once,
    job.max_attempts, job.depth, job.parent, job.origin, job.idempotency_key, job.enqueued_at, job.run_after,
    job.ready_at, job.callbacks, job.trace),
{ATTEMPTS}"""
DEAD = f"""INSERT INTO jobs_finishedjob ({KEPT}, state, attempts, crashes, error, started_at, ended_at)
SELECT {KEPT}, state, attempts, crashes, error, clock_timestamp() - age * interval '1 second', clock_timestamp()
FROM moved RETURNING id::text"""
DIE = f"WITH {DYING}\n{DEAD}"
DIE_CALLING = f"WITH {DYING}, {called('moved', outcome='state', result='NULL', error='error')}\n{DEAD}"

# The attempt row names the worker that had the job; the UPDATE empties that column, so it is a parameter.
RETURN = f"""WITH {OUTCOMES}, moved AS (
  UPDATE jobs_job AS job SET state = o.state, attempts = o.attempts, crashes = o.crashes, error = CASE
      WHEN o.error <> '' THEN o.error ELSE job.error END,
    run_after = CASE WHEN o.state = 'ready' THEN job.run_after
      ELSE clock_timestamp() + o.delay * interval '1 second' END,
    worker = NULL, claimer = NULL, claimed_at = NULL
  FROM o WHERE {FENCE}
  RETURNING job.id, job.lease, %s::bigint AS worker, job.task, o.number, o.kind, o.error, o.traceback, o.frame,
    o.age),
{ATTEMPTS}
SELECT id::text FROM moved"""


def finish(outcomes: Sequence[Outcome], worker: int) -> list[Query]:
    """The queries that write these outcomes; their rows are the ids that were written."""
    now = time.monotonic()
    ordered = sorted(outcomes, key=lambda o: o.id.int)
    succeeded = [o for o in ordered if o.state == "succeeded"]
    dead = [o for o in ordered if o.state in ("dead", "cancelled")]
    returned = [o for o in ordered if o.state not in ("succeeded", "dead", "cancelled")]
    queries = []
    if max(len(succeeded), len(dead), len(returned)) < len(ordered):
        queries.append(Query(LOCK, _fences(ordered)))
    if succeeded:
        queries.append(_succeed(succeeded, now))
    if dead:
        queries.append(Query(DIE_CALLING if any(o.calls_back for o in dead) else DIE, _columns(dead, now)))
    if returned:
        queries.append(Query(RETURN, [*_columns(returned, now), worker]))
    return queries


def written(results: Sequence[Sequence[Row]]) -> set[UUID]:
    """The ids that the queries of `finish` wrote."""
    return {UUID(row[0]) for rows in results for row in rows}


def _fences(outcomes: Sequence[Outcome]) -> tuple[str, str, str]:
    return (
        plain([f"{o.id.int:032x}" for o in outcomes]),
        plain([o.lease for o in outcomes]),
        plain([o.claimer for o in outcomes]),
    )


def _succeed(outcomes: Sequence[Outcome], now: float) -> Query:
    return Query(
        SUCCEED_CALLING if any(o.calls_back for o in outcomes) else SUCCEED,
        (
            *_fences(outcomes),
            quoted([o.result for o in outcomes]),
            quoted([o.error for o in outcomes]),
            plain([_age(o, now) for o in outcomes]),
        ),
    )


def _columns(outcomes: Sequence[Outcome], now: float) -> list[object]:
    return [
        *_fences(outcomes),
        plain([o.state for o in outcomes]),
        plain([o.attempts for o in outcomes]),
        plain([o.crashes for o in outcomes]),
        plain([o.delay for o in outcomes]),
        quoted([o.error for o in outcomes]),
        quoted([o.traceback for o in outcomes]),
        quoted([top_frame(o.traceback) for o in outcomes]),
        quoted([o.kind for o in outcomes]),
        plain([o.number for o in outcomes]),
        plain([_age(o, now) for o in outcomes]),
    ]


def _age(outcome: Outcome, now: float) -> float | None:
    return None if outcome.started is None else max(0.0, now - outcome.started)


LEVELS = {
    "succeeded": logging.INFO,
    "cancelled": logging.INFO,
    "retrying": logging.WARNING,
    "dead": logging.ERROR,
    "scheduled": logging.WARNING,
}


def tell(outcomes: Sequence[Outcome], ids: set[UUID] | None, *, doubtful: bool = False) -> None:
    """Count the outcomes that were written, by their `ids` (None is all of them), have their signals sent, and log a
    line for each that is worth one; `doubtful` when a lost connection may have written them before."""
    tally.count(outcomes if ids is None else [o for o in outcomes if o.id in ids])
    if afterwards.waiting:
        afterwards.written(outcomes, ids)
    if ids is not None and not doubtful and len(ids) < len(outcomes):
        tally.drop(o for o in outcomes if o.id not in ids)
    announce(outcomes, ids)
    now = time.monotonic()
    info = logger.isEnabledFor(logging.INFO)
    for o in outcomes:
        if o.state == "succeeded" and not info and ids is None:
            continue
        if ids is not None and o.id not in ids:
            logger.log(
                logging.DEBUG if doubtful else logging.WARNING,
                "job %s of %s (lease %s) was no longer ours: its outcome %r was dropped",
                o.id,
                o.task,
                o.lease,
                o.state,
            )
        elif info or o.state != "succeeded":
            took = "" if o.started is None else f" in {now - o.started:.3f} s"
            after = f", again in {o.delay:.1f} s" if o.state in ("retrying", "scheduled") else ""
            why = f": {o.error}" if o.error else ""
            if o.state == "dead" and o.traceback:
                why += f"\n{o.traceback}"  # nobody may look at the dashboard; the log has to say why
            logger.log(
                LEVELS.get(o.state, logging.DEBUG),
                "job %s of %s: attempt %s %s%s%s%s",
                o.id,
                o.task,
                o.number,
                "handed back" if o.state == "ready" and not o.kind else o.state,
                took,
                after,
                why,
            )
