"""Look a job up, wherever it is: in the outbox, in the queue, in the history.

It takes an id; it leaves Django's TaskResult with what the tables say: three or four reads, by key but for the outbox,
where a message lives for milliseconds. A job of a task that this code has not declared is not found: a name in a row is
never imported.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from jobs.backend.api import exceptions
from jobs.backend.declared import seen
from jobs.backend.results import STATUS, made, put, task_error, task_with
from jobs.conf import jobs_settings
from jobs.envelope import loads, unpack_body, unpack_headers
from jobs.models import Attempt, FinishedJob, Job, State
from outbox.errors import Undeliverable
from outbox.models import Message, SetAsideMessage


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
    outbox = backend.settings.database or jobs_settings().DATABASE
    facts = _look(uid, outbox) or _look(uid, outbox)  # twice: a requeue moves it against the order of the looks
    if facts is None or facts.task not in seen:
        raise exceptions.TaskResultDoesNotExist(result_id)
    try:
        args, kwargs = unpack_body(facts.arguments)
    except ValueError:  # the row says so itself, as its error
        args, kwargs = [], {}
    task = task_with(backend.alias, facts.task, facts)
    result = made(backend.alias, task, str(uid), STATUS[facts.state], facts.enqueued_at, args, kwargs)
    tries = list(Attempt.objects.using(jobs_settings().DATABASE).filter(job=uid).order_by("lease"))
    errors = [task_error(row.kind, row.error, row.traceback) for row in tries]
    workers = [_worker(row.worker) for row in tries]
    starts = [row.started_at for row in tries if row.started_at is not None]
    if facts.state in (State.RUNNING, State.SUCCEEDED):
        workers.append(_worker(facts.worker))
        starts += [facts.tried_at] if facts.tried_at is not None else []
    if facts.state in (State.CANCELLED, State.SET_ASIDE):
        errors.append(task_error(facts.state.value, facts.error, ""))
    put(
        result,
        errors=errors,
        worker_ids=workers,
        started_at=starts[0] if starts else None,
        last_attempted_at=starts[-1] if starts else None,
        finished_at=facts.ended_at,
    )
    if facts.state is State.SUCCEEDED:
        if facts.result is None:
            put(result, missing=facts.error or "its result was not kept")
        else:
            put(result, _return_value=loads(facts.result))
    return result


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
    if (ended := FinishedJob.objects.using(queue).filter(pk=uid).first()) is not None:
        return Facts(
            State(ended.state), ended.task, ended.queue, ended.priority, ended.arguments, ended.enqueued_at,
            ended.run_after, ended.started_at, ended.ended_at, ended.worker, ended.result, ended.error,
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
