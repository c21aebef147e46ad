"""The log of events for people: what has happened, and what came of it. Read only.

A list is read by keys along an index, in the order in which things happened; which jobs an event caused is found by
the start of their keys.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db import router
from django.utils import timezone

from jobs.conf import jobs_settings
from jobs.consume import consumers, consumers_of, declared
from jobs.dashboard.listing import PAGE, Cursor
from jobs.dashboard.look import Found, one, rows
from jobs.dashboard.story import Branch, branch
from jobs.delivery import Delivery, delivery_of
from jobs.events import Event
from jobs.ids import id_for_key
from jobs.models import State
from jobs.redact import redacted
from jobs.tasks import Task
from outbox.models import Message, SetAsideMessage
from outbox.text import clean

LIST = f"""SELECT id, type, published_at, origin FROM jobs_event WHERE {{where}}
ORDER BY published_at DESC, id DESC LIMIT {PAGE + 1}"""

# What became of the first delivery of each: repetitions stand on the event's own page.
OUTCOMES = """SELECT event.id AS event, coalesce(job.state, ended.state, 'gone') AS state, count(*) AS n
FROM unnest(%s::uuid[], %s::text[]) AS event(id, type)
JOIN jobs_key AS key ON key.key LIKE 'event:%%' AND key.key = 'event:' || event.id::text || ':' || event.type
LEFT JOIN jobs_job AS job ON job.id = key.id LEFT JOIN jobs_finishedjob AS ended ON ended.id = key.id
GROUP BY 1, 2 ORDER BY 1, 2"""

MOST_DELIVERIES = 300

DELIVERIES = f"""SELECT key.id, key.task, key.key, key.accepted_at, coalesce(job.state, ended.state, 'gone') AS state,
  coalesce(job.attempts, ended.attempts) AS attempts, coalesce(job.error, ended.error, '') AS error,
  coalesce(job.origin, ended.origin, '') AS origin, job.run_after, ended.ended_at
FROM jobs_key AS key
LEFT JOIN jobs_job AS job ON job.id = key.id LEFT JOIN jobs_finishedjob AS ended ON ended.id = key.id
WHERE key.key LIKE 'event:%%' AND key.key LIKE %s ORDER BY key.accepted_at, key.id LIMIT {MOST_DELIVERIES}"""

PARENT = """SELECT id, task, source_name, state FROM jobs_job WHERE id = %s
UNION ALL SELECT id, task, source_name, state FROM jobs_finishedjob WHERE id = %s LIMIT 1"""

HEX = "0123456789abcdef"


@dataclass(frozen=True)
class EventFilter:
    """A list of events, as an address asks for it."""

    type: str = ""
    since: str = ""
    until: str = ""
    """Local times of the site, as the browser's field writes them."""
    search: str = ""
    """The start of an id."""

    @property
    def narrows(self) -> bool:
        return self != EventFilter()

    def address(self, **changed: str) -> str:
        given = replace(self, **changed)
        return urlencode({name: getattr(given, name) for name in NAMES if getattr(given, name)})

    def conditions(self, after: Cursor | None) -> tuple[str, list[Any]]:
        parts: list[str] = []
        params: list[Any] = []
        if self.type:
            parts.append("type = %s")
            params.append(self.type)
        for sign, at in ((">=", moment(self.since)), ("<", moment(self.until))):
            if at is not None:
                parts.append(f"published_at {sign} %s")
                params.append(at)
        if self.search:
            parts.append("id BETWEEN %s AND %s")
            params += [UUID(self.search.ljust(32, digit)) for digit in "0f"]
        if after is not None:
            parts.append("(published_at, id) < (%s, %s)")
            params += [after.at, after.id]
        return " AND ".join(parts) or "true", params


NAMES = ("type", "since", "until", "search")


def read(given: Mapping[str, Any]) -> EventFilter:
    """The list that an address asks for; what makes no sense is left out."""
    text = {name: clean(str(given.get(name, "")).strip(), 100) for name in NAMES}
    digits = "".join(char for char in text["search"].lower() if char != "-")
    return EventFilter(
        text["type"],
        text["since"] if moment(text["since"]) is not None else "",
        text["until"] if moment(text["until"]) is not None else "",
        digits if len(digits) <= 32 and set(digits) <= set(HEX) else "",
    )


def moment(text: str) -> datetime | None:
    """A time of the site's own zone, as a field of a form has it."""
    try:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo is not None else timezone.make_aware(at)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class EventPage:
    """Some events with what became of them, and where the next ones start."""

    events: list[Found]
    next: Cursor | None


def page(wanted: EventFilter, after: Cursor | None) -> EventPage:
    where, params = wanted.conditions(after)
    found = rows(LIST.format(where=where), params)
    shown, more = found[:PAGE], len(found) > PAGE
    states: dict[UUID, list[Found]] = {}
    for row in rows(OUTCOMES, ([e.id for e in shown], [e.type for e in shown])) if shown else ():
        states.setdefault(row.event, []).append(row)
    for event in shown:
        event["states"] = states.get(event.id, [])
        event["consumers"] = len(consumers_of(event.type))
    return EventPage(shown, Cursor(shown[-1].published_at, shown[-1].id) if more else None)


@dataclass(frozen=True)
class Kind:
    """An event type that this code knows."""

    name: str
    is_declared: bool
    tasks: list[Task[Any, Any]]


def kinds() -> list[Kind]:
    """All of them with their consumers."""
    return [Kind(name, name in declared, list(consumers_of(name).values())) for name in sorted({*declared, *consumers})]


@dataclass(frozen=True)
class EventStory:
    """What the page of an event shows."""

    event: Event
    kind: Kind
    is_known: bool
    given: list[Found]
    """Each delivery with its job and what became of it."""
    ungiven: list[str]
    """Consumers that have not had it."""
    parent: Found | None

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(str(row.state) for row in self.given))


def story(event_id: UUID) -> EventStory | None:
    """The event of that id; None where the log has none."""
    event = Event.objects.using(jobs_settings().DATABASE).filter(pk=event_id).first()
    if event is None:
        return None
    tasks = consumers_of(event.type)
    given = rows(DELIVERIES, (f"event:{event_id}:%",))
    for row in given:
        made_for = delivery_of(row.key)
        row["again"] = made_for.again if made_for is not None else ""
    first = {row.task for row in given if not row.again}
    missing = {id_for_key(name, Delivery(event_id, event.type).key): name for name in tasks if name not in first}
    given += _on_the_way(missing)
    kind = Kind(event.type, event.type in declared, list(tasks.values()))
    parent = None
    if event.parent is not None:
        parent = one(PARENT, (event.parent, event.parent)) or Found(id=event.parent, state="gone")
    on_the_way = {row.task for row in given}
    ungiven = [name for name in missing.values() if name not in on_the_way]
    return EventStory(event, kind, bool(tasks) or event.type in declared, given, ungiven, parent)


def _on_the_way(missing: Mapping[UUID, str]) -> list[Found]:
    """Jobs that have not reached the queue."""
    alias = router.db_for_write(Message)
    found: dict[UUID, Found] = {}
    for model, state in ((Message, State.WRITTEN), (SetAsideMessage, State.SET_ASIDE)) if missing else ():
        for uid, at in model.objects.using(alias).filter(uid__in=list(missing)).values_list("uid", "written_at"):
            found[uid] = Found(
                id=uid, task=missing[uid], state=state.value, again="", accepted_at=at, error="", origin=""
            )
    return list(found.values())


def payload_tree(event: Event) -> list[Branch] | None:
    """The payload with its secrets hidden; None where the row holds none that can be read."""
    names = [*(declared[event.type].redact if event.type in declared else ())]
    names += [name for task in consumers_of(event.type).values() for name in task.redact]
    try:
        content = redacted(json.loads(event.payload), names)
        return [branch(str(key), value) for key, value in content.items()]
    except (ValueError, RecursionError, AttributeError):
        return None
