"""How the jobs of an order are doing, in a customer's words. Read only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.http import HttpRequest

from jobs import JobHandle
from jobs.declare import registry
from jobs.errors import JobDoesNotExist
from jobs.models import State
from jobs.status import token_of
from project.shop.models import Order, OrderJob
from project.shop.tasks import confirm_with_supplier, sales_report, send_receipt

TITLES = {
    send_receipt.name: "Receipt by e-mail",
    confirm_with_supplier.name: "Confirmation from the supplier",
    sales_report.name: "Sales report over all orders",
}

MEANINGS = {
    State.WRITTEN: "Committed together with the order; on its way to the queue.",
    State.SET_ASIDE: "Could not be delivered. Somebody will look at it.",
    State.SCHEDULED: "Waits for its time.",
    State.READY: "Waits for a free worker.",
    State.RUNNING: "Is being done right now.",
    State.RETRYING: "Did not work yet, and will be tried again by itself.",
    State.SUCCEEDED: "Done.",
    State.DEAD: "Failed for good. Somebody will look at it.",
    State.CANCELLED: "Cancelled by a person.",
}


class Progress(NamedTuple):
    """One job as the order's page shows it."""

    title: str
    state: str
    meaning: str
    error: str
    attempts: int
    is_over: bool
    token: str = ""
    """For the address that says how far it is; empty where nobody knows it any more."""


def belongs_to_an_order(request: HttpRequest, job: JobHandle[Any]) -> bool:
    """Whose status a visitor may ask for: only jobs that some order shows. The shop has no logins to ask further."""
    return OrderJob.objects.filter(job=job.id).exists()


def progress_of(order: Order) -> Iterator[Progress]:
    """Each job of the order; one that is nowhere any more has ended and left the history."""
    for known in order.jobs.all():
        title = TITLES.get(known.task, known.task)
        task = registry.get(known.task)
        try:
            handle = task.get_result(known.job) if task is not None else None
        except JobDoesNotExist:
            handle = None
        if handle is None:
            yield Progress(title, "no longer kept", "It ended long ago.", "", 0, True)
            continue
        state, over = handle.status, handle.is_finished or handle.status is State.SET_ASIDE
        # The error of the last attempt stays with a job that succeeded after it; by then it is history.
        error = handle.error if state in (State.RETRYING, State.DEAD) else ""
        yield Progress(title, state.label, MEANINGS[state], error, handle.attempts, over, token_of(handle))
