"""Find a job by its id, whatever its task: `jobs.get(id)`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async

from jobs.conf import jobs_settings
from jobs.declare import registry
from jobs.handle import JobHandle
from jobs.models import FinishedJob, Job
from jobs.tasks import Task


def get(job_id: UUID | str, *, database: str | None = None) -> JobHandle[Any]:
    """The handle of any job, looked up; raises JobDoesNotExist where there is none.

    `database` is the alias of the outbox it was written to, where that is not the queue's.
    """
    uid = UUID(str(job_id))
    alias = jobs_settings().DATABASE
    name = (
        Job.objects.using(alias).filter(pk=uid).values_list("task", flat=True).first()
        or FinishedJob.objects.using(alias).filter(pk=uid).values_list("task", flat=True).first()
    )
    handle: JobHandle[Any] = JobHandle(uid, registry.get(name or "") or _unknown(name), database)
    handle.refresh()
    return handle


def _unknown(name: str | None) -> Task[Any, Any]:
    """Stands in for a task that this code does not know, or that stands in a message nobody has read yet."""

    def missing(*_: Any, **__: Any) -> None:
        raise LookupError(f"this code has no task {name!r}")

    return Task(func=missing, name=name or "a task not known here", queue_name=(jobs_settings().QUEUES or ["x"])[0])


async def aget(job_id: UUID | str, *, database: str | None = None) -> JobHandle[Any]:
    """`get` for async code."""
    return await sync_to_async(get)(job_id, database=database)
