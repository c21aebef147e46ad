"""Forget an idempotency key: the next enqueue with it makes a new job.

It takes keys that a person has chosen; it leaves the jobs of those that hold for a time as they are, only that the key
no longer leads to them. The id of a plain key's job is computed from the key alone, and a new job will have the same:
so the job must have ended, and goes with its key. Relays wait for that moment, or one that had looked at the history
just before would drop the new job; requests never do. A crash undoes it whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from jobs.conf import jobs_settings
from jobs.keys import HOLDS
from outbox.ask import ask, writing

END_WINDOW = f"""UPDATE jobs_key AS held SET expires_at = clock_timestamp(), until = ''
WHERE id = ANY(%s::uuid[]) AND generation > 0 AND {HOLDS} RETURNING id"""

# A relay takes its own lock on this table before its snapshot: what it sees afterwards is the history without the job.
KEEP_RELAYS_OUT = "SET LOCAL lock_timeout = '2s'; LOCK TABLE jobs_key IN SHARE ROW EXCLUSIVE MODE"

FORGET_PLAIN = """WITH gone AS (
  DELETE FROM jobs_key AS held WHERE id = ANY(%s::uuid[]) AND generation = 0
    AND NOT EXISTS (SELECT 1 FROM jobs_job AS job WHERE job.id = held.id) RETURNING id),
jobs AS (DELETE FROM jobs_finishedjob WHERE id IN (SELECT id FROM gone)),
attempts AS (DELETE FROM jobs_attempt WHERE job IN (SELECT id FROM gone)),
lines AS (DELETE FROM jobs_log WHERE job IN (SELECT id FROM gone)),
progress AS (DELETE FROM jobs_progress WHERE job IN (SELECT id FROM gone)),
notes AS (DELETE FROM jobs_note WHERE job IN (SELECT id FROM gone))
SELECT id FROM gone"""

LIVING = """SELECT id FROM jobs_key AS held WHERE id = ANY(%s::uuid[]) AND generation = 0
  AND EXISTS (SELECT 1 FROM jobs_job AS job WHERE job.id = held.id)"""


class Forgotten(NamedTuple):
    """What `forget_keys` did."""

    done: list[UUID]
    """Hold no more."""
    living: int
    """Plain keys whose job has not ended: left alone."""


def forget_keys(ids: Iterable[UUID]) -> Forgotten:
    """Have these keys hold no more; those that hold no more by themselves are in neither count."""
    alias, wanted = jobs_settings().DATABASE, list(ids)
    with writing(alias):
        done = [row[0] for row in ask(alias, END_WINDOW, (wanted,))]
        ask(alias, KEEP_RELAYS_OUT)
        done += [row[0] for row in ask(alias, FORGET_PLAIN, (wanted,))]
        return Forgotten(done, len(ask(alias, LIVING, (wanted,))))
