"""Retention: what has been kept long enough goes, in small bounded steps, while everything else runs.

It takes old rows of the history; it leaves nothing of them. An idempotency key outlives its job: it goes only when
it has expired and no job with its id is kept. The source of a background block outlives the jobs that name it.
"""

from __future__ import annotations

from datetime import timedelta

from jobs.conf import JobsSettings
from jobs.recipe import RENDER
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

# Only what has not ended is looked at: the history may be large, and its rows have ended, so they name a block for no
# longer than they are kept.
LIVE_BLOCKS = f"""SELECT substring(arguments FROM '"digest":"([0-9a-f]{{64}})"') FROM jobs_job WHERE task = '{RENDER}'
UNION SELECT substring(body FROM '"digest":"([0-9a-f]{{64}})"') FROM outbox_message WHERE headers LIKE '%%{RENDER}%%'
UNION SELECT substring(body FROM '"digest":"([0-9a-f]{{64}})"') FROM outbox_setasidemessage
  WHERE headers LIKE '%%{RENDER}%%'"""

UNSEEN_BLOCKS = "SELECT 1 FROM jobs_block WHERE looked_at < statement_timestamp() - %s LIMIT 1"

LOOK_AT_BLOCKS = f"""WITH live(digest) AS MATERIALIZED ({LIVE_BLOCKS}), old AS MATERIALIZED (
  SELECT id FROM jobs_block WHERE looked_at < statement_timestamp() - %s ORDER BY id FOR UPDATE SKIP LOCKED)
UPDATE jobs_block AS block SET looked_at = statement_timestamp(), used_at = CASE
    WHEN EXISTS (SELECT 1 FROM live WHERE live.digest = block.digest) THEN statement_timestamp() ELSE used_at END
FROM old WHERE block.id = old.id"""

# Of two rows of one block the later one is enough once nobody can have relied on the earlier alone.
BLOCKS = """DELETE FROM jobs_block WHERE id = ANY(ARRAY(SELECT id FROM jobs_block AS block
  WHERE used_at < statement_timestamp() - %s::interval
    OR written_at < statement_timestamp() - %s AND EXISTS (SELECT 1 FROM jobs_block AS later
      WHERE later.digest = block.digest AND later.signature = block.signature AND later.id > block.id)
  ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING 1"""

LOOK_EVERY = timedelta(hours=6)
RELIED_ON = timedelta(days=2)
"""A request relies on a block that was used within a day (jobs.background.TRUSTED_FOR), and then has to commit."""

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
    return deleted + _blocks(session, settings)


def _finished(session: Session, which: str, keep: timedelta | None) -> int:
    if keep is None:
        return 0
    with session.transaction(durable=False) as connection:
        ids = [row[0] for row in connection.execute(FINISHED.format(which), (keep, BATCH)).fetchall()]
        for trace in TRACES if ids else ():
            connection.execute(trace, (ids,))
    return len(ids)


def _blocks(session: Session, settings: JobsSettings) -> int:
    if session.glance(Query(UNSEEN_BLOCKS, (LOOK_EVERY,))):
        session.run(Query(LOOK_AT_BLOCKS, (LOOK_EVERY,)), durable=False)
    kept = (settings.KEEP_SUCCEEDED, settings.KEEP_DEAD)
    longest = None if None in kept else max(keep for keep in kept if keep is not None) + RELIED_ON
    return len(session.run(Query(BLOCKS, (longest, RELIED_ON, BATCH)), durable=False))
