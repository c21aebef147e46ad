"""The row floor: rows in bulk, the verbs in one word each, and what must be true of the rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, settings

from jobs import claim as claims
from jobs.claim import Claimed, Lane
from jobs.conf import JobsSettings
from jobs.finish import finish, written
from jobs.ids import new_id
from jobs.outcome import Happened, Outcome, Trouble, decide
from jobs.tasks import Task
from outbox.session import Query, Session
from tests.support.examples import many

DEFAULTS = JobsSettings()

EVERYTHING: list[Lane] = [("default", 50, 100), ("default", -49, 49), ("default", -100, -50)]

TABLES = (
    "outbox_message",
    "outbox_setasidemessage",
    "jobs_job",
    "jobs_finishedjob",
    "jobs_attempt",
    "jobs_key",
    "jobs_worker",
    "jobs_log",
    "jobs_progress",
    "jobs_queue",
    "jobs_cancellation",
    "jobs_note",
    "jobs_schedule",
    "jobs_stat",
    "jobs_block",
    "jobs_event",
)

properties = settings(
    deadline=None,
    database=None,
    max_examples=many(100),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def wipe(session: Session) -> None:
    session.run_all([Query(f"DELETE FROM {table}") for table in TABLES], durable=False)


# Rows ---------------------------------------------------------------------------------------------------------------

FILL = """INSERT INTO jobs_job (id, task, queue, priority, state, source_name, arguments, max_attempts, attempts,
  crashes, lease, depth, idempotency_key, enqueued_at, run_after, ready_at, worker, claimer, claimed_at, error)
SELECT gen_random_uuid(), 'tests.tasks.noop', %s, %s, %s, '', '{"args":[],"kwargs":{}}', 3, 0, 0, %s, 0, '',
  clock_timestamp(), CASE WHEN %s IN ('scheduled', 'retrying') THEN clock_timestamp() + interval '1 hour' END,
  clock_timestamp(), %s, %s, CASE WHEN %s::bigint IS NOT NULL THEN clock_timestamp() END, ''
FROM generate_series(1, %s) RETURNING id"""


def fill(
    session: Session,
    n: int,
    state: str = "ready",
    *,
    queue: str = "default",
    priority: int = 0,
    worker: int = 1,
    claimer: int = 11,
) -> list[UUID]:
    """Many rows at once, each due in an hour where it is due later."""
    owner = (worker, claimer) if state == "running" else (None, None)
    lease = 1 if state in ("running", "retrying") else 0
    rows = session.run(Query(FILL, (queue, priority, state, lease, state, *owner, owner[0], n)), durable=False)
    return [row[0] for row in rows]


def column(session: Session, sql: str, *params: Any) -> list[Any]:
    """The first column of a query's rows."""
    return [row[0] for row in session.glance(Query(sql, params))]


def value(session: Session, sql: str, *params: Any) -> Any:
    return column(session, sql, *params)[0]


def everything(session: Session) -> dict[str, list[Any]]:
    """All rows of all tables, to say that nothing has changed."""
    if session.vendor == "sqlite":
        return {table: sorted(map(str, session.glance(Query(f"SELECT * FROM {table}")))) for table in TABLES}
    return {
        table: column(session, f"SELECT to_jsonb(t)::text FROM {table} AS t ORDER BY to_jsonb(t)::text")
        for table in TABLES
    }


# Verbs --------------------------------------------------------------------------------------------------------------


def claim(
    session: Session, limit: int = 500, *, worker: int = 1, claimer: int = 11, lanes: Sequence[Lane] = EVERYTHING
) -> list[Claimed]:
    # Nobody cuts the power here, so the tests need not wait for the disk.
    return claims.read(session.run(claims.claim(worker, claimer, lanes, limit), durable=False), lanes)


def conclude(session: Session, outcomes: Sequence[Outcome], worker: int = 1) -> set[UUID]:
    """Write outcomes; the ids that were written."""
    return written(session.run_all(finish(outcomes, worker), durable=False))


def outcome(job: Any, happened: Happened | str, settings: JobsSettings = DEFAULTS, **details: Any) -> Outcome:
    """What `decide` makes of it; a failure is retried in five seconds unless `retry_in` says otherwise."""
    happened = Happened(happened)
    if happened in (Happened.FAILED, Happened.TIMED_OUT):
        details.setdefault("retry_in", 5.0)
    if happened is Happened.SUCCEEDED:
        details.setdefault("result", "null")
    elif happened is not Happened.HANDED_BACK:
        details.setdefault("trouble", Trouble(f"it {happened}", "Traceback: ..."))
    return decide(job, happened, settings, **details)


def a_claimed(**fields: Any) -> Claimed:
    """A job in a slot's hands that stands in no table."""
    given: dict[str, Any] = {
        "id": new_id(),
        "task": "tests.tasks.noop",
        "queue": "default",
        "priority": 0,
        "arguments": '{"args":[],"kwargs":{}}',
        "lease": 1,
        "claimer": 11,
        "attempts": 0,
        "crashes": 0,
        "max_attempts": 1,
        "source_name": "",
        "idempotency_key": "",
        "depth": 0,
        "version": 1,
        "at_most_once": False,
        "ready_at": None,
    }
    args, kwargs = fields.pop("args", None), fields.pop("kwargs", None)
    if args is not None or kwargs is not None:
        given["arguments"] = json.dumps({"args": list(args or []), "kwargs": kwargs or {}})
    return Claimed(**{**given, **fields})


def a_task(func: Callable[..., Any], **options: Any) -> Task[Any, Any]:
    """A task that is in no registry."""
    return Task(func=func, name="tests.a_task", **options)


# What must be true --------------------------------------------------------------------------------------------------

HOMES = """SELECT id, count(*) AS n FROM (SELECT uid AS id FROM outbox_message
  UNION ALL SELECT uid FROM outbox_setasidemessage
  UNION ALL SELECT id FROM jobs_job UNION ALL SELECT id FROM jobs_finishedjob) AS homes GROUP BY id"""

BROKEN = f"""
SELECT 'two homes', id::text FROM ({HOMES}) AS h WHERE n > 1
UNION ALL SELECT 'running iff claimed', id::text FROM jobs_job
  WHERE (state = 'running') <> (worker IS NOT NULL) OR (state = 'running') <> (claimer IS NOT NULL)
UNION ALL SELECT 'attempts over the limit', id::text FROM
  (SELECT id, attempts, max_attempts FROM jobs_job UNION ALL SELECT id, attempts, max_attempts FROM jobs_finishedjob)
  AS j WHERE attempts > max_attempts
UNION ALL SELECT 'crashes over the limit', id::text FROM
  (SELECT id, crashes FROM jobs_job UNION ALL SELECT id, crashes FROM jobs_finishedjob) AS j WHERE crashes > 3
UNION ALL SELECT 'alive with all crashes', id::text FROM jobs_job WHERE crashes >= 3
UNION ALL SELECT 'an attempt of a lease that never was', job::text FROM jobs_attempt AS a
  LEFT JOIN (SELECT id, lease FROM jobs_job UNION ALL SELECT id, lease FROM jobs_finishedjob) AS j ON j.id = a.job
  WHERE j.id IS NULL OR a.lease > j.lease
UNION ALL SELECT 'more attempts kept than spent', id::text FROM
  (SELECT id, attempts, crashes FROM jobs_job UNION ALL SELECT id, attempts, crashes FROM jobs_finishedjob) AS j
  WHERE (SELECT count(*) FROM jobs_attempt WHERE job = j.id) > attempts + crashes
"""


def broken(session: Session) -> list[tuple[str, str]]:
    """What is not as it must be, and of which job: all in one statement, so at one moment."""
    return [(what, job) for what, job in session.glance(Query(BROKEN))]


def homes(session: Session) -> dict[UUID, int]:
    """In how many homes each id is."""
    return dict(session.glance(Query(HOMES)))
