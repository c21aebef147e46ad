"""The upper house: jobs stand on the outbox, wait in the queue, are executed by workers, and end in the history.

The files lie along one corridor, in the order a job walks it:

    declare    @task, the registry
    tasks      `enqueue` writes an envelope to the outbox in the caller's transaction; `draft` packs it, `keys` says
               whose job it is, `callback` what is to follow its end
    consume    event types and their consumers; `emit` publishes an event and writes a job for each consumer
    intake     the gate: the relay hands committed messages over, and they become ready or scheduled jobs
    claim      a slot takes ready jobs; the claim is committed before anything runs
    execute    asks its `condition` and calls the function; touches no database of ours
    outcome    pure: what follows from what happened (succeeded, retrying, dead, handed back)
    finish     writes the outcome, fenced: a worker that lost its lease changes nothing
    promote    turns over what is due: scheduled and retrying jobs become ready
    rescue     takes back the jobs of a worker that is gone
    announce   sends the signals about what was written
    tick       what a schedule is due for becomes jobs, once: `plan` declares, `enrol` writes down, `recur` counts
    operate    what a person may do to jobs, queues and workers; `dashboard` only looks

`from jobs import task` is all an application needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.lazy import lazily

if TYPE_CHECKING:
    from jobs.callback import Callback as Callback
    from jobs.callback import Ended as Ended
    from jobs.consume import EventType as EventType
    from jobs.consume import consumer as consumer
    from jobs.consume import event as event
    from jobs.context import JobContext as JobContext
    from jobs.declare import task as task
    from jobs.emit import Published as Published
    from jobs.emit import apublish as apublish
    from jobs.emit import publish as publish
    from jobs.errors import GiveUp as GiveUp
    from jobs.errors import InvalidResult as InvalidResult
    from jobs.errors import RetryAfter as RetryAfter
    from jobs.errors import TimedOut as TimedOut
    from jobs.find import aget as aget
    from jobs.find import get as get
    from jobs.handle import JobHandle as JobHandle
    from jobs.plan import every as every
    from jobs.tasks import Task as Task

__all__ = [
    "Callback",
    "Ended",
    "EventType",
    "GiveUp",
    "InvalidResult",
    "JobContext",
    "JobHandle",
    "Published",
    "RetryAfter",
    "Task",
    "TimedOut",
    "aget",
    "apublish",
    "consumer",
    "event",
    "every",
    "get",
    "publish",
    "task",
]

_HOMES = {
    "Callback": "jobs.callback",
    "Ended": "jobs.callback",
    "EventType": "jobs.consume",
    "GiveUp": "jobs.errors",
    "InvalidResult": "jobs.errors",
    "JobContext": "jobs.context",
    "JobHandle": "jobs.handle",
    "Published": "jobs.emit",
    "RetryAfter": "jobs.errors",
    "Task": "jobs.tasks",
    "TimedOut": "jobs.errors",
    "aget": "jobs.find",
    "every": "jobs.plan",
    "apublish": "jobs.emit",
    "consumer": "jobs.consume",
    "event": "jobs.consume",
    "get": "jobs.find",
    "publish": "jobs.emit",
    "task": "jobs.declare",
}

__getattr__ = lazily(__name__, _HOMES)
