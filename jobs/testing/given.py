"""What a test gives as a task: one of `jobs.task`, or one of Django's own that runs on this system."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from jobs.tasks import Task


class DjangoTask(Protocol):
    """A task of `django.tasks` whose backend is JobsBackend."""

    @property
    def job_task(self) -> Any: ...


AnyTask: TypeAlias = "Task[Any, Any] | DjangoTask"


def as_job_task(task: AnyTask) -> Task[Any, Any]:
    """The task as the registry has it."""
    found: Task[Any, Any] = task if isinstance(task, Task) else task.job_task
    return found
