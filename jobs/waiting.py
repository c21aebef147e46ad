"""Bind every job that has not ended to the code at hand: what a deploy of this code would break.

It reads the outbox and the queue, a page at a time, and compiles the blocks that are to be rendered; it leaves them as
they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from jobs.background import problem
from jobs.callback import ENDED
from jobs.conf import jobs_settings
from jobs.declare import registry
from jobs.envelope import dumps, loads, pack_body, unpack_headers
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
    """Every message in the outbox of that alias, then every job of the queue that has not ended; each followed by what
    it is to call back, and that in turn."""
    for message in Message.objects.using(outbox).order_by("pk").iterator(chunk_size=PAGE):
        try:
            headers = unpack_headers(message.headers)
        except Undeliverable as error:
            yield Broken(message.uid, "", "written", str(error))
        else:
            yield Waiting(message.uid, headers.task, "written", headers.version, message.body)
            yield from _callbacks(message.uid, headers.callbacks)
    jobs = Job.objects.using(jobs_settings().DATABASE).order_by("pk")
    columns = jobs.values_list("id", "task", "state", "version", "arguments", "callbacks")
    for job_id, task, state, version, arguments, callbacks in columns.iterator(chunk_size=PAGE):
        yield Waiting(job_id, task, state, version, arguments)
        yield from _callbacks(job_id, callbacks)


def _callbacks(job_id: UUID, text: str | None) -> Iterator[Waiting | Broken]:
    """What a job is to call back, as the jobs that these would be."""
    for each in loads(text) if text is not None else ():
        headers, body = each["headers"], each["body"]
        kwargs = {**body["kwargs"], ENDED: {}} if each.get("ended") else body["kwargs"]
        arguments = pack_body(body["args"], kwargs)
        yield Waiting(job_id, headers["task"], f"on_{each['on']}", headers.get("version", 1), arguments)
        if "callbacks" in headers:
            yield from _callbacks(job_id, dumps(headers["callbacks"]))


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
