"""Publish: an event and the jobs of its consumers, written together in the business transaction.

It takes what has happened; it leaves one row in the log of events and one message for each consumer, which commit with
the business data or vanish with it. A crash here is the caller's rollback: it never happened.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import transaction

from jobs import trace
from jobs.consume import EventType, Payload, consumers_of, event_type
from jobs.context import current
from jobs.delivery import Delivery
from jobs.handle import JobHandle
from jobs.ids import new_id
from jobs.origin import origin
from jobs.tasks import Task
from outbox.ask import ask
from outbox.write import Draft, alias_for, missing_table, require_transaction, write, write_many

INSERT = "INSERT INTO jobs_event (id, type, payload, origin, parent) VALUES (%s, %s, %s, %s, %s)"


class Published(NamedTuple):
    """An event, and the jobs it will be once the transaction has committed."""

    id: UUID
    type: str
    jobs: list[JobHandle[Any]]
    """One for each consumer, in the order of their declaration."""


def publish(type: str | EventType, payload: Any = None, *, database: str | None = None) -> Published:  # noqa: A002
    """Write an event to the log and one job for each of its consumers, in the caller's transaction.

    `payload` is a dict (or a dataclass) that JSON keeps as it is and that fits the schema of the type; none is an
    empty one. `database` is a Django alias, as in `using`. Raises UnknownEvent, InvalidEvent (naming the key),
    PayloadTooLarge, TooDeep, or an OutboxError; then nothing is written.
    """
    kind = event_type(type)
    if trace.spans is None:
        return _publish(kind, payload, database)
    with trace.spans.sending("publish", kind.name, kind.name, len(consumers_of(kind.name))):
        return _publish(kind, payload, database)


def _publish(kind: EventType, payload: Any, database: str | None) -> Published:
    content, text = kind.packed({} if payload is None else payload)
    uid = new_id()
    made = drafts(Delivery(uid, kind.name), content, consumers_of(kind.name).values())
    parent = current.get()
    alias = alias_for(database)
    require_transaction(alias)
    with transaction.atomic(using=alias, savepoint=False):
        with missing_table(alias, "jobs"):
            ask(alias, INSERT, (uid, kind.name, text, origin(), parent.job_id if parent is not None else None))
        if len(made) == 1:
            write(made[0][1], database=alias)
        elif made:
            write_many([draft for _, draft in made], database=alias)
    return Published(uid, kind.name, [JobHandle(draft.uid, task, alias) for task, draft in made])


async def apublish(type: str | EventType, payload: Any = None, *, database: str | None = None) -> Published:  # noqa: A002
    """`publish` for async code. It runs where Django's async ORM runs, so it shares that thread's transaction."""
    return await sync_to_async(publish)(type, payload, database=database)


def drafts(delivery: Delivery, payload: Payload, tasks: Iterable[Task[..., Any]]) -> list[tuple[Task[..., Any], Draft]]:
    """The messages of an event for these consumers, under the key that makes each of them happen once."""
    return [(task, task.draft((payload,), {}, delivery.key)) for task in tasks]
