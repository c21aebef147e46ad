"""The addresses of the dashboard, and a row of every kind to fill its pages with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from django.urls import reverse
from django.utils import timezone

from jobs.delivery import Delivery
from jobs.ids import id_for_key
from jobs.models import State
from tests.factories import (
    AttemptFactory,
    EventFactory,
    FinishedJobFactory,
    JobFactory,
    KeyFactory,
    LogLineFactory,
    NoteFactory,
    ProgressFactory,
    QueueFactory,
    ScheduleFactory,
    SetAsideMessageFactory,
    StatFactory,
    WorkerFactory,
)

STATES = [state.value for state in State if state is not State.WRITTEN]


def at(page: str, *args: Any, site: str = "admin") -> str:
    return reverse(f"admin:jobs_job_{page}", args=args, current_app=site)


class Filled(NamedTuple):
    """The jobs that stand in the tables, by state."""

    jobs: dict[str, UUID]
    worker: int
    schedule: UUID
    event: UUID

    def pages(self, site: str = "admin") -> dict[str, str]:
        """Every page there is, by a name."""
        return {
            "overview": at("changelist", site=site),
            "overview of a week": f"{at('changelist', site=site)}?span=7d",
            **{f"list of {state}": at("list", state, site=site) for state in STATES},
            **{f"job that is {state}": at("change", job, site=site) for state, job in self.jobs.items()},
            "events": at("events", site=site),
            "an event": at("event", self.event, site=site),
            "failures": at("failures", site=site),
            "a failure": f"{at('failure', site=site)}?exception=ValueError&frame=shop/tasks.py in send",
            "schedules": at("schedules", site=site),
            "a schedule": at("schedule", self.schedule, site=site),
            "queues": at("queues", site=site),
            "workers": at("workers", site=site),
        }


def fill_all(text: Callable[[str], str] = lambda field: field, **limits: int) -> Filled:
    """A row of every kind; `text` gives what stands in each field that can hold any text."""

    def cut(field: str, limit: int) -> str:
        return text(field)[:limit]

    columns: dict[str, Any] = {
        "task": cut("shop.tasks.send", 200),
        "queue": cut("mail", 64),
        "source_name": cut("checkout/receipt", 200),
        "idempotency_key": cut("order-42", 200),
        "error": text("ValueError: the mailbox is full"),
        "origin": cut("POST /orders/, user 5 anna", 300),
        "arguments": json.dumps({"args": [text("an argument"), 7], "kwargs": {text("name")[:80]: [text("value")]}}),
    }
    called = {"on": text("success"), "headers": {"task": cut("shop.tasks.tell", 200)}}
    columns["callbacks"] = json.dumps([called])
    jobs: dict[str, UUID] = {}
    for state, made in (
        ("ready", JobFactory(**columns)),
        ("scheduled", JobFactory(**columns, scheduled=True)),
        ("retrying", JobFactory(**columns, retrying=True, max_attempts=3)),
        ("running", JobFactory(**columns, running=True)),
        ("succeeded", FinishedJobFactory(**columns, result=json.dumps({text("sent")[:80]: text("to")}))),
        ("dead", FinishedJobFactory(**columns, state="dead", result=None, lease=2)),
        ("cancelled", FinishedJobFactory(**columns, state="cancelled", result=None)),
    ):
        jobs[state] = made.id
        AttemptFactory(
            job=made.id,
            lease=made.lease,
            error=columns["error"],
            exception=cut("ValueError", 200),
            frame=cut("shop/tasks.py in send", 300),
            version=cut("2.1", 64),
            task=columns["task"],
            traceback=f'Traceback (most recent call last):\n  File "/srv/{text("shop")}/tasks.py", line 7, in send\n'
            f"    {text('deliver')}\n{columns['error']}",
        )
        LogLineFactory(job=made.id, text=text("one line"), logger=cut("shop.mail", 100), task=columns["task"])
        NoteFactory(job=made.id, by=cut("anna", 150), deed=cut("requeued", 20), reason=cut("mended", 300))
        KeyFactory(id=made.id, task=columns["task"], key=cut("order-42", 200))
        JobFactory(**columns, parent=made.id)
        JobFactory(**{**columns, "origin": f"on_{text('success')} of it"[:300]}, parent=made.id)
    ProgressFactory(job=jobs["running"], text=cut("a third", 200))
    ProgressFactory(job=jobs["succeeded"], text=cut("all of it", 200))
    jobs["set_aside"] = SetAsideMessageFactory(error=text("the headers are not JSON"), body=text("a body")).uid
    QueueFactory(name=columns["queue"], by=cut("anna", 150), reason=cut("the provider is down", 200))
    worker = WorkerFactory(
        name=cut("host:7", 200),
        queues=text("mail"),
        version=cut("2.1", 64),
        running=json.dumps([[0, str(jobs["running"]), 1.5]]),
    )
    KeyFactory(task=columns["task"], key=cut("order-42", 200))
    for outcome in ("succeeded", "retrying", "dead"):
        StatFactory(queue=columns["queue"], task=columns["task"], outcome=outcome, version=cut("2.1", 64))
    StatFactory(queue=columns["queue"], task=columns["task"], version=cut("2.2", 64))
    event = EventFactory(
        type="tests.placed", origin=columns["origin"], payload=json.dumps({text("order")[:80]: text("of paper")})
    )
    for task, again in (("tests.tasks.note_placed", ""), ("tests.tasks.note_placed", "fix-1"), (columns["task"], "")):
        delivery = Delivery(event.id, event.type, again)
        made = KeyFactory(id=id_for_key(task, delivery.key), task=task, key=delivery.key)
        FinishedJobFactory(**{**columns, "id": made.id, "task": task, "idempotency_key": made.key}, state="dead")
    return Filled(jobs, worker.pk, _schedules(columns, cut), event.id)


def _schedules(columns: dict[str, Any], cut: Callable[[str, int], str]) -> UUID:
    """One of each kind; the one that is paused, and has made a job."""
    paused = ScheduleFactory(
        name=cut("every.minute", 199),
        task=columns["task"],
        arguments=columns["arguments"],
        options=json.dumps({"source_name": columns["source_name"]}),
        tick_as=cut("at", 100),
        paused_at=timezone.now(),
        paused_by=cut("anna", 150),
        pause_reason=cut("the provider is down", 200),
        made=3,
        missed_ticks=2,
        skipped_ticks=1,
        passed_at=timezone.now(),
    )
    last = FinishedJobFactory(**columns, parent=paused.pk)
    type(paused).objects.filter(pk=paused.pk).update(last_job=last.pk, last_at=timezone.now())
    ScheduleFactory(
        name=f"1{cut('nightly', 199)}", cron="0 2 * * *", every=None, timezone="Europe/Paris", task="tests.tasks.noop"
    )
    ScheduleFactory(name=f"2{cut('orphan', 199)}", declared=True, orphaned_at=timezone.now(), task=columns["task"])
    ScheduleFactory(name=f"3{cut('broken', 199)}", cron=cut("* *", 100), every=None, timezone=cut("Mars", 64),
                    trouble=cut("it cannot be read", 500))  # fmt: skip
    return UUID(str(paused.pk))
