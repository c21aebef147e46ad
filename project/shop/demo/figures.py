"""What really happened: read from the tables and the mail files, and held against what customers were told.

Nothing here was counted while the demo ran: a counter would believe the code that feeds it.
"""

from __future__ import annotations

import email
import email.policy
import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connection
from django.db.models import F, Max, Min, Sum

from jobs import Task
from jobs.models import Attempt, FinishedJob, Job, State
from outbox.models import Message, SetAsideMessage
from project.shop.models import Order, OrderLine, Product, SalesReport, SupplierCall
from project.shop.ordering import REPORT_EVERY
from project.shop.tasks import RECEIPT_SUBJECT, confirm_with_supplier, never_ends, send_receipt

# Between two messages in one file: Django appends to a file whose name two processes happen to agree on.
BETWEEN_MESSAGES = b"\n" + b"-" * 79 + b"\n"

SUBJECT = re.compile(RECEIPT_SUBJECT.format("([0-9a-f-]{36})"))

JSON_KEYS = (
    "orders_committed",
    "orders_rolled_back",
    "receipts",
    "receipts_lost",
    "receipts_duplicated",
    "receipts_for_rolled_back",
    "retried",
    "timed_out",
    "dead",
    "seconds",
)


@dataclass(frozen=True)
class Told:
    """What the customers know: the references they were told are placed, and those they were told are not."""

    placed: frozenset[str]
    refused: frozenset[str]
    uploads: int = 0
    endless: int = 0
    """Jobs that never end, enqueued beside the orders."""
    pieces: int = 0
    """What `pieces` said at the start."""


@dataclass
class Figures:
    """The outcome. It is good when there are no problems."""

    orders_committed: int
    orders_rolled_back: int
    receipts: int
    receipts_lost: int
    receipts_duplicated: int
    receipts_for_rolled_back: int
    retried: int
    timed_out: int
    dead: int
    jobs: int
    working: timedelta
    """From the first job enqueued to the last one ended."""
    confirmations: int
    thumbnails: int
    reports: int
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def jobs_per_second(self) -> float:
        return self.jobs / max(self.working.total_seconds(), 0.001)

    def as_json(self) -> dict[str, int | float]:
        values = asdict(self)
        return {key: values[key] for key in JSON_KEYS}


def order_numbers() -> int:
    """How many numbers for orders were ever given out: a rollback gives back everything but its number."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence('shop_order', 'id')")
        (sequence,) = cursor.fetchone()
        cursor.execute(f"SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {sequence}")
        (number,) = cursor.fetchone()
    return int(number)


def mailed_receipts(folder: Path) -> Counter[str]:
    """How many receipts lie in the mail files, by the order's reference."""
    found: Counter[str] = Counter()
    for path in folder.glob("*.log"):
        for message in path.read_bytes().split(BETWEEN_MESSAGES):
            parsed = email.message_from_bytes(message, policy=email.policy.default)
            if (match := SUBJECT.fullmatch(parsed.get("Subject", ""))) is not None:
                found[match[1]] += 1
    return found


def examine(data: Path, told: Told, *, numbers_before: int = 0) -> Figures:
    """Read the tables and the folder; `numbers_before` is what `order_numbers` said at the start."""
    orders = {str(reference) for reference in Order.objects.values_list("reference", flat=True)}
    receipts = mailed_receipts(data / "mail")
    names = Product.objects.exclude(thumbnail="").values_list("thumbnail", flat=True)
    span = FinishedJob.objects.aggregate(start=Min("enqueued_at"), end=Max("ended_at"))
    figures = Figures(
        orders_committed=len(orders),
        orders_rolled_back=order_numbers() - numbers_before - len(orders),
        receipts=receipts.total(),
        receipts_lost=len(orders - receipts.keys()),
        receipts_duplicated=sum(count - 1 for count in receipts.values()),
        receipts_for_rolled_back=sum(count for order, count in receipts.items() if order not in orders),
        retried=FinishedJob.objects.filter(attempts__gt=1).count(),
        timed_out=Attempt.objects.filter(kind=Attempt.Kind.TIMED_OUT).count(),
        dead=FinishedJob.objects.filter(state=State.DEAD).count(),
        jobs=FinishedJob.objects.count(),
        working=span["end"] - span["start"] if span["end"] else timedelta(),
        confirmations=SupplierCall.objects.count(),
        thumbnails=sum((data / "media" / name).is_file() for name in names),
        reports=SalesReport.objects.count(),
    )
    figures.problems = [*_about_receipts(figures), *_about_orders(orders, told), *_about_jobs(figures, told)]
    return figures


def _about_receipts(figures: Figures) -> list[str]:
    return _those(
        (figures.receipts_lost, "committed orders have no receipt"),
        (figures.receipts_duplicated, "receipts were sent again"),
        (figures.receipts_for_rolled_back, "receipts were sent for orders that were rolled back"),
    )


def _about_orders(orders: set[str], told: Told) -> list[str]:
    return _those(
        (len(told.placed - orders), "customers were told that their order is placed, and it is not there"),
        (len(told.refused & orders), "customers were told that nothing was ordered, and there is an order"),
        (len(orders - told.placed - told.refused), "orders are there that nobody was told about"),
    )


def _about_jobs(figures: Figures, told: Told) -> list[str]:
    reports_due = Order.objects.annotate(rest=F("pk") % REPORT_EVERY).filter(rest=0).count()
    orders = Counter(Order.objects.values_list("pk", flat=True))
    receipts, calls = _ended_for(send_receipt), _ended_for(confirm_with_supplier)
    dead = FinishedJob.objects.filter(state=State.DEAD).exclude(task=never_ends.name).count()
    left = Message.objects.count() + Job.objects.count()
    return _those(
        (abs(figures.orders_rolled_back - len(told.refused)), "rollbacks too many or too few"),
        ((orders - receipts).total(), "orders have no receipt job that ended"),
        ((receipts - orders).total(), "receipt jobs are too many, or for an order that does not exist"),
        ((orders - calls).total(), "orders have no supplier job that ended"),
        ((calls - orders).total(), "supplier jobs are too many, or for an order that does not exist"),
        (abs(figures.confirmations - figures.orders_committed), "supplier confirmations too many or too few"),
        (abs(figures.reports - reports_due), "sales reports too many or too few"),
        (abs(figures.thumbnails - told.uploads), "thumbnails too many or too few"),
        (abs(figures.timed_out - told.endless), "kills too many or too few"),
        (dead, "jobs died that should not have"),
        (SetAsideMessage.objects.count(), "messages were set aside"),
        (left, "messages or jobs are left over"),
        (abs(pieces() - told.pieces), "pieces are neither on the shelf nor in an order"),
    )


def _ended_for(task: Task[..., Any]) -> Counter[int]:
    """How many jobs of the task ended, by the number of their order, which is their first argument."""
    texts = FinishedJob.objects.filter(task=task.name).values_list("arguments", flat=True)
    return Counter(json.loads(text)["args"][0] for text in texts)


def pieces() -> int:
    """What is on the shelf and what is in orders, together: it never changes."""
    shelf = Product.objects.aggregate(pieces=Sum("stock", default=0))["pieces"]
    sold = OrderLine.objects.aggregate(pieces=Sum("quantity", default=0))["pieces"]
    return int(shelf) + int(sold)


def _those(*found: tuple[int, str]) -> list[str]:
    return [f"{count:,} {what}" for count, what in found if count]
