"""What a running task may know about its job, and how a job enqueued from it knows its parent."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class JobContext:
    """The first argument of a task declared with `@task(takes_context=True)`."""

    job_id: UUID
    """The id `enqueue` returned; the same on every attempt and after a requeue."""

    idempotency_key: str
    """What to give an outside service so that a second attempt is not a second effect: the key the job was enqueued
    with, else the job's id. It never changes."""

    attempt: int
    """Which attempt this is, from 1: attempts spent + 1. A crash or a deploy spends none."""

    max_attempts: int
    """How many attempts the job may spend."""

    task_name: str
    queue_name: str
    priority: int
    source_name: str

    depth: int
    """0 for a job that no job enqueued, else the parent's depth + 1."""


current: ContextVar[JobContext | None] = ContextVar("jobs_current", default=None)
"""The job that runs here and now; None outside one."""
