"""What a person may do to schedules: create, edit, pause, resume, run now, delete.

Each verb is one guarded statement over Django's own connection, in the caller's transaction. Only `next_at` decides
what is due, so whoever changes a rhythm or ends a pause writes the next tick anew: what passed meanwhile is not made up
for.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction

from jobs.conf import jobs_settings
from jobs.envelope import dumps, loads
from jobs.ids import new_id
from jobs.intake import CHANNEL, accept_if
from jobs.models import Schedule
from jobs.plan import Plan
from jobs.tick import draft_of, rhythm_of
from outbox.ask import ask, writing
from outbox.relay import Written
from outbox.session import Query
from outbox.text import clean

PAUSE = """UPDATE jobs_schedule SET paused_at = clock_timestamp(), paused_by = %s, pause_reason = %s
WHERE id = %s AND paused_at IS NULL RETURNING id"""

RESUME = """UPDATE jobs_schedule SET paused_at = NULL, paused_by = '', pause_reason = '', next_at = %s,
  hold_until = NULL, trouble = '' WHERE id = %s AND paused_at = %s RETURNING id"""

RUN_NOW = "UPDATE jobs_schedule SET last_job = %s, made = made + 1 WHERE id = %s RETURNING id"

NOTE = """INSERT INTO jobs_note (job, at, by, deed, reason) VALUES (%s, clock_timestamp(), %s, 'run by hand', '')"""

# What the code has is deleted in the code: it would be written down again within a minute.
DELETE = """DELETE FROM jobs_schedule WHERE id = %s AND (NOT declared OR orphaned_at IS NOT NULL) RETURNING id"""


def create(plan: Plan) -> UUID:
    """Write down a schedule that a person has made; raises IntegrityError where the name is taken."""
    number = new_id()
    Schedule.objects.using(_alias()).create(
        id=number, name=plan.name, next_at=plan.rhythm.after(_now()), digest=plan.digest, **_columns(plan)
    )
    return number


def change(schedule: UUID, plan: Plan, *, seen: str) -> bool:
    """Put other words into a schedule made by a person; False where it is no longer what was seen (its digest)."""
    mine = Schedule.objects.using(_alias()).filter(pk=schedule, declared=False, digest=seen)
    with writing(_alias()):
        row = mine.select_for_update().first()
        if row is None:
            return False
        columns: dict[str, Any] = {"name": plan.name, "digest": plan.digest, "trouble": "", **_columns(plan)}
        if rhythm_of(row) != plan.rhythm:
            columns |= {"next_at": plan.rhythm.after(_now(), row.last_at), "hold_until": None}
        return bool(mine.update(**columns))


def pause(schedule: UUID, *, by: str = "", reason: str = "") -> bool:
    """Have no more ticks become jobs; False where it was paused already, or is gone."""
    return bool(_run(PAUSE, (by[:150], clean(" ".join(reason.split()), 200), schedule)))


def resume(schedule: UUID) -> bool:
    """End a pause: it goes on with the next tick. Raises InvalidSchedule where its rhythm cannot be read."""
    row = Schedule.objects.using(_alias()).filter(pk=schedule).first()
    if row is None or row.paused_at is None:
        return False
    return bool(_run(RESUME, (rhythm_of(row).after(_now(), row.last_at), schedule, row.paused_at)))


def run_now(schedule: UUID, *, by: str = "") -> UUID | None:
    """Make a job of it here and now, beside its ticks; its id, or None where the schedule is gone.

    Raises ValueError, saying why, where this code could not run it.
    """
    row = Schedule.objects.using(_alias()).filter(pk=schedule).first()
    if row is None:
        return None
    now = _now()
    draft = draft_of(row, now)
    told = clean(f"schedule {row.name}, run by hand{f' by {by}' if by else ''}", 300)
    headers = loads(draft.headers) | {"parent": str(row.pk), "origin": told, "depth": 0}
    message = Written(0, draft.uid, dumps(headers), draft.body, now)
    with writing(_alias()):
        query = accept_if(Query(RUN_NOW, (draft.uid, row.pk)), [message])
        if not _run(query.sql, query.params):
            return None
        _run(NOTE, (draft.uid, by[:150]))
        transaction.on_commit(partial(_run, f"NOTIFY {CHANNEL}", ()), using=_alias(), robust=True)
    return draft.uid


def delete(schedule: UUID) -> bool:
    """Forget a schedule made by a person, or an orphan; its jobs stay."""
    return bool(_run(DELETE, (schedule,)))


def _columns(plan: Plan) -> dict[str, Any]:
    return {
        "task": plan.task.name,
        "cron": plan.rhythm.cron,
        "every": plan.rhythm.every,
        "timezone": plan.rhythm.timezone,
        "arguments": plan.arguments,
        "options": dumps(dict(plan.options)),
        "tick_as": plan.tick_as,
        "missed": plan.missed,
        "missed_limit": plan.missed_limit,
        "overlap": plan.overlap,
    }


def _alias() -> str:
    return jobs_settings().DATABASE


def _now() -> datetime:
    at: datetime = _run("SELECT clock_timestamp()", ())[0][0]
    return at


def _run(sql: str, params: Any) -> list[tuple[Any, ...]]:
    return ask(_alias(), sql, params)
