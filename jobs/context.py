"""What a running task may know about its job, and how a job enqueued from it knows its parent."""

from __future__ import annotations

import logging
import math
from contextvars import ContextVar
from typing import NamedTuple
from uuid import UUID

from jobs.delivery import PREFIX, delivery_of
from jobs.notebook import notebook


class JobContext(NamedTuple):
    """The first argument of a task declared with `@task(takes_context=True)`. Every job has one, so it is cheap."""

    job_id: UUID
    """The id `enqueue` returned; the same on every attempt and after a requeue."""

    key: str
    """The idempotency key the job was enqueued with, or empty."""

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

    lease: int = 0
    """Which claim of the job this is; 0 outside a worker."""

    claimer: int = 0
    """Number of the slot that runs it; with the lease it fences what is written about the job."""

    @property
    def idempotency_key(self) -> str:
        """What to give an outside service so that a second attempt is not a second effect: the key the job was enqueued
        with, else the job's id; for an event's consumer always the job's id, as the key is the same for all consumers.
        It never changes."""
        return str(self.job_id) if not self.key or self.key.startswith(PREFIX) else self.key

    @property
    def event_id(self) -> UUID | None:
        """The event that a consumer's job is for; None for any other job."""
        made_for = delivery_of(self.key)
        return made_for.event_id if made_for is not None else None

    @property
    def event_type(self) -> str:
        """The type of that event; empty for any other job."""
        made_for = delivery_of(self.key)
        return made_for.event_type if made_for is not None else ""

    def log(self, text: str, level: int = logging.INFO) -> None:
        """Keep a line with this attempt, whatever the levels of `logging` are; outside a worker it is not kept."""
        if self.lease:
            notebook.line(self, level, "", str(text))

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Say how far the job is. As often as you like: it is written at most once a second, the last word counts."""
        if self.lease and math.isfinite(done):
            within = total is not None and math.isfinite(total)
            notebook.stand(self, float(done), float(total) if within and total is not None else None, str(text))


current: ContextVar[JobContext | None] = ContextVar("jobs_current", default=None)
"""The job that runs here and now; None outside one."""
