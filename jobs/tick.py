"""Ticks: what a schedule is due for becomes jobs, once, whoever looks and however many do.

It takes schedules whose time has come by the database's clock; it leaves their next tick and the jobs of this one. Both
are one statement, guarded by the tick that was seen: of many schedulers one moves it on, and the others write nothing.
There is no leader and no lock that outlives the statement, so a crash at any point leaves the tick undecided for the
next one who looks, or decided with its jobs.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime
from typing import Any
from uuid import UUID

from jobs.conf import JobsSettings
from jobs.decide import Decision, Waiting, decide, with_tick
from jobs.declare import registry
from jobs.enrol import enrol
from jobs.envelope import dumps, loads, unpack_body
from jobs.intake import CHANNEL, accept_if
from jobs.recur import Rhythm
from jobs.tasks import Task
from jobs.timetable import Schedule
from outbox import faults
from outbox.relay import Written
from outbox.session import Query, Session
from outbox.text import clean, describe
from outbox.write import Draft

logger = logging.getLogger("jobs")

LOOK_EVERY = 10.0
"""Seconds between two looks when nothing is due sooner: how long what a person has changed may go unnoticed."""

ENROL_EVERY = 60.0

ASIDE_FOR = 60.0
"""Seconds a schedule that could not be run is left to others."""

BATCH = 100

LIVE = """paused_at IS NULL AND orphaned_at IS NULL AND next_at IS NOT NULL
  AND task = ANY(%s::text[]) AND NOT id = ANY(%s::uuid[])"""

NEXT = f"""SELECT extract(epoch FROM min(greatest(next_at, hold_until)) - clock_timestamp())::float8
FROM jobs_schedule WHERE {LIVE}"""

LOOK = f"""SELECT id, name, task, cron, every, timezone, arguments, options, tick_as, missed, missed_limit, overlap,
  next_at, last_job, trouble, clock_timestamp(),
  EXISTS (SELECT 1 FROM jobs_job WHERE jobs_job.id = jobs_schedule.last_job)
FROM jobs_schedule WHERE {LIVE} AND greatest(next_at, hold_until) <= clock_timestamp()
ORDER BY next_at LIMIT {BATCH}"""

# Whoever changes next_at has decided the tick. last_job is in the guard so that a decision about an overlap is never
# taken from a job that was not the last one.
MOVE_ON = """UPDATE jobs_schedule SET next_at = %s, hold_until = NULL, trouble = '', made = made + %s,
  missed_ticks = missed_ticks + %s, skipped_ticks = skipped_ticks + %s,
  last_at = coalesce(%s, last_at), last_job = coalesce(%s, last_job),
  passed_at = CASE WHEN %s THEN clock_timestamp() ELSE passed_at END
WHERE id = %s AND next_at = %s AND last_job IS NOT DISTINCT FROM %s
  AND paused_at IS NULL AND orphaned_at IS NULL RETURNING id"""

HOLD = "UPDATE jobs_schedule SET hold_until = clock_timestamp() + %s WHERE id = %s AND next_at = %s"

SAY_TROUBLE = "UPDATE jobs_schedule SET trouble = %s WHERE id = %s AND trouble <> %s"


class Ticker:
    """One step decides every tick that is due; it belongs to the child that moves rows along."""

    def __init__(self, session: Session, settings: JobsSettings) -> None:
        self._session = session
        self._grace = settings.TICK_GRACE
        self._enrol_at = 0.0
        self._aside: dict[UUID, float] = {}

    def step(self) -> tuple[int, float]:
        """How many jobs were made, and the seconds until the next look (0: there is more)."""
        now = time.monotonic()
        if now >= self._enrol_at:
            enrol(self._session)
            self._enrol_at = now + ENROL_EVERY
        self._aside = {one: until for one, until in self._aside.items() if until > now}
        these = (list(registry), list(self._aside))
        ((seconds,),) = self._session.glance(Query(NEXT, these))
        if seconds is None or seconds > 0:
            return 0, min(LOOK_EVERY, self._enrol_at - now, LOOK_EVERY if seconds is None else seconds)
        made = sum(self._decide(Waiting._make(row)) for row in self._session.glance(Query(LOOK, these)))
        if made:
            self._session.glance(Query(f"NOTIFY {CHANNEL}"))
        return made, 0.0

    def _decide(self, row: Waiting) -> int:
        try:
            decision = decide(row, self._grace)
            query = move_on(row, decision) if decision.hold is None else None
        except Exception as error:  # whatever it is, it is this schedule's own
            self._set_aside(row, describe(error))
            return 0
        if query is None:
            self._session.run(Query(HOLD, (decision.hold, row.id, row.next_at)), durable=False)
            return 0
        try:
            written = self._session.run(query)
        except faults.REFUSED as error:  # the database does not take the job
            self._set_aside(row, describe(error))
            return 0
        if not written:
            return 0  # another scheduler has decided it
        if decision.missed or decision.skipped:
            logger.warning(
                "schedule %s: %d missed and %d skipped, %d made", row.name, decision.missed, decision.skipped,
                len(decision.ticks),
            )  # fmt: skip
        return len(decision.ticks)

    def _set_aside(self, row: Waiting, why: str) -> None:
        """Left alone for a while, so that one that cannot be run does not hold up the others."""
        self._aside[row.id] = time.monotonic() + ASIDE_FOR
        logger.error("schedule %s cannot be run: %s", row.name, why)
        self._session.run(Query(SAY_TROUBLE, (clean(why, 500), row.id, clean(why, 500))), durable=False)


def move_on(row: Waiting, decision: Decision) -> Query:
    """The statement that decides the ticks: the schedule's next one and the jobs of these, or nothing."""
    messages = [message(row, at) for at in decision.ticks]
    guard = Query(
        MOVE_ON,
        (
            decision.next_at, len(messages), decision.missed, decision.skipped,
            decision.ticks[-1] if messages else None, messages[-1].uid if messages else None,
            bool(decision.missed or decision.skipped), row.id, row.next_at, row.last_job,
        ),
    )  # fmt: skip
    return accept_if(guard, messages) if messages else guard


def message(row: Waiting, at: datetime) -> Written:
    """The job of a tick, as if it had been enqueued. Raises ValueError where the task would not take it."""
    draft = draft_of(row, at)
    local = at.astimezone(rhythm_of(row).zone)
    told = clean(f"schedule {row.name}, due {local:%Y-%m-%d %H:%M:%S} {row.timezone}", 300)
    headers = loads(draft.headers) | {"parent": str(row.id), "origin": told}
    return Written(0, draft.uid, dumps(headers), draft.body, row.now)


def draft_of(row: Waiting | Schedule, at: datetime) -> Draft:
    """What the task's `enqueue` would write for the tick at that time; raises ValueError where it would not."""
    args, kwargs = unpack_body(row.arguments)
    return task_of(row.task, row.options).draft(args, with_tick(kwargs, row.tick_as, at))


def rhythm_of(row: Waiting | Schedule) -> Rhythm:
    """Raises InvalidSchedule where the row says what cannot be."""
    return Rhythm(row.cron, row.every, row.timezone)


def task_of(name: str, options: str) -> Task[Any, Any]:
    """The registered task with the schedule's options. Raises ValueError (InvalidOption) for what it cannot take."""
    given = loads(options)
    if name not in registry:
        raise ValueError(f"this code has no task {name}")
    if not isinstance(given, dict):
        raise ValueError("the options are not an object")
    try:
        return registry[name].using(**given)
    except TypeError as error:
        raise ValueError(f"the options are not right: {error}") from None
