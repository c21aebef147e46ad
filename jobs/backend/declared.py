"""The class of tasks that `django.tasks.task` makes with this backend: Django's Task, with our options beside its own.

Since Django 6.1 (and with django-tasks) the decorator takes them: `@task(max_attempts=3, timeout=20)`. On Django 6.0 it
takes only Django's; there they stand in `TASKS`, by the task's name. Names follow the open proposals for Django.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from jobs.backend.api import InvalidTask, base
from jobs.errors import InvalidOption
from jobs.options import UNSET, Unset, delay_seconds, priority_number

POLICY = (
    "max_attempts", "timeout", "backoff", "retry_on", "never_retry_on", "source_name", "at_most_once", "atomic",
    "version", "upgrade", "redact", "on_success", "on_failure", "on_complete", "only_if",
)  # fmt: skip
"""Options of the task; `None` is not said."""

PER_JOB = ("unique_for", "until", "on_success", "on_failure", "on_complete")
"""Options of a job that mean what they mean to `jobs.Task.using`."""

seen: dict[str, Any] = {}
"""The Django task of each name, as it was first seen."""


@dataclass(frozen=True, kw_only=True)
class JobsTask(base.Task):  # type: ignore[misc]  # a class of the installed Django
    """A Django task that runs as a job. Every option means what it means for `jobs.task`; None takes the backend's."""

    max_attempts: int | None = None
    timeout: float | timedelta | None = None
    backoff: Any = field(default=None, hash=False)
    """As for `jobs.task`, but a function gets `(exception, task_result)`."""
    retry_on: Any = field(default=None, hash=False)
    never_retry_on: Any = field(default=None, hash=False)
    source_name: str | None = None
    at_most_once: bool | None = None
    atomic: bool | None = None
    version: int | None = None
    upgrade: Mapping[int, Any] | None = field(default=None, hash=False)
    redact: Sequence[str] | None = field(default=None, hash=False)
    on_success: Any = field(default=None, hash=False)
    """A task, or `task.callback(...)`; Django's tasks have it too."""
    on_failure: Any = field(default=None, hash=False)
    on_complete: Any = field(default=None, hash=False)
    only_if: Any = field(default=None, hash=False)

    # Of one job; set by `using`.
    delay: float = 0.0
    """Seconds from the INSERT."""
    database: str | None = None
    idempotency_key: str | None = None
    unique_for: float | timedelta | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.priority, str):
            try:
                object.__setattr__(self, "priority", priority_number(self.priority))
            except InvalidOption as error:
                raise InvalidTask(str(error)) from None
        super().__post_init__()

    def using(
        self,
        *,
        priority: int | str | None = None,
        queue_name: str | None = None,
        run_after: datetime | timedelta | None = None,
        backend: str | None = None,
        delay: float | timedelta | None = None,
        max_attempts: int | None = None,
        source_name: str | None = None,
        database: str | Unset | None = UNSET,
        idempotency_key: str | Unset | None = UNSET,
        unique_for: float | timedelta | None = None,
        until: str | None = None,
        on_success: Any = None,
        on_failure: Any = None,
        on_complete: Any = None,
    ) -> JobsTask:
        """A copy with other options for the jobs enqueued through it; None leaves what is there, as in Django.

        `run_after` is an aware datetime, or a timedelta from now; `delay` is minutes or a timedelta from the INSERT.
        What a worker must know before the job starts (timeout, backoff, atomic ...) belongs to the task, not to a job.
        """
        changes: dict[str, Any] = {
            name: value
            for name, value in (
                ("priority", priority),
                ("queue_name", queue_name),
                ("backend", backend),
                ("max_attempts", max_attempts),
                ("source_name", source_name),
                ("unique_for", unique_for),
                ("until", until),
                ("on_success", on_success),
                ("on_failure", on_failure),
                ("on_complete", on_complete),
            )
            if value is not None
        }
        changes |= {
            name: value
            for name, value in (("database", database), ("idempotency_key", idempotency_key))
            if not isinstance(value, Unset)
        }
        if delay is not None and run_after is not None:
            raise InvalidTask("delay= and run_after= were both given: give one of the two.")
        if run_after is not None:
            due = timezone.now() + run_after if isinstance(run_after, timedelta) else run_after
            changes |= {"run_after": due, "delay": 0.0}
        if delay is not None:
            try:
                changes |= {"delay": delay_seconds(delay), "run_after": None}
            except InvalidOption as error:
                raise InvalidTask(str(error)) from None
        return replace(self, **changes)

    @property
    def job_task(self) -> Any:
        """The same as a `jobs.Task`, for what takes one: `assert_idempotent(send.job_task, 1)`."""
        return self.get_backend().job_task(self)

    def callback(self, /, *args: Any, **kwargs: Any) -> Any:
        """This task with fixed arguments, for `on_success=` and the like: see `jobs.Task.callback`."""
        return self.job_task.callback(*args, **kwargs)

    def enqueue_on_commit(self, /, *args: Any, **kwargs: Any) -> Any:
        """`enqueue`, by the name proposed for Django: the job is written in the caller's transaction, so it exists when
        that commits and never otherwise. Unlike a hook after the commit it has its id at once, and cannot be lost."""
        return self.enqueue(*args, **kwargs)

    def enqueue_many(self, calls: Iterable[Any], *, idempotency_keys: Iterable[str] | None = None) -> list[Any]:
        """Enqueue many at once, all or none; each call is a tuple of positional or a dict of keyword arguments."""
        backend = self.get_backend()
        if not hasattr(backend, "enqueue_many"):
            raise InvalidTask(f"The backend {self.backend!r} has no enqueue_many: enqueue one by one.")
        return backend.enqueue_many(self, calls, idempotency_keys=idempotency_keys)  # type: ignore[no-any-return]
