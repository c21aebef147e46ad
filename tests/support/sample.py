"""A shop on an ordinary day, for pictures of the dashboard: busy, mostly well, with a few things that need a person."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from jobs.delivery import Delivery
from jobs.events import Event
from jobs.histogram import SIZE, bucket_of, pack
from jobs.ids import id_for_key, new_id
from jobs.models import Schedule, Stat
from jobs.recur import Rhythm
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

TASKS: dict[str, tuple[str, float, float, float]] = {
    # queue, jobs a minute, seconds one runs, share that fails
    "shop.tasks.send_receipt": ("mail", 90, 0.18, 0.004),
    "shop.tasks.confirm_with_supplier": ("default", 70, 0.9, 0.03),
    "shop.tasks.make_thumbnail": ("default", 25, 0.35, 0.001),
    "shop.tasks.sync_stock": ("default", 12, 2.4, 0.0),
    "crm.tasks.push_contact": ("default", 8, 0.5, 0.02),
    "shop.tasks.sales_report": ("reports", 0.4, 48.0, 0.01),
}

REPORT = "project.shop.tasks.sales_report"
NIGHTLY = UUID("5c0a1e52-0000-5000-8000-000000000001")

TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/shop/tasks.py", line 88, in confirm_with_supplier
    reference = ask_supplier(str(order.reference), context)
  File "/srv/shop/shop/tasks.py", line 112, in ask_supplier
    answer = SUPPLIER.post("/orders", json=body)
  File "/srv/shop/.venv/lib/python3.13/site-packages/httpx/_client.py", line 1144, in post
    return self.request("POST", url, json=json)
  File "/srv/shop/.venv/lib/python3.13/site-packages/httpx/_client.py", line 825, in request
    return self.send(request, auth=auth)
  File "/srv/shop/.venv/lib/python3.13/site-packages/httpx/_transports/default.py", line 250, in handle_request
    with map_httpcore_exceptions():
httpx.ConnectTimeout: timed out after 10 s"""

LOG = (
    (20, "shop.tasks", "order 1042: 3 lines, €\u2009187.20"),
    (20, "shop.supplier", "asking https://supplier.example/orders"),
    (30, "shop.supplier", "slow: no answer after 5 s"),
    (40, "shop.supplier", "gave up after 10 s"),
)


def an_ordinary_day() -> dict[str, UUID]:
    """Fill the tables; the jobs that are worth a picture of their own, by name."""
    chance = random.Random(7)
    now = timezone.now()
    for back in range(24 * 60, 0, -1):
        Stat.objects.bulk_create(_minute(chance, now - timedelta(minutes=back), back))
    StatFactory(task="shop.tasks.send_receipt", queue="mail", count=0, runs="", waits="", version="4f2c1e9")
    _waiting(chance, now)
    _ended(chance, now)
    QueueFactory(
        name="newsletter", by="anna", reason="the provider is down, ticket 4711", until=now + timedelta(minutes=42)
    )
    _schedules(now)
    SetAsideMessageFactory(error="the headers are not right: ValueError: queue 'mäil'")
    return {"dead": _dead(now), "running": _running(now), "event": _events(now)}


def _events(now: datetime) -> UUID:
    """Orders as they come in: most went well, one consumer has had trouble; the one that was repeated."""
    consumers = [f"project.recipes.consumers.{name}" for name in ("thank_customer", "give_points", "tell_warehouse")]
    made = []
    for k in range(38):
        at = now - timedelta(seconds=4 + 71 * k)
        payload = {"order": 1080 - k, "customer": "Ada Lovelace", "email": "ada@example.com", "total": 1250 + 37 * k}
        event = EventFactory(
            type="order.created",
            published_at=at,
            payload=json.dumps(payload),
            origin="" if k % 3 else f"POST /orders/, user {k + 12} ada",
        )
        made.append(event)
        for task in consumers:
            bad = task.endswith("warehouse") and 5 < k < 14
            job = {"state": "dead" if bad else "succeeded", "result": None if bad else "null"}
            _given(event, task, "", ended_at=at + timedelta(seconds=4), **job, error=WAREHOUSE if bad else "")
    again = "repetition r-8d21f0c4a9b3 of the event, by anna: the warehouse is back"
    _given(made[8], consumers[2], "r-8d21f0c4a9b3", origin=again, ended_at=now - timedelta(minutes=2))
    EventFactory(type="report.completed", published_at=now - timedelta(minutes=51), payload='{"report":"2026-01"}')
    return UUID(str(made[8].id))


WAREHOUSE = "urllib.error.URLError: <urlopen error [Errno 111] Connection refused>"


def _given(event: Event, task: str, again: str, **fields: Any) -> None:
    delivery = Delivery(event.id, event.type, again)
    key = KeyFactory(id=id_for_key(task, delivery.key), task=task, key=delivery.key)
    FinishedJobFactory(
        id=key.id, task=task, idempotency_key=key.key, enqueued_at=event.published_at, arguments="{}", **fields
    )


def ended_well(at: datetime) -> UUID:
    """A job that has."""
    return UUID(str(FinishedJobFactory(task="shop.tasks.exchange_rates", ended_at=at).id))


def _schedules(now: datetime) -> None:
    """Some in the code, some made by people, one paused, one whose code is gone."""
    paris = datetime(now.year, now.month, now.day, 1, tzinfo=UTC)
    report = ScheduleFactory(
        id=NIGHTLY, name="shop.nightly_report", task=REPORT, cron="0 2 * * *", every=None, declared=True,
        timezone="Europe/Paris", next_at=paris + timedelta(days=1 if paris < now else 0), made=211, missed_ticks=1,
        passed_at=now - timedelta(days=6), options='{"priority":"low","queue_name":"reports"}',
        last_at=now - timedelta(hours=20), overlap="skip",
    )  # fmt: skip
    for back in range(9, 0, -1):
        ended = paris - timedelta(days=back - 1) if paris < now else paris - timedelta(days=back)
        job = FinishedJobFactory(
            id=new_id(), parent=report.id, task="shop.tasks.sales_report", queue="reports", ended_at=ended,
            enqueued_at=ended - timedelta(seconds=48), started_at=ended - timedelta(seconds=47),
            state="dead" if back == 4 else "succeeded", result=None,
            error="TimedOut: killed at its limit of 300 s" if back == 4 else "",
            origin=f"schedule shop.nightly_report, due {ended:%Y-%m-%d} 02:00:00 Europe/Paris",
        )  # fmt: skip
    running = JobFactory(task="shop.tasks.sync_stock", origin="schedule shop.sync_stock, due now")
    Schedule.objects.filter(pk=report.id).update(last_job=job.id, last_at=ended)
    ScheduleFactory(
        name="shop.sync_stock", task=REPORT, every=timedelta(minutes=5), declared=True, made=15_204, skipped_ticks=12,
        overlap="skip", next_at=now + timedelta(minutes=3, seconds=12), last_job=running.id,
        last_at=now - timedelta(minutes=2), passed_at=now - timedelta(hours=3),
    )  # fmt: skip
    ScheduleFactory(
        name="shop.exchange_rates", task=REPORT, cron="15 */4 * * MON-FRI", every=None, declared=True, made=988,
        timezone="America/New_York", next_at=Rhythm("15 */4 * * MON-FRI", timezone="America/New_York").after(now),
        last_job=ended_well(now - timedelta(hours=2)), last_at=now - timedelta(hours=2),
    )  # fmt: skip
    ScheduleFactory(
        name="newsletter", task=REPORT, cron="30 9 * * TUE", every=None, timezone="Asia/Kolkata", made=40,
        next_at=now + timedelta(days=2), paused_at=now - timedelta(hours=2), paused_by="anna",
        pause_reason="the provider is down, ticket 4711",
    )  # fmt: skip
    ScheduleFactory(
        name="invoices.lord-howe", task="project.shop.tasks.send_receipt", cron="0 6 L * *", every=None, made=7,
        timezone="Australia/Lord_Howe",
        next_at=Rhythm("0 6 L * *", timezone="Australia/Lord_Howe").after(now),
        trouble="InvalidArguments: project.shop.tasks.send_receipt(order_id: int) cannot be called like this: missing a"
        " required argument: 'order_id'.",
    )  # fmt: skip
    ScheduleFactory(
        name="crm.clean_up", task="crm.tasks.clean_up", every=timedelta(days=1), declared=True, made=77,
        orphaned_at=now - timedelta(days=3), next_at=now,
    )  # fmt: skip


def _minute(chance: random.Random, at: datetime, back: int) -> list[Stat]:
    made = []
    hour = 0.55 + 0.45 * math.sin((back / 1440 + 0.15) * 2 * math.pi)
    trouble = 60 < back < 75 or back < 9
    for task, (queue, each, seconds, failing) in TASKS.items():
        n = max(0, round(chance.gauss(each * hour, each * 0.12)))
        failed = sum(chance.random() < failing * (9 if trouble and "supplier" in task else 1) for _ in range(n))
        for outcome, count in (("succeeded", n - failed), ("retrying", failed - failed // 4), ("dead", failed // 4)):
            if count:
                waits, runs = [0] * SIZE, [0] * SIZE
                for _ in range(count):
                    waits[bucket_of(chance.lognormvariate(math.log(0.04 * (6 if trouble else 1)), 0.9))] += 1
                    runs[bucket_of(chance.lognormvariate(math.log(seconds), 0.45))] += 1
                made.append(
                    Stat(
                        at=at,
                        span=60,
                        queue=queue,
                        task=task,
                        outcome=outcome,
                        count=count,
                        waited=0.1 * count,
                        ran=seconds * count,
                        waits=pack(waits),
                        runs=pack(runs),
                        version="4f2c1e9" if back < 22 else "b81d003",
                    )
                )
    return made


def _waiting(chance: random.Random, now: datetime) -> None:
    for queue, n, oldest in (
        ("default", 38, 2.0),
        ("mail", 12, 0.8),
        ("reports", 3, 340.0),
        ("newsletter", 240, 1100.0),
    ):
        for k in range(n):
            JobFactory(
                queue=queue,
                task="shop.tasks.send_newsletter" if queue == "newsletter" else "shop.tasks.send_receipt",
                source_name="" if k % 3 else "checkout/receipt",
                priority=chance.choice([0, 0, 0, 50, -50]),
                arguments=f'{{"args":[{1000 + k}],"kwargs":{{}}}}',
                ready_at=now - timedelta(seconds=oldest * (n - k) / n),
                enqueued_at=now - timedelta(seconds=oldest + 1),
            )
    for k in range(7):
        JobFactory(scheduled=True, task="shop.tasks.ask_for_review", run_after=now + timedelta(hours=3 + 9 * k))
    for k in range(4):
        JobFactory(
            retrying=True,
            task="shop.tasks.confirm_with_supplier",
            attempts=k % 2 + 1,
            max_attempts=5,
            run_after=now + timedelta(seconds=20 + 31 * k),
            error="httpx.ConnectTimeout: timed out after 10 s",
        )


FAILURES: tuple[tuple[str, str, str, str, int], ...] = (
    (
        "httpx.ConnectTimeout",
        "shop/tasks.py in ask_supplier",
        "timed out after 10 s",
        "shop.tasks.confirm_with_supplier",
        11,
    ),
    ("KeyError", "crm/tasks.py in push_contact", "'segment'", "crm.tasks.push_contact", 4),
    ("smtplib.SMTPRecipientsRefused", "shop/mail.py in deliver", "550 no such mailbox", "shop.tasks.send_receipt", 3),
    ("TimedOut", "shop/reports.py in collect", "killed at its limit of 300 s", "shop.tasks.sales_report", 1),
)


def _ended(chance: random.Random, now: datetime) -> None:
    for k in range(120):
        task, (queue, _, seconds, _) = chance.choice(list(TASKS.items()))
        ended = now - timedelta(seconds=3 + k * 2.1)
        FinishedJobFactory(
            task=task,
            queue=queue,
            ended_at=ended,
            started_at=ended - timedelta(seconds=chance.lognormvariate(math.log(seconds), 0.4)),
            source_name="checkout/receipt" if "receipt" in task and k % 2 else "",
        )
    for exception, frame, message, task, n in FAILURES:
        for k in reversed(range(n)):
            ended = now - timedelta(minutes=4 + 13 * k + len(frame) % 7)
            job = FinishedJobFactory(
                state="dead",
                task=task,
                attempts=3,
                max_attempts=3,
                lease=3,
                result=None,
                ended_at=ended,
                started_at=ended - timedelta(seconds=10.1),
                error=f"{exception}: {message}",
            )
            AttemptFactory(
                job=job.id,
                lease=3,
                number=3,
                task=task,
                exception=exception,
                frame=frame,
                error=job.error,
                version="4f2c1e9" if k < 2 else "b81d003",
                started_at=ended - timedelta(seconds=10),
                ended_at=ended,
                traceback=TRACEBACK,
                kind="timed_out" if exception == "TimedOut" else "failed",
            )
    FinishedJobFactory(
        state="cancelled", result=None, started_at=None, error="cancelled by anna: the order was withdrawn"
    )


def _dead(now: datetime) -> UUID:
    parent = FinishedJobFactory(
        task="shop.tasks.import_orders",
        origin="POST /orders/, request 7f3a91, user 12 anna",
        ended_at=now - timedelta(hours=1),
    )
    arguments: dict[str, Any] = {
        "args": [{"order": 1042, "lines": [{"sku": "NB-A5-DOT", "quantity": 2}, {"sku": "INK-BLUE", "quantity": 1}]}],
        "kwargs": {"card": "4111 1111 1111 1111", "express": True, "note": None},
    }
    began = now - timedelta(minutes=9)
    job = FinishedJobFactory(
        state="dead",
        task="shop.tasks.confirm_with_supplier",
        source_name="checkout/supplier",
        attempts=3,
        max_attempts=3,
        lease=4,
        result=None,
        parent=parent.id,
        depth=1,
        arguments=json.dumps(arguments),
        trace='{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',
        idempotency_key="order-1042",
        enqueued_at=began,
        ready_at=began + timedelta(seconds=131),
        started_at=began + timedelta(seconds=132),
        ended_at=began + timedelta(seconds=142),
        error="httpx.ConnectTimeout: timed out after 10 s",
        worker=3,
    )
    for number, start in ((1, 0.4), (2, 15.9), (3, 132)):
        AttemptFactory(
            job=job.id,
            number=number,
            lease=number + 1,
            error=job.error,
            exception="httpx.ConnectTimeout",
            frame="shop/tasks.py in ask_supplier",
            task=job.task,
            traceback=TRACEBACK,
            version="4f2c1e9",
            worker=3,
            started_at=began + timedelta(seconds=start),
            ended_at=began + timedelta(seconds=start + 10),
        )
        for k, (level, logger, text) in enumerate(LOG):
            LogLineFactory(
                job=job.id,
                lease=number + 1,
                number=number,
                level=level,
                logger=logger,
                text=text,
                task=job.task,
                at=began + timedelta(seconds=start + 0.1 + 3.2 * k),
            )
    NoteFactory(job=job.id, at=began - timedelta(minutes=3), by="anna", reason="the supplier said it is mended")
    JobFactory(parent=job.id, task="shop.tasks.tell_customer", scheduled=True)
    return UUID(str(job.id))


def _running(now: datetime) -> UUID:
    jobs = [
        JobFactory(
            running=True,
            worker=3 + k // 4,
            claimed_at=now - timedelta(seconds=2 + 17 * k),
            enqueued_at=now - timedelta(seconds=4 + 17 * k),
            ready_at=now - timedelta(seconds=3 + 17 * k),
            queue=queue,
            task=task,
        )
        for k, (task, queue) in enumerate(
            [
                ("shop.tasks.sales_report", "reports"),
                ("shop.tasks.confirm_with_supplier", "default"),
                ("shop.tasks.make_thumbnail", "default"),
                ("shop.tasks.send_receipt", "mail"),
                ("shop.tasks.sync_stock", "default"),
            ]
        )
    ]
    ProgressFactory(
        job=jobs[0].id, done=6214, total=9350, text="orders of October", began_at=now - timedelta(seconds=31), at=now
    )
    for k, text in enumerate(("counting orders", "9,350 orders to read", "half of them read")):
        LogLineFactory(
            job=jobs[0].id, text=text, at=now - timedelta(seconds=30 - 9 * k), task=jobs[0].task, logger="shop.reports"
        )
    told = [[k % 4, str(job.id), 2.0 + 17 * k] for k, job in enumerate(jobs)]
    started = now - timedelta(minutes=21)
    WorkerFactory(id=3, name="web-1:4120", slots=4, version="4f2c1e9", running=json.dumps(told[:4]), started_at=started)
    WorkerFactory(id=4, name="web-2:3981", slots=4, version="4f2c1e9", running=json.dumps(told[4:]), started_at=started)
    WorkerFactory(
        id=5,
        name="batch:77",
        slots=2,
        queues="reports",
        version="b81d003",
        wish="quiet",
        started_at=now - timedelta(hours=9),
    )
    return UUID(str(jobs[0].id))
