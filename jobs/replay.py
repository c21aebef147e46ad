"""Give events to their consumers again: to one that came later, or once more to one that has had them.

It takes what a person asks for; it leaves messages of new jobs, a batch of events in each transaction. What is given
the first time has the same key as a publish, and a repetition has a name: so a job that is there already is not made
again, whoever asks, how often, and two at once. A crash leaves whole batches: ask again, and it goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from jobs.consume import consumers, declared, nearest
from jobs.delivery import REPETITION, Delivery
from jobs.emit import drafts
from jobs.envelope import dumps, loads
from jobs.errors import InvalidOption, UnknownEvent
from jobs.tasks import Task
from outbox.ask import ask, writing
from outbox.text import clean
from outbox.write import Draft, write_many

BATCH = 100
"""Events in one transaction: a payload may be large."""

# The key of each delivery says whether it was made: keys outlive their jobs. What is written and not yet relayed is not
# seen here; the gate drops the second message of a key. LIMIT makes it one probe of the index for each pair: without
# it the planner may read every key there is.
HAD = """LEFT JOIN LATERAL (SELECT key.id FROM jobs_key AS key
  WHERE key.key LIKE 'event:%%' AND key.task = consumer.task
    AND key.key = 'event:' || event.id::text || ':' || event.type || %s
  LIMIT 1) AS had ON true"""

PAIRS = f"""SELECT event.id, event.type, event.payload, event.published_at,
  CASE WHEN had.id IS NULL THEN consumer.task END
FROM (SELECT id, type, payload, published_at FROM jobs_event WHERE {{where}}
  ORDER BY published_at, id LIMIT %s) AS event
LEFT JOIN unnest(%s::text[], %s::text[]) AS consumer(type, task) ON consumer.type = event.type
{HAD} ORDER BY event.published_at, event.id"""

COUNT = f"""WITH event AS MATERIALIZED (SELECT id, type FROM jobs_event WHERE {{where}} LIMIT %s)
SELECT (SELECT count(*) FROM event) AS events, count(*) AS jobs, count(*) FILTER (WHERE had.id IS NULL) AS missing
FROM event JOIN unnest(%s::text[], %s::text[]) AS consumer(type, task) ON consumer.type = event.type
{HAD}"""


# A batch walks the index in its order. Where the log was filled and never analysed the planner thinks it nearly empty,
# and sorts all that is left of it for each batch; so it may not. The caller's transaction gets back what it had.
WALK = """SELECT current_setting('enable_sort'), set_config('enable_sort', 'off', true),
  current_setting('enable_bitmapscan'), set_config('enable_bitmapscan', 'off', true)"""
AS_BEFORE = "SELECT set_config('enable_sort', %s, true), set_config('enable_bitmapscan', %s, true)"


class Cursor(NamedTuple):
    """The last event of a batch."""

    published_at: datetime
    id: UUID


class Step(NamedTuple):
    """What one batch came to."""

    events: int
    written: int
    cursor: Cursor
    """Go on behind this."""


class Counted(NamedTuple):
    """What a replay would come to."""

    events: int
    jobs: int
    """For these events and consumers, all in all."""
    missing: int
    """Those that are not there yet."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Which events, to whom, and whether once more. Raises UnknownEvent or InvalidOption for what makes no sense."""

    ids: Sequence[UUID] = ()
    """Only these; none is all that the rest allows."""
    type: str = ""
    since: datetime | None = None
    until: datetime | None = None
    """Not including it."""
    consumer: str = ""
    """Dotted name of the one that gets them; empty is all."""
    again: str = ""
    """Name of a repetition: whoever has had an event gets it once more, once for each name. Empty is the first time."""
    by: str = ""
    reason: str = ""
    tasks: dict[str, dict[str, Task[..., Any]]] = field(init=False, repr=False)
    """The consumers that get something, by event type."""

    def __post_init__(self) -> None:
        if self.type and self.type not in {*declared, *consumers}:
            raise UnknownEvent(f"There is no event type {self.type!r}{nearest(self.type, {*declared, *consumers})}")
        if self.again and not REPETITION.match(self.again):
            raise InvalidOption(
                f'the repetition {self.again!r}: name it with 1 to 40 letters, digits, "_", "-" and ".", such as'
                ' "fix-4711".'
            )
        for at in (self.since, self.until):
            if at is not None and at.utcoffset() is None:
                raise InvalidOption(f"{at!r} has no time zone: give an aware datetime.")
        names = {name for theirs in consumers.values() for name in theirs}
        if self.consumer and self.consumer not in names:
            raise UnknownEvent(f"There is no consumer {self.consumer!r}{nearest(self.consumer, names)}")
        chosen = {
            kind: {name: task for name, task in theirs.items() if self.consumer in ("", name)}
            for kind, theirs in consumers.items()
            if self.type in ("", kind)
        }
        object.__setattr__(self, "tasks", {kind: theirs for kind, theirs in chosen.items() if theirs})

    @property
    def suffix(self) -> str:
        return f"#{self.again}" if self.again else ""

    @property
    def origin(self) -> str:
        """What stands with each job as the place it came from."""
        what = f"repetition {self.again} of the event" if self.again else "given to it later"
        words = f"{what}{f', by {self.by}' if self.by else ''}{f': {self.reason}' if self.reason else ''}"
        return clean(" ".join(words.split()), 300)

    def conditions(self, after: Cursor | None = None) -> tuple[str, list[Any]]:
        """Which events, as SQL."""
        parts: list[str] = []
        params: list[Any] = []
        if self.ids:
            parts.append("id = ANY(%s)")
            params.append(list(self.ids))
        if self.type:
            parts.append("type = %s")
            params.append(self.type)
        elif self.consumer:
            parts.append("type = ANY(%s)")
            params.append(list(self.tasks))
        for sign, at in ((">=", self.since), ("<", self.until)):
            if at is not None:
                parts.append(f"published_at {sign} %s")
                params.append(at)
        if after is not None:
            parts.append("(published_at, id) > (%s, %s)")
            params += after
        return " AND ".join(parts) or "true", params

    def pairs(self) -> tuple[list[str], list[str]]:
        """Event types and consumers, as two columns."""
        pairs = [(kind, name) for kind, theirs in self.tasks.items() for name in theirs]
        return [kind for kind, _ in pairs], [name for _, name in pairs]

    def counting(self, most: int | None = None) -> tuple[str, list[Any]]:
        """The query whose one row is a Counted, for the first `most` events."""
        where, params = self.conditions()
        return COUNT.format(where=where), [*params, most, *self.pairs(), self.suffix]


def count(wanted: Replay, *, database: str) -> Counted:
    """What it would come to. Nothing is written."""
    ((events, jobs, missing),) = ask(database, *wanted.counting())
    return Counted(events, jobs, missing)


def step(wanted: Replay, after: Cursor | None, *, database: str, batch: int = BATCH) -> Step | None:
    """Write the jobs of the next batch of events, in one transaction; None where there are no more."""
    where, params = wanted.conditions(after)
    with writing(database):
        before = ask(database, WALK)
        rows = ask(database, PAIRS.format(where=where), [*params, batch, *wanted.pairs(), wanted.suffix])
        for sort, _, bitmap, _ in before:
            ask(database, AS_BEFORE, (sort, bitmap))
        if not rows:
            return None
        found = [draft for row in rows if row[4] is not None for draft in _drafts(wanted, *row)]
        if found:
            write_many(found, database=database)
    return Step(len({row[0] for row in rows}), len(found), Cursor(rows[-1][3], rows[-1][0]))


def steps(wanted: Replay, *, database: str, batch: int = BATCH) -> Iterator[Step]:
    """All of it, a batch at a time, each committed before it is told."""
    after: Cursor | None = None
    while (done := step(wanted, after, database=database, batch=batch)) is not None:
        yield done
        after = done.cursor


def _drafts(wanted: Replay, uid: UUID, kind: str, payload: str, published_at: datetime, name: str) -> Iterator[Draft]:
    task = wanted.tasks[kind][name]
    if task.delay:
        # The delay counts from the event, which is long past or nearly so.
        task = task.using(run_after=published_at + timedelta(seconds=task.delay))
    for _, draft in drafts(Delivery(uid, kind, wanted.again), loads(payload), [task]):
        headers = loads(draft.headers)
        headers.pop("parent", None)
        yield draft._replace(headers=dumps({**headers, "origin": wanted.origin}))
