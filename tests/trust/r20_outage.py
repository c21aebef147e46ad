"""R20. No relay for a long time, and then a million messages at once: drained fast, in little memory, and nobody waits.

Full size: 1,000,000 messages.
"""

from __future__ import annotations

import time
from pathlib import Path

from django.db import transaction

from tests.support.processes import named
from tests.trust.ground import Ground
from tests.trust.models import Order
from tests.trust.report import Report, percentile
from tests.trust.tasks import works


def business(ground: Ground, enough: object) -> list[float]:
    """Milliseconds of transactions of one order and one job, one after another until it is enough."""
    took: list[float] = []
    while not enough(took):  # type: ignore[operator]
        began = time.monotonic()
        with transaction.atomic():
            Order.objects.create(number=len(took), job=works.enqueue(len(took)).id)
        took.append((time.monotonic() - began) * 1000)
        time.sleep(0.002)
    return took


def megabytes(pid: int) -> float:
    return (
        next(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line)
        / 1024
    )


def row(ground: Ground, report: Report) -> None:
    messages = ground.size(1_000_000, 20_000)
    idle = business(ground, lambda took: len(took) >= 500)
    for first in range(0, messages, 20_000):
        works.enqueue_many([(n,) for n in range(first, min(first + 20_000, messages))])
    waiting = ground.value("SELECT count(*) FROM outbox_message")
    worker = ground.worker("--slots", "1", "--queues", "mail")  # it relays and runs nothing
    relay = ground.wait(lambda: named(worker.pid).get("relay"), 30)
    before, began = megabytes(relay), time.monotonic()
    peak = before
    arrived: list[float] = []

    def drained(took: list[float]) -> bool:
        nonlocal peak
        if len(took) % 25 == 0:
            peak = max(peak, megabytes(relay))
            if not ground.sql(
                "SELECT 1 FROM outbox_message WHERE id <= (SELECT max(id) - 100 FROM outbox_message) LIMIT 1"
            ):
                arrived.append(time.monotonic())
        return bool(arrived) or time.monotonic() - began > 300

    meanwhile = business(ground, drained)
    seconds = time.monotonic() - began
    report.figure("messages", waiting)
    report.must("messages a second", waiting / seconds, ">=", 10_000)
    report.figure("business p99 in ms, without a relay", percentile(idle, 0.99))
    report.figure("business p99 in ms, meanwhile", percentile(meanwhile, 0.99))
    report.must(
        "business p99 meanwhile, as a multiple",
        percentile(meanwhile, 0.99) / max(2.0, percentile(idle, 0.99)),
        "<=",
        2.0,
    )
    report.must("megabytes the relay grew by", peak - before, "<=", 50.0)
    ground.wait(lambda: not ground.value("SELECT count(*) FROM outbox_message"), 30)
    report.must("jobs", ground.value("SELECT count(*) FROM jobs_job"), "==", waiting + len(meanwhile))
