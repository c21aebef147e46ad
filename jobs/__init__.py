"""The upper house: jobs stand on the outbox, wait in the queue, are executed by workers, and end in the history.

The files lie along one corridor, in the order a job walks it:

    declare    @task, the registry
    tasks      `enqueue` writes an envelope to the outbox in the caller's transaction
    intake     the gate: the relay hands committed messages over, and they become ready or scheduled jobs
    claim      a slot takes ready jobs; the claim is committed before anything runs
    execute    calls the function; touches no database of ours
    outcome    pure: what follows from what happened (succeeded, retrying, dead, handed back)
    finish     writes the outcome, fenced: a worker that lost its lease changes nothing
    promote    turns over what is due: scheduled and retrying jobs become ready
    rescue     takes back the jobs of a worker that is gone
    operate    what a person may do to jobs, queues and workers; `dashboard` only looks

`from jobs import task` is all an application needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.context import JobContext as JobContext
    from jobs.declare import task as task
    from jobs.errors import GiveUp as GiveUp
    from jobs.errors import InvalidResult as InvalidResult
    from jobs.errors import RetryAfter as RetryAfter
    from jobs.errors import TimedOut as TimedOut
    from jobs.find import aget as aget
    from jobs.find import get as get
    from jobs.handle import JobHandle as JobHandle
    from jobs.tasks import Task as Task

__all__ = [
    "GiveUp",
    "InvalidResult",
    "JobContext",
    "JobHandle",
    "RetryAfter",
    "Task",
    "TimedOut",
    "aget",
    "get",
    "task",
]

_HOMES = {
    "GiveUp": "jobs.errors",
    "InvalidResult": "jobs.errors",
    "JobContext": "jobs.context",
    "JobHandle": "jobs.handle",
    "RetryAfter": "jobs.errors",
    "Task": "jobs.tasks",
    "TimedOut": "jobs.errors",
    "aget": "jobs.find",
    "get": "jobs.find",
    "task": "jobs.declare",
}


def __getattr__(name: str) -> Any:
    # Django imports this package before any model may be; what the names stand on needs models.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
