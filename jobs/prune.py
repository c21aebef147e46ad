"""Retention: what has been kept long enough goes, in small bounded steps, while everything else runs.

It takes old rows of the history; it leaves nothing of them. An idempotency key outlives its job: it goes only when
it has expired and no job with its id is kept.
"""

from __future__ import annotations

from datetime import timedelta

from jobs.conf import JobsSettings
from outbox.session import Query, Session

BATCH = 1000

FINISHED = """DELETE FROM jobs_finishedjob WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM jobs_finishedjob WHERE {} AND ended_at < statement_timestamp() - %s
  ORDER BY ended_at LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING id"""

TRACES = tuple(
    f"DELETE FROM {table} WHERE job = ANY(%s::uuid[])"
    for table in ("jobs_attempt", "jobs_log", "jobs_progress", "jobs_note")
)

KEYS = """DELETE FROM jobs_key WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM jobs_key AS key WHERE expires_at < statement_timestamp()
    AND NOT EXISTS (SELECT 1 FROM jobs_job WHERE id = key.id)
    AND NOT EXISTS (SELECT 1 FROM jobs_finishedjob WHERE id = key.id)
  ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING 1"""

STATS = """DELETE FROM jobs_stat WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM jobs_stat WHERE at < statement_timestamp() - %s ORDER BY at LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING 1"""

# Before the keys: an event must not outlive the keys that say who has been given it.
EVENTS = """DELETE FROM jobs_event WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM jobs_event WHERE published_at < statement_timestamp() - %s
  ORDER BY published_at, id LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING 1"""

WELL, BADLY = "state = 'succeeded'", "state <> 'succeeded'"


def prune(session: Session, settings: JobsSettings) -> int:
    """Delete up to a thousand rows of each kind; answers how many went. Call again while it is not 0."""
    deleted = _finished(session, WELL, settings.KEEP_SUCCEEDED) + _finished(session, BADLY, settings.KEEP_DEAD)
    if settings.KEEP_EVENTS is not None:
        deleted += len(session.run(Query(EVENTS, (settings.KEEP_EVENTS, BATCH)), durable=False))
    deleted += len(session.run(Query(KEYS, (BATCH,)), durable=False))
    if settings.KEEP_STATS is not None:
        deleted += len(session.run(Query(STATS, (settings.KEEP_STATS, BATCH)), durable=False))
    return deleted


def _finished(session: Session, which: str, keep: timedelta | None) -> int:
    if keep is None:
        return 0
    with session.transaction(durable=False) as connection:
        ids = [row[0] for row in connection.execute(FINISHED.format(which), (keep, BATCH)).fetchall()]
        for trace in TRACES if ids else ():
            connection.execute(trace, (ids,))
    return len(ids)
