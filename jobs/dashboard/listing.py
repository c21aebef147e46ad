"""Lists of jobs by state: filtered, by keys instead of offsets, and with a limit to what one page reads.

A filter that matches one row in a million would read the whole history to fill a page. So a page looks through a
bounded number of rows in the list's order, shows what it has found, and offers to go on from where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import router

from jobs.dashboard.counts import MOST, Count, bounded
from jobs.dashboard.filters import Filter
from jobs.dashboard.look import Found, one, rows
from jobs.models import State
from outbox.models import SetAsideMessage

PAGE = 50

LOOKED_THROUGH = 50_000
"""Rows of the history that one page reads, matching or not."""

COLUMNS = """id, task, source_name, queue, priority, state, attempts, max_attempts, crashes, enqueued_at, run_after,
  ready_at, error, worker"""
HOT = f"{COLUMNS}, claimed_at, NULL::timestamptz AS ended_at, NULL::float8 AS took"
ENDED = f"""{COLUMNS}, NULL::timestamptz AS claimed_at, ended_at,
  extract(epoch FROM ended_at - started_at)::float8 AS took"""

READY = f"""SELECT job.* FROM unnest(%s::text[]) AS wanted(queue) CROSS JOIN LATERAL (
  SELECT {HOT} FROM jobs_job WHERE state = 'ready' AND queue = wanted.queue{{after}}{{where}}
  ORDER BY priority DESC, ready_at, id LIMIT {PAGE + 1}) AS job
ORDER BY priority DESC, ready_at, id LIMIT {PAGE + 1}"""

LATER = f"""SELECT {HOT} FROM jobs_job WHERE state = %s{{after}}{{where}} ORDER BY run_after, id LIMIT {PAGE + 1}"""

RUNNING = f"""SELECT {HOT} FROM jobs_job WHERE state = 'running'{{after}}{{where}}
ORDER BY claimed_at, id LIMIT {PAGE + 1}"""

# `state <> 'succeeded'` names the half of the index that the dead and the cancelled are in.
HALF = {"succeeded": "state = 'succeeded'"}
BADLY = "state <> 'succeeded'"

HISTORY = f"""SELECT * FROM (
  SELECT {ENDED} FROM jobs_finishedjob WHERE {{half}}{{after}}
  ORDER BY ended_at DESC, id DESC LIMIT {LOOKED_THROUGH}) AS looked_through
WHERE state = %s{{where}} ORDER BY ended_at DESC, id DESC LIMIT {PAGE + 1}"""

LAST_LOOKED_AT = f"""SELECT id, ended_at FROM jobs_finishedjob WHERE {{half}}{{after}}
ORDER BY ended_at DESC, id DESC OFFSET {LOOKED_THROUGH - 1} LIMIT 1"""


@dataclass(frozen=True)
class Cursor:
    """The last row of the page before."""

    at: datetime
    id: UUID
    priority: int = 0

    def __str__(self) -> str:
        return f"{self.at.isoformat()}_{self.id}_{self.priority}"


def cursor(text: str) -> Cursor | None:
    """Where a page starts, as it stands in an address; None for anything else."""
    try:
        at, number, priority = text.split("_")
        read = Cursor(datetime.fromisoformat(at), UUID(number), int(priority))
    except (ValueError, OverflowError):
        return None
    return read if read.at.tzinfo is not None and -100 <= read.priority <= 100 else None


@dataclass(frozen=True)
class Page:
    """Some jobs, and where the next ones start."""

    jobs: list[Found]
    next: Cursor | None
    stopped_at: datetime | None = None
    """Not everything was looked through: it goes on from here."""


def page(wanted: Filter, after: Cursor | None, queues: list[str]) -> Page:
    """One page of a list; `queues` are those that have something ready."""
    if wanted.state == State.SET_ASIDE:
        return _set_aside(after)
    if wanted.is_live:
        return _page_of(_live(wanted, after, queues), wanted)
    return _history(wanted, after)


def _live(wanted: Filter, after: Cursor | None, queues: list[str]) -> list[Found]:
    where, params = wanted.conditions()
    if wanted.state == State.READY:
        names = [wanted.queue] if wanted.queue else queues
        behind = " AND (priority < %s OR priority = %s AND (ready_at, id) > (%s, %s))" if after else ""
        keys = [after.priority, after.priority, after.at, after.id] if after else []
        return rows(READY.format(after=behind, where=where), [names, *keys, *params])
    column = wanted.time_column
    behind = f" AND {column} >= %s AND ({column}, id) > (%s, %s)" if after else ""
    keys = [after.at, after.at, after.id] if after else []
    if wanted.state == State.RUNNING:
        return rows(RUNNING.format(after=behind, where=where), [*keys, *params])
    return rows(LATER.format(after=behind, where=where), [wanted.state, *keys, *params])


def _history(wanted: Filter, after: Cursor | None) -> Page:
    where, params = wanted.conditions()
    half = HALF.get(wanted.state, BADLY)
    behind = " AND ended_at <= %s AND (ended_at, id) < (%s, %s)" if after else ""
    keys = [after.at, after.at, after.id] if after else []
    found = _page_of(rows(HISTORY.format(half=half, after=behind, where=where), [*keys, wanted.state, *params]), wanted)
    if found.next is None and (last := one(LAST_LOOKED_AT.format(half=half, after=behind), keys)) is not None:
        return Page(found.jobs, Cursor(last.ended_at, last.id), last.ended_at)
    return found


def _page_of(found: list[Found], wanted: Filter) -> Page:
    shown = found[:PAGE]
    if len(found) <= PAGE:
        return Page(shown, None)
    last = shown[-1]
    return Page(shown, Cursor(last[wanted.time_column], last.id, last.priority))


def _set_aside(after: Cursor | None) -> Page:
    messages = SetAsideMessage.objects.using(router.db_for_write(SetAsideMessage)).order_by("-set_aside_at", "-id")
    if after is not None:
        messages = messages.filter(set_aside_at__lt=after.at)
    found = [
        Found(id=row.uid, number=row.pk, error=row.error, ended_at=row.set_aside_at, enqueued_at=row.written_at)
        for row in messages.only("uid", "error", "set_aside_at", "written_at")[: PAGE + 1]
    ]
    more = len(found) > PAGE
    return Page(found[:PAGE], Cursor(found[PAGE - 1].ended_at, found[PAGE - 1].id) if more else None)


# Everything that matches ----------------------------------------------------------------------------------------------


def _all(wanted: Filter, what: str) -> tuple[str, list[Any]]:
    where, params = wanted.conditions()
    if wanted.is_live:
        return f"SELECT {what} FROM jobs_job WHERE state = %s{where} LIMIT %s", [wanted.state, *params]
    half = HALF.get(wanted.state, BADLY)
    return f"SELECT {what} FROM jobs_finishedjob WHERE {half} AND state = %s{where} LIMIT %s", [wanted.state, *params]


def matching(wanted: Filter) -> Count:
    """How many jobs match, counted up to a limit; raises TooSlow."""
    sql, params = _all(wanted, "1")
    (found,) = rows(f"SELECT count(*) AS n FROM ({sql}) AS these", [*params, MOST])
    return bounded(found.n)


def batches(wanted: Filter, size: int) -> Iterator[list[UUID]]:
    """The ids of everything that matches, some at a time. What was dealt with must no longer match, or it ends."""
    last: list[UUID] = []
    sql, params = _all(wanted, "id")
    while (ids := [row.id for row in rows(sql, [*params, size])]) and ids != last:
        last = ids
        yield ids
