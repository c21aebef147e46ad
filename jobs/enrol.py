"""Write the schedules of the code into the table, and notice those that no code has any more.

It takes what `@every` has declared in this process; it leaves a row for each. During a rolling deploy two versions of
the code look at the same rows, and neither may undo the other for ever: a version that is new to a row takes it over
at once, and the one it has replaced leaves it alone for as long as the new one is seen. Every step is one guarded
statement; a crash between two is made good by the next process that looks.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from jobs.envelope import dumps
from jobs.plan import Plan, declared
from outbox.session import Query, Session

logger = logging.getLogger("jobs")

SEEN_FOR = timedelta(seconds=50)
"""How old the last sign of a version may be before the next one is written."""

GONE_AFTER = timedelta(seconds=180)
"""Without a sign of any process that has it in its code, a schedule is an orphan and is not run."""

REMEMBERED = 8
"""Replaced versions that a row remembers."""

LOOK = """SELECT id, name, declared, digest, superseded, cron, every, timezone, last_at, next_at, orphaned_at,
  clock_timestamp() - declared_at, clock_timestamp()
FROM jobs_schedule WHERE declared OR name = ANY(%s::text[])"""

INSERT = """INSERT INTO jobs_schedule (id, name, task, cron, every, timezone, arguments, options, tick_as, missed,
  missed_limit, overlap, digest, next_at, declared, declared_at, created_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, true, clock_timestamp(), clock_timestamp())
ON CONFLICT DO NOTHING"""

# digest in the guard: of two versions that want the row one gets it, and the other looks again.
TAKE_OVER = """UPDATE jobs_schedule SET task = %s, cron = %s, every = %s, timezone = %s, arguments = %s, options = %s,
  tick_as = %s, missed = %s, missed_limit = %s, overlap = %s, digest = %s, next_at = %s, superseded = %s, trouble = '',
  hold_until = NULL, declared_at = clock_timestamp(), orphaned_at = NULL
WHERE id = %s AND declared AND digest = %s AND orphaned_at IS NOT DISTINCT FROM %s RETURNING id"""

SIGN = "UPDATE jobs_schedule SET declared_at = clock_timestamp() WHERE id = ANY(%s::uuid[]) AND orphaned_at IS NULL"

REVIVE = """UPDATE jobs_schedule SET declared_at = clock_timestamp(), orphaned_at = NULL, next_at = %s,
  hold_until = NULL WHERE id = %s AND digest = %s AND orphaned_at = %s"""

ORPHAN = """UPDATE jobs_schedule SET orphaned_at = clock_timestamp()
WHERE id = ANY(%s::uuid[]) AND declared AND orphaned_at IS NULL
  AND declared_at < clock_timestamp() - %s RETURNING name"""


class Row(NamedTuple):
    """A schedule as it stands in the table."""

    id: UUID
    name: str
    declared: bool
    digest: str
    superseded: str
    cron: str
    every: timedelta | None
    timezone: str
    last_at: datetime | None
    next_at: datetime | None
    orphaned_at: datetime | None
    unseen: timedelta | None
    now: datetime


def enrol(session: Session) -> None:
    """Bring table and code together, as far as this process may."""
    rows = {row.name: row for row in map(Row._make, session.glance(Query(LOOK, (list(declared),))))}
    queries = [query for plan in declared.values() if (query := _query(session, plan, rows.get(plan.name)))]
    mine = {plan.name: plan.digest for plan in declared.values()}
    seen = [
        row.id
        for row in rows.values()
        if row.declared and mine.get(row.name) == row.digest and row.orphaned_at is None and _older(row, SEEN_FOR)
    ]
    if seen:
        queries.append(Query(SIGN, (seen,)))
    lost = [row.id for row in rows.values() if row.declared and row.name not in mine and row.orphaned_at is None]
    if queries:
        session.run_all(queries, durable=False)
    gone = [row.id for row in rows.values() if row.id in lost and _older(row, GONE_AFTER)]
    if gone:
        for (name,) in session.run(Query(ORPHAN, (gone, GONE_AFTER)), durable=False):
            logger.warning("schedule %s is in no running code any more; it is not run", name)


def _query(session: Session, plan: Plan, row: Row | None) -> Query | None:
    """What this process has to do about one of its schedules."""
    rhythm, spec = plan.rhythm, _spec(plan)
    if row is None:
        ((now,),) = session.glance(Query("SELECT clock_timestamp()"))
        return Query(INSERT, (plan.id, plan.name, *spec, plan.digest, rhythm.after(now)))
    if not row.declared:
        logger.error(
            "schedule %s was made in admin and stands in the code as well: the one in the code is not run; rename one",
            plan.name,
        )
        return None
    if row.digest == plan.digest:
        if row.orphaned_at is None:
            return None
        return Query(REVIVE, (rhythm.after(row.now, row.last_at), row.id, row.digest, row.orphaned_at))
    replaced = row.superseded.split()
    if plan.digest in replaced and row.orphaned_at is None and not _older(row, GONE_AFTER):
        return None  # newer code has it, and is there
    same = (rhythm.cron, rhythm.every, rhythm.timezone) == (row.cron, row.every, row.timezone)
    next_at = row.next_at if same and row.orphaned_at is None else rhythm.after(row.now, row.last_at)
    remembered = [one for one in (*replaced, row.digest) if one != plan.digest][-REMEMBERED:]
    logger.info("schedule %s is taken over from another version of the code", plan.name)
    return Query(
        TAKE_OVER,
        (*spec, plan.digest, next_at, " ".join(remembered), row.id, row.digest, row.orphaned_at),
    )


def _spec(plan: Plan) -> tuple[object, ...]:
    rhythm = plan.rhythm
    return (
        plan.task.name, rhythm.cron, rhythm.every, rhythm.timezone, plan.arguments, dumps(dict(plan.options)),
        plan.tick_as, plan.missed, plan.missed_limit, plan.overlap,
    )  # fmt: skip


def _older(row: Row, age: timedelta) -> bool:
    return row.unseen is None or row.unseen > age
