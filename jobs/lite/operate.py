"""What a person may do, on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs import forget, operate
from jobs.lite.finish import call
from outbox.lite.book import Do, Row, nothing, verb

ENDED_BADLY = "WHERE id = ANY(%s::uuid[]) AND state IN ('dead', 'cancelled')"

COLUMNS = [name.strip() for name in operate.KEPT.split(",")]
PLACES = ", ".join(["%s"] * len(COLUMNS))

TAKE_BACK = f"DELETE FROM jobs_finishedjob {ENDED_BADLY} RETURNING {operate.KEPT}, arguments, error"

PUT_BACK = f"""INSERT INTO jobs_job ({operate.KEPT}, arguments, error, state, attempts, crashes, ready_at)
VALUES ({PLACES}, %s, %s, 'ready', 0, 0, clock_timestamp())"""

NOTE = "INSERT INTO jobs_note (job, at, by, deed, reason) VALUES (%s, clock_timestamp(), %s, %s, %s)"

TRACES = ("jobs_attempt", "jobs_log", "jobs_progress", "jobs_note")


@verb(operate.REQUEUE)
def requeue(do: Do, params: Sequence[Any]) -> list[Row]:
    ids, by, reason = params
    back = do(TAKE_BACK, (ids,))
    for row in back:
        do("DELETE FROM jobs_cancellation WHERE job = %s", row[:1])
        do(NOTE, (row[0], by, "requeued", reason))
        do(PUT_BACK, row)
    return [row[:1] for row in back]


@verb(operate.RUN_NOW)
def run_now(do: Do, params: Sequence[Any]) -> list[Row]:
    ids, by, reason = params
    now = do(
        """UPDATE jobs_job SET state = 'ready', ready_at = clock_timestamp()
        WHERE id = ANY(%s::uuid[]) AND state IN ('scheduled', 'retrying') RETURNING id""",
        (ids,),
    )
    for row in now:
        do(NOTE, (row[0], by, "run now", reason))
    return now


CALL_OFF = f"""DELETE FROM jobs_job WHERE id = ANY(%s::uuid[]) AND {operate.WAITING}
RETURNING {operate.KEPT}, arguments, attempts, crashes, ready_at"""

KEEP = f"""INSERT INTO jobs_finishedjob ({operate.KEPT}, arguments, attempts, crashes, ready_at, state, error, worker,
  ended_at) VALUES ({PLACES}, %s, %s, %s, %s, 'cancelled', %s, NULL, clock_timestamp())"""


@verb(operate.CANCEL)
def cancel(do: Do, params: Sequence[Any]) -> list[Row]:
    ids, said = params
    done = []
    for row in do(CALL_OFF, (ids,)):
        job = dict(zip([*COLUMNS, "arguments", "attempts"], row, strict=False))
        do(KEEP, (*row, said))
        call(do, job, "cancelled", None, said)
        done.append((job["id"], job["task"], job["queue"], job["attempts"]))
    return done


@verb(operate.DISCARD)
def discard(do: Do, params: Sequence[Any]) -> list[Row]:
    gone = do(f"DELETE FROM jobs_finishedjob {ENDED_BADLY} RETURNING id", params)
    _without_traces(do, gone)
    return gone


@verb(forget.FORGET_PLAIN)
def forget_plain(do: Do, params: Sequence[Any]) -> list[Row]:
    gone = do(
        """DELETE FROM jobs_key AS held WHERE id = ANY(%s::uuid[]) AND generation = 0
          AND NOT EXISTS (SELECT 1 FROM jobs_job AS job WHERE job.id = held.id) RETURNING id""",
        params,
    )
    for row in gone:
        do("DELETE FROM jobs_finishedjob WHERE id = %s", row)
    _without_traces(do, gone)
    return gone


nothing(forget.KEEP_RELAYS_OUT)  # nobody else writes meanwhile


def _without_traces(do: Do, gone: list[Row]) -> None:
    for table in TRACES if gone else ():
        do(f"DELETE FROM {table} WHERE job = ANY(%s::uuid[])", ([row[0] for row in gone],))
