"""What a person may do: requeue, run now, cancel, discard, edit, pause, clear, quiet, stop.

Each verb is one guarded statement over Django's own connection, in the caller's transaction: the WHERE says from which
states it may be done, the count is the answer, and what was done stands as a note with the job. A job that somebody
else has moved on in the meantime is left alone. Dashboard, commands and applications use these and edit no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction

from jobs.announce import cancelled
from jobs.callback import called
from jobs.conf import jobs_settings
from jobs.intake import CHANNEL
from jobs.models import Worker
from outbox.ask import ask, writing
from outbox.text import clean
from outbox.wake import wake_after_commit

KEPT = """id, task, queue, priority, source_name, version, at_most_once, max_attempts, lease, depth, parent, origin,
  idempotency_key, enqueued_at, run_after, callbacks, trace"""

WAITING = "state IN ('scheduled', 'retrying', 'ready')"

# All locks first and in the order of the ids, so that two people who act on the same jobs wait and do not deadlock;
# the guard once more outside, because the row may have changed while the lock was waited for.
REQUEUE = f"""WITH back AS (
  DELETE FROM jobs_finishedjob WHERE id = ANY(ARRAY(
    SELECT id FROM jobs_finishedjob WHERE id = ANY(%s::uuid[]) AND state IN ('dead', 'cancelled')
    ORDER BY id FOR UPDATE)) AND state IN ('dead', 'cancelled') RETURNING *),
forgotten AS (DELETE FROM jobs_cancellation WHERE job IN (SELECT id FROM back)),
noted AS (INSERT INTO jobs_note (job, at, by, deed, reason)
  SELECT id, clock_timestamp(), %s, 'requeued', %s FROM back)
INSERT INTO jobs_job ({KEPT}, arguments, state, attempts, crashes, error, ready_at)
SELECT {KEPT}, arguments, 'ready', 0, 0, error, clock_timestamp() FROM back RETURNING id"""

RUN_NOW = """WITH now AS (
  UPDATE jobs_job SET state = 'ready', ready_at = clock_timestamp() WHERE id = ANY(ARRAY(
    SELECT id FROM jobs_job WHERE id = ANY(%s::uuid[]) AND state IN ('scheduled', 'retrying')
    ORDER BY id FOR UPDATE)) AND state IN ('scheduled', 'retrying') RETURNING id)
INSERT INTO jobs_note (job, at, by, deed, reason) SELECT id, clock_timestamp(), %s, 'run now', %s FROM now
RETURNING job"""

CANCEL = f"""WITH gone AS (
  DELETE FROM jobs_job WHERE id = ANY(ARRAY(
    SELECT id FROM jobs_job WHERE id = ANY(%s::uuid[]) AND {WAITING} ORDER BY id FOR UPDATE)) AND {WAITING}
  RETURNING *, %s::text AS said),
{called("gone", outcome="'cancelled'", result="NULL", error="said")}
INSERT INTO jobs_finishedjob ({KEPT}, arguments, state, attempts, crashes, error, ready_at, worker, ended_at)
SELECT {KEPT}, arguments, 'cancelled', attempts, crashes, said, ready_at, NULL, clock_timestamp() FROM gone
RETURNING id, task, queue, attempts"""

# A running job is its worker's: the wish is written down, and the worker's keeper has it stopped.
WISH = """INSERT INTO jobs_cancellation (job, reason, asked_at)
SELECT id, %s, clock_timestamp() FROM jobs_job WHERE id = ANY(%s::uuid[]) AND state = 'running' ORDER BY id
ON CONFLICT (job) DO NOTHING RETURNING job"""

NOTE = """INSERT INTO jobs_note (job, at, by, deed, reason)
SELECT job, clock_timestamp(), %s, %s, %s FROM unnest(%s::uuid[]) AS job"""

DISCARD = """WITH gone AS (
  DELETE FROM jobs_finishedjob WHERE id = ANY(ARRAY(
    SELECT id FROM jobs_finishedjob WHERE id = ANY(%s::uuid[]) AND state IN ('dead', 'cancelled')
    ORDER BY id FOR UPDATE)) AND state IN ('dead', 'cancelled') RETURNING id),
attempts AS (DELETE FROM jobs_attempt WHERE job IN (SELECT id FROM gone)),
lines AS (DELETE FROM jobs_log WHERE job IN (SELECT id FROM gone)),
progress AS (DELETE FROM jobs_progress WHERE job IN (SELECT id FROM gone)),
notes AS (DELETE FROM jobs_note WHERE job IN (SELECT id FROM gone))
SELECT id FROM gone"""

# The lease is the guard: the arguments that were seen are those of this claim or of an earlier one.
EDIT = f"""UPDATE jobs_job SET arguments = %s, version = %s
WHERE id = %s AND lease = %s AND arguments = %s AND {WAITING} RETURNING id"""

EDIT_ENDED = """UPDATE jobs_finishedjob SET arguments = %s, version = %s
WHERE id = %s AND lease = %s AND arguments = %s AND state IN ('dead', 'cancelled') RETURNING id"""

PAUSE = """INSERT INTO jobs_queue (name, paused_at, until, reason, by) VALUES (%s, clock_timestamp(), %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET until = excluded.until, reason = excluded.reason, by = excluded.by RETURNING name"""

RESUME = "DELETE FROM jobs_queue WHERE name = %s RETURNING name"

WAITING_IN = f"SELECT id FROM jobs_job WHERE queue = %s AND {WAITING} LIMIT %s"

WISH_OF_WORKER = "UPDATE jobs_worker SET wish = %s WHERE id = %s RETURNING id"


class Cancelled(NamedTuple):
    """What `cancel` did."""

    waiting: int
    """Are cancelled."""
    running: int
    """Are told to stop, and killed where that does not end them."""


def requeue(ids: Iterable[UUID], *, by: str = "", reason: str = "") -> int:
    """Have dead and cancelled jobs run again, with all their attempts; lease and history stay."""
    with writing(_alias()):
        done = _ids(REQUEUE, (list(ids), by[:150], _short(reason)))
        _wake(done)
    return len(done)


def run_now(ids: Iterable[UUID], *, by: str = "", reason: str = "") -> int:
    """Have scheduled and retrying jobs run as soon as a slot is free."""
    with writing(_alias()):
        done = _ids(RUN_NOW, (list(ids), by[:150], _short(reason)))
        _wake(done)
    return len(done)


def cancel(ids: Iterable[UUID], *, by: str = "", reason: str = "") -> Cancelled:
    """Cancel what waits at once, and have what runs stopped."""
    wanted, said = list(ids), _said("cancelled", by, reason)
    with writing(_alias()):
        asked = _ids(WISH, (said, wanted))
        rows = _run(CANCEL, (wanted, said))
        gone = [row[0] for row in rows]
        if gone:
            wake_after_commit(_alias())  # a relay, for their callbacks
            transaction.on_commit(partial(cancelled, rows, said, here=True), using=_alias(), robust=True)
        # Once more for those that began to run between the two.
        asked += _ids(WISH, (said, [one for one in wanted if one not in {*asked, *gone}]))
        _note([*asked, *gone], "cancelled", by, reason)
    return Cancelled(len(gone), len(asked))


def discard(ids: Iterable[UUID]) -> int:
    """Delete dead and cancelled jobs for good, with everything that was kept about them."""
    return len(_ids(DISCARD, (list(ids),)))


def edit(job: UUID, arguments: str, *, seen: str, lease: int, version: int, by: str = "", reason: str = "") -> bool:
    """Put other arguments into a job that waits, or into an ended one and requeue it; False where it has moved on.

    `seen` is the JSON text that was edited: nothing is overwritten that the person has not seen.
    """
    guarded = (arguments, version, job, lease, seen)
    with writing(_alias()):
        if not (done := _ids(EDIT, guarded)) and (done := _ids(EDIT_ENDED, guarded)):
            requeue([job], by=by, reason=reason)
        _note(done, "edited", by, reason)
    return bool(done)


def pause(queue: str, *, until: datetime | None = None, by: str = "", reason: str = "") -> bool:
    """Have no more jobs of a queue started; what runs goes on. Workers know within a second or two."""
    return bool(_ids(PAUSE, (queue[:64], until, _short(reason, 200), by[:150])))


def resume(queue: str) -> bool:
    """End a pause; False where there was none."""
    return bool(_ids(RESUME, (queue,)))


def clear(queue: str, *, by: str = "", reason: str = "", limit: int = 2000) -> int:
    """Cancel up to `limit` jobs that wait in a queue; call again while it is not 0."""
    return cancel(_ids(WAITING_IN, (queue, limit)), by=by, reason=reason or "the queue was cleared").waiting


def tell_worker(worker: int, wish: Worker.Wish) -> bool:
    """Have a worker take no more jobs, finish and end, or work again; False where it is gone."""
    return bool(_ids(WISH_OF_WORKER, (wish.value, worker)))


def _note(ids: Sequence[UUID], deed: str, by: str, reason: str) -> None:
    if ids:
        _run(NOTE, (by[:150], deed, _short(reason), list(ids)))


def _alias() -> str:
    return jobs_settings().DATABASE


def _ids(sql: str, params: Sequence[Any]) -> list[Any]:
    return [row[0] for row in _run(sql, params)]


def _run(sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    return ask(_alias(), sql, params)


def _wake(done: Sequence[UUID]) -> None:
    """Tell idle workers, after the commit: inside it a NOTIFY would hold up every other commit."""
    if done:
        transaction.on_commit(partial(_run, f"NOTIFY {CHANNEL}", ()), using=_alias(), robust=True)


def _said(deed: str, by: str, reason: str) -> str:
    return _short(f"{deed}{f' by {by}' if by else ''}{f': {reason}' if reason else ''}")


def _short(text: str, limit: int = 300) -> str:
    return clean(" ".join(text.split()), limit)
