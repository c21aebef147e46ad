"""Bind every job that has not ended to the code at hand: what a deploy of this code would break.

It reads the outbox and the queue, a page at a time, and compiles the blocks that are to be rendered; it leaves them as
they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from jobs.background import problem
from jobs.conf import jobs_settings
from jobs.declare import registry
from jobs.envelope import unpack_headers
from jobs.fit import Misfit, Unreadable, arguments_of
from jobs.models import Job
from jobs.recipe import RENDER
from outbox.errors import Undeliverable
from outbox.models import Message

PAGE = 1000


class Waiting(NamedTuple):
    """A job that has not ended, wherever it is."""

    id: UUID
    task: str
    state: str
    version: int
    arguments: str


class Broken(NamedTuple):
    """One that this code could not run, and why."""

    id: UUID
    task: str
    state: str
    why: str


def waiting(outbox: str) -> Iterator[Waiting | Broken]:
    """Every message in the outbox of that alias, then every job of the queue that has not ended."""
    for message in Message.objects.using(outbox).order_by("pk").iterator(chunk_size=PAGE):
        try:
            headers = unpack_headers(message.headers)
        except Undeliverable as error:
            yield Broken(message.uid, "", "written", str(error))
        else:
            yield Waiting(message.uid, headers.task, "written", headers.version, message.body)
    jobs = Job.objects.using(jobs_settings().DATABASE).order_by("pk")
    for row in jobs.values_list("id", "task", "state", "version", "arguments").iterator(chunk_size=PAGE):
        yield Waiting(*row)


def broken(job: Waiting | Broken) -> Broken | None:
    """Why this code could not run the job; None where it could."""
    if isinstance(job, Broken):
        return job
    task = registry.get(job.task)
    if task is None:
        return Broken(
            job.id, job.task, job.state, "this code has no such task: keep it, or name it with @task(name=...)"
        )
    try:
        args, kwargs = arguments_of(job.arguments, job.version, task)
    except (Misfit, Unreadable) as error:
        return Broken(job.id, job.task, job.state, str(error))
    if job.task == RENDER and (why := problem(kwargs["template"] if "template" in kwargs else args[0])):
        return Broken(job.id, job.task, job.state, why)
    return None
