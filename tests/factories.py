"""Rows as the tests want them: crashes and histories faked in the row."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import factory
from django.utils import timezone

from jobs.ids import new_id
from jobs.models import Attempt, Event, FinishedJob, Job, Key, LogLine, Note, Progress, Queue, Schedule, Stat, Worker
from outbox.models import Message, SetAsideMessage


class MessageFactory(factory.django.DjangoModelFactory[Message]):
    class Meta:
        model = Message

    uid = factory.LazyFunction(new_id)
    headers = '{"v":1,"task":"tests.tasks.noop","queue":"default","priority":0,"max_attempts":1}'
    body = '{"args":[],"kwargs":{}}'
    written_at = factory.LazyFunction(timezone.now)


class SetAsideMessageFactory(MessageFactory):
    class Meta:
        model = SetAsideMessage

    id = factory.Sequence(lambda n: 1_000_000 + n)
    error = "it could not be read"


class JobFactory(factory.django.DjangoModelFactory[Job]):
    """A ready job; `running=True`, `scheduled=True`, `retrying=True` make the others."""

    class Meta:
        model = Job

    class Params:
        running = factory.Trait(
            state="running", worker=1, claimer=11, lease=1, claimed_at=factory.LazyFunction(timezone.now)
        )
        scheduled = factory.Trait(
            state="scheduled", run_after=factory.LazyFunction(lambda: timezone.now() + timedelta(hours=1))
        )
        retrying = factory.Trait(
            state="retrying",
            attempts=1,
            lease=1,
            run_after=factory.LazyFunction(lambda: timezone.now() + timedelta(hours=1)),
        )

    id = factory.LazyFunction(new_id)
    task = "tests.tasks.noop"
    queue = "default"
    state = "ready"
    arguments = '{"args":[],"kwargs":{}}'
    enqueued_at = factory.LazyFunction(timezone.now)
    ready_at = factory.LazyFunction(timezone.now)


class FinishedJobFactory(JobFactory):
    class Meta:
        model = FinishedJob

    state = "succeeded"
    attempts = 1
    lease = 1
    result = "null"
    started_at = factory.LazyFunction(timezone.now)
    ended_at = factory.LazyFunction(timezone.now)


class AttemptFactory(factory.django.DjangoModelFactory[Attempt]):
    class Meta:
        model = Attempt

    job = factory.LazyFunction(uuid.uuid4)
    lease = 1
    number = 1
    kind = "failed"
    error = "ValueError: no"
    ended_at = factory.LazyFunction(timezone.now)


class KeyFactory(factory.django.DjangoModelFactory[Key]):
    class Meta:
        model = Key

    id = factory.LazyFunction(uuid.uuid4)
    task = "tests.tasks.noop"
    key = factory.Sequence(lambda n: f"key-{n}")


class WorkerFactory(factory.django.DjangoModelFactory[Worker]):
    class Meta:
        model = Worker

    name = "host:1"
    slots = 2


class StatFactory(factory.django.DjangoModelFactory[Stat]):
    class Meta:
        model = Stat

    at = factory.LazyFunction(timezone.now)
    queue = "default"
    task = "tests.tasks.noop"
    outcome = "succeeded"
    count = 1
    waited = 0.1
    ran = 0.5
    waits = "14:1"
    runs = "18:1"


class LogLineFactory(factory.django.DjangoModelFactory[LogLine]):
    class Meta:
        model = LogLine

    job = factory.LazyFunction(uuid.uuid4)
    lease = 1
    number = 1
    at = factory.LazyFunction(timezone.now)
    level = 20
    logger = "shop.tasks"
    text = "it said so"
    task = "tests.tasks.noop"


class ProgressFactory(factory.django.DjangoModelFactory[Progress]):
    class Meta:
        model = Progress

    job = factory.LazyFunction(uuid.uuid4)
    lease = 1
    done = 3
    total = 10
    text = "a third"
    began_at = factory.LazyFunction(lambda: timezone.now() - timedelta(seconds=6))
    at = factory.LazyFunction(timezone.now)


class NoteFactory(factory.django.DjangoModelFactory[Note]):
    class Meta:
        model = Note

    job = factory.LazyFunction(uuid.uuid4)
    at = factory.LazyFunction(timezone.now)
    by = "anna"
    deed = "requeued"
    reason = "it is mended"


class EventFactory(factory.django.DjangoModelFactory[Event]):
    class Meta:
        model = Event

    id = factory.LazyFunction(new_id)
    type = "tests.placed"
    payload = '{"order":1}'
    published_at = factory.LazyFunction(timezone.now)


class QueueFactory(factory.django.DjangoModelFactory[Queue]):
    class Meta:
        model = Queue

    name = "mail"
    by = "anna"
    reason = "the provider is down"


class ScheduleFactory(factory.django.DjangoModelFactory[Schedule]):
    """Made in admin, each minute, due in half a minute."""

    class Meta:
        model = Schedule

    id = factory.LazyFunction(new_id)
    name = factory.Sequence(lambda n: f"schedule-{n}")
    task = "tests.tasks.noop"
    every = timedelta(minutes=1)
    next_at = factory.LazyFunction(lambda: timezone.now() + timedelta(seconds=30))


def in_home(job_id: uuid.UUID) -> list[str]:
    """Every home the id is in, by name of the table: must be one."""
    homes: dict[str, Any] = {
        "outbox_message": Message.objects.filter(uid=job_id),
        "outbox_setasidemessage": SetAsideMessage.objects.filter(uid=job_id),
        "jobs_job": Job.objects.filter(pk=job_id),
        "jobs_finishedjob": FinishedJob.objects.filter(pk=job_id),
    }
    return [name for name, rows in homes.items() if rows.exists()]
