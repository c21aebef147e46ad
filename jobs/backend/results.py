"""A job, wherever it is, as Django's TaskResult: the read side of the backend.

    written, scheduled, ready, retrying   READY
    running                               RUNNING
    succeeded                             SUCCESSFUL
    dead, cancelled, set aside            FAILED

Every try that ended badly is one of `errors`, and every try of one of `worker_ids`, so `attempts` counts them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from jobs.backend.api import base, exceptions
from jobs.backend.declared import seen
from jobs.context import JobContext
from jobs.declare import registry
from jobs.errors import ResultMissing
from jobs.handle import JobHandle
from jobs.models import State
from jobs.outcome import Outcome

STATUS = {
    State.WRITTEN: "READY",
    State.SCHEDULED: "READY",
    State.READY: "READY",
    State.RETRYING: "READY",
    State.RUNNING: "RUNNING",
    State.SUCCEEDED: "SUCCESSFUL",
    State.DEAD: "FAILED",
    State.CANCELLED: "FAILED",
    State.SET_ASIDE: "FAILED",
}

EXCEPTIONS = {
    "timed_out": "jobs.errors.TimedOut",
    "crashed": "jobs.errors.WorkerLost",
    "lost": "jobs.errors.WorkerLost",
    "cancelled": "jobs.errors.JobCancelled",
    "set_aside": "outbox.errors.Undeliverable",
}
"""What stands for a try that did not end by an exception of its own."""


class JobsTaskResult(base.TaskResult):  # type: ignore[misc]  # a class of the installed Django
    """Django's TaskResult of a job; `job` is its handle, with `wait`, `progress` and the rest."""

    missing = ""
    """Why a job that has succeeded has no return value."""

    @property
    def return_value(self) -> Any:
        """What the task returned; ValueError unless it has succeeded and its result was kept."""
        if self.missing and self.status == base.TaskResultStatus.SUCCESSFUL:
            raise ResultMissing(f"Job {self.id} succeeded, but {self.missing}.")
        return super().return_value

    @property
    def job(self) -> JobHandle[Any]:
        return JobHandle(UUID(self.id), registry[self.task.module_path], getattr(self.task, "database", None))

    def refresh(self) -> None:
        """Look the job up again."""
        _copy(self, self.task.get_backend().get_result(self.id))

    async def arefresh(self) -> None:
        """`refresh` for async code."""
        _copy(self, await self.task.get_backend().aget_result(self.id))


def _copy(old: Any, new: Any) -> None:
    for attribute in (*base.TASK_REFRESH_ATTRS, "missing"):
        object.__setattr__(old, attribute, getattr(new, attribute, ""))


# Made without a look -------------------------------------------------------------------------------------------------


def fresh(backend: Any, task: Any, result_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Of a job that was just written."""
    return made(backend.alias, task, result_id, "READY", timezone.now(), args, kwargs)


def known_here(context: JobContext) -> bool:
    """Whether all of a running job's result is known without a look at the tables: it is its first try, and the id
    says when it was made."""
    return context.lease <= 1 and context.job_id.version == 7


def running(backend: Any, context: JobContext, args: Sequence[Any], kwargs: Mapping[str, Any], worker: str) -> Any:
    """Of the job that runs here, where `worker` is this one's number."""
    now = timezone.now()
    task = task_with(backend.alias, context.task_name, context)
    enqueued_at = _moment(context.job_id) if context.job_id.version == 7 else now
    result = made(backend.alias, task, str(context.job_id), "RUNNING", enqueued_at, args, kwargs)
    put(result, started_at=now, last_attempted_at=now, worker_ids=[worker] * context.attempt)
    return result


def bare(name: str, context: JobContext) -> Any:
    """Of a job whose process is gone, for its backoff function: without arguments, worth no look at the tables."""
    task = task_with(None, name, context)
    result = made(task.backend, task, str(context.job_id), "RUNNING", None, [], {})
    put(result, worker_ids=[""] * context.attempt)
    return result


def failed(result: Any, error: BaseException) -> Any:
    """A copy of the result as it stands after this error, for a backoff function."""
    kind = type(error)
    path = f"{kind.__module__}.{kind.__qualname__}"
    copy = made(result.backend, result.task, result.id, "FAILED", result.enqueued_at, result.args, result.kwargs)
    put(
        copy,
        started_at=result.started_at,
        last_attempted_at=result.last_attempted_at,
        worker_ids=[*result.worker_ids],
        errors=[*result.errors, base.TaskError(exception_class_path=path, traceback=str(error))],
    )
    return copy


def end(result: Any, outcome: Outcome, value: Any, now: datetime) -> None:
    """Bring a running job's result to its end, as the outcome that was written has it."""
    put(result, status=base.TaskResultStatus(STATUS[State(outcome.state)]), finished_at=now)
    if outcome.state != "succeeded":
        kind = outcome.kind or outcome.state
        put(result, errors=[*result.errors, task_error(kind, outcome.error, outcome.traceback)])
    elif outcome.result is None:
        put(result, missing=outcome.error or "its result was not kept")
    else:
        put(result, _return_value=value)


def put(result: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(result, name, value)


def made(
    alias: str,
    task: Any,
    result_id: str,
    status: str,
    enqueued_at: datetime | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    return JobsTaskResult(
        task=task,
        id=result_id,
        status=base.TaskResultStatus(status),
        enqueued_at=enqueued_at,
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=args,
        kwargs=kwargs,
        backend=alias,
        errors=[],
        worker_ids=[],
    )


def _moment(uid: UUID) -> datetime:
    """When a UUIDv7 was made: its first 48 bits are milliseconds since 1970."""
    return datetime.fromtimestamp((uid.int >> 80) / 1000, UTC)


def task_error(kind: str, error: str, traceback: str) -> Any:
    name = error.split(": ", 1)[0]
    path = EXCEPTIONS.get(kind) or (name if "." in name else f"builtins.{name}")
    return base.TaskError(exception_class_path=path, traceback=traceback or error)


def task_with(alias: str | None, name: str, row: Any) -> Any:
    """The declared task with a job's own options."""
    task = seen[name]
    wanted = {
        "priority": row.priority,
        "queue_name": row.queue_name,
        "backend": alias or task.backend,
        "run_after": getattr(row, "run_after", None),
    }
    changes = {name: value for name, value in wanted.items() if value != getattr(task, name)}
    if not changes:
        return task
    try:
        return replace(task, **changes)
    except exceptions.TaskException:
        return task  # its queue is no longer declared, say; the job is there all the same
