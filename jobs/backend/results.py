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
from typing import Any, NamedTuple
from uuid import UUID

from asgiref.sync import sync_to_async
from django.utils import timezone

from jobs.backend.api import base, exceptions
from jobs.conf import jobs_settings
from jobs.context import JobContext
from jobs.declare import registry
from jobs.envelope import loads, unpack_body, unpack_headers
from jobs.errors import ResultMissing
from jobs.handle import JobHandle
from jobs.models import Attempt, FinishedJob, Job, State
from jobs.outcome import Outcome
from outbox.errors import Undeliverable
from outbox.models import Message, SetAsideMessage

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
    return _made(backend.alias, task, result_id, "READY", timezone.now(), args, kwargs)


def known_here(context: JobContext) -> bool:
    """Whether all of a running job's result is known without a look at the tables: it is its first try, and the id
    says when it was made."""
    return context.lease <= 1 and context.job_id.version == 7


def running(
    backend: Any, context: JobContext, args: Sequence[Any], kwargs: Mapping[str, Any], worker: str
) -> Any:
    """Of the job that runs here, where `worker` is this one's number."""
    if not known_here(context):
        try:
            return find(backend, str(context.job_id))
        except exceptions.TaskResultDoesNotExist:  # called by hand, or discarded by a person meanwhile
            pass
    now = timezone.now()
    task = _task(backend.alias, context.task_name, context)
    enqueued_at = _moment(context.job_id) if context.job_id.version == 7 else now
    result = _made(backend.alias, task, str(context.job_id), "RUNNING", enqueued_at, args, kwargs)
    _set(result, started_at=now, last_attempted_at=now, worker_ids=[worker] * context.attempt)
    return result


def bare(name: str, context: JobContext) -> Any:
    """Of a job whose process is gone, for its backoff function: without arguments, worth no look at the tables."""
    task = _task(None, name, context)
    result = _made(task.backend, task, str(context.job_id), "RUNNING", None, [], {})
    _set(result, worker_ids=[""] * context.attempt)
    return result


def failed(result: Any, error: BaseException) -> Any:
    """A copy of the result as it stands after this error, for a backoff function."""
    kind = type(error)
    path = f"{kind.__module__}.{kind.__qualname__}"
    made = _made(
        result.backend, result.task, result.id, "FAILED", result.enqueued_at, result.args, result.kwargs
    )
    _set(
        made,
        started_at=result.started_at,
        last_attempted_at=result.last_attempted_at,
        worker_ids=[*result.worker_ids],
        errors=[*result.errors, base.TaskError(exception_class_path=path, traceback=str(error))],
    )
    return made


def end(result: Any, outcome: Outcome, value: Any, now: datetime) -> None:
    """Bring a running job's result to its end, as the outcome that was written has it."""
    _set(result, status=base.TaskResultStatus(STATUS[State(outcome.state)]), finished_at=now)
    if outcome.state != "succeeded":
        kind = outcome.kind or outcome.state
        _set(result, errors=[*result.errors, _error(kind, outcome.error, outcome.traceback)])
    elif outcome.result is None:
        _set(result, missing=outcome.error or "its result was not kept")
    else:
        _set(result, _return_value=value)


def _set(result: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _made(
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


def _error(kind: str, error: str, traceback: str) -> Any:
    name = error.split(": ", 1)[0]
    path = EXCEPTIONS.get(kind) or (name if "." in name else f"builtins.{name}")
    return base.TaskError(exception_class_path=path, traceback=traceback or error)


def _task(alias: str | None, name: str, row: Any) -> Any:
    """The declared task with a job's own options."""
    from jobs.backend.adopt import declared

    task = declared[name]
    changes: dict[str, Any] = {"priority": row.priority, "queue_name": row.queue_name}
    if alias is not None:
        changes["backend"] = alias
    if (due := getattr(row, "run_after", None)) is not None:
        changes["run_after"] = due
    try:
        return replace(task, **changes)
    except exceptions.TaskException:
        return task  # its queue is no longer declared, say; the job is there all the same


# Looked up ------------------------------------------------------------------------------------------------------------


class Facts(NamedTuple):
    """What the tables say about a job, wherever it is."""

    state: State
    task: str
    queue_name: str
    priority: int
    arguments: str
    enqueued_at: datetime
    run_after: datetime | None = None
    tried_at: datetime | None = None
    """Start of the try that runs or was the last."""
    ended_at: datetime | None = None
    worker: int | None = None
    result: str | None = None
    error: str = ""


def find(backend: Any, result_id: str) -> Any:
    """The job as it is now; raises TaskResultDoesNotExist."""
    try:
        uid = UUID(str(result_id))
    except ValueError:
        raise exceptions.TaskResultDoesNotExist(result_id) from None
    from jobs.backend.adopt import declared

    outbox = backend.settings.database or jobs_settings().DATABASE
    facts = _look(uid, outbox) or _look(uid, outbox)  # twice: a requeue moves it against the order of the looks
    if facts is None or facts.task not in declared:
        raise exceptions.TaskResultDoesNotExist(result_id)
    args, kwargs = unpack_body(facts.arguments)
    task = _task(backend.alias, facts.task, facts)
    result = _made(backend.alias, task, str(uid), STATUS[facts.state], facts.enqueued_at, args, kwargs)
    tries = list(Attempt.objects.using(jobs_settings().DATABASE).filter(job=uid).order_by("lease"))
    errors = [_error(row.kind, row.error, row.traceback) for row in tries]
    workers = [_worker(row.worker) for row in tries]
    starts = [row.started_at for row in tries if row.started_at is not None]
    if facts.state in (State.RUNNING, State.SUCCEEDED):
        workers.append(_worker(facts.worker))
        starts += [facts.tried_at] if facts.tried_at is not None else []
    if facts.state in (State.CANCELLED, State.SET_ASIDE):
        errors.append(_error(facts.state.value, facts.error, ""))
    _set(
        result,
        errors=errors,
        worker_ids=workers,
        started_at=starts[0] if starts else None,
        last_attempted_at=starts[-1] if starts else None,
        finished_at=facts.ended_at,
    )
    if facts.state is State.SUCCEEDED:
        if facts.result is None:
            _set(result, missing=facts.error or "its result was not kept")
        else:
            _set(result, _return_value=loads(facts.result))
    return result


async def afind(backend: Any, result_id: str) -> Any:
    """`find` for async code."""
    return await sync_to_async(find)(backend, result_id)


def _worker(number: int | None) -> str:
    return "" if number is None else str(number)


def _look(uid: UUID, outbox: str) -> Facts | None:
    """In the order a job moves, so that one on its way is met at its next home."""
    queue = jobs_settings().DATABASE
    message = Message.objects.using(outbox).filter(uid=uid).first()
    if (job := Job.objects.using(queue).filter(pk=uid).first()) is not None:
        return Facts(
            State(job.state), job.task, job.queue, job.priority, job.arguments, job.enqueued_at, job.run_after,
            job.claimed_at, None, job.worker, None, job.error,
        )  # fmt: skip
    if (job := FinishedJob.objects.using(queue).filter(pk=uid).first()) is not None:
        return Facts(
            State(job.state), job.task, job.queue, job.priority, job.arguments, job.enqueued_at, job.run_after,
            job.started_at, job.ended_at, job.worker, job.result, job.error,
        )  # fmt: skip
    if message is not None:
        return _written(message, State.WRITTEN, "")
    aside = SetAsideMessage.objects.using(outbox).filter(uid=uid).first()
    return None if aside is None else _written(aside, State.SET_ASIDE, aside.error)


def _written(message: Message | SetAsideMessage, state: State, error: str) -> Facts | None:
    try:
        headers = unpack_headers(message.headers)
        unpack_body(message.body)
    except (Undeliverable, ValueError):
        return None  # nobody can say what it was
    due = headers.run_after or (message.written_at + headers.delay if headers.delay else None)
    return Facts(
        state, headers.task, headers.queue, headers.priority, message.body, message.written_at, due, error=error
    )
