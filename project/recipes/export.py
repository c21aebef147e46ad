"""An export: a file made in the background, with a bar meanwhile and a letter when it is there."""

from __future__ import annotations

import csv
from io import StringIO

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from jobs import JobContext, task
from project.recipes.letters import send_letter
from project.shop.models import Order

ROWS = 500


@task(takes_context=True, priority="low", max_attempts=2)
def export_orders(context: JobContext, email: str) -> str:
    """Write all orders to a file; returns its name."""
    total, text = Order.objects.count(), StringIO()
    writer = csv.writer(text)
    writer.writerow(["order", "customer", "total"])
    for done, order in enumerate(Order.objects.order_by("pk").iterator(ROWS), 1):
        writer.writerow([order.number, order.customer, order.total])
        context.progress(done, total, "orders")
    # Named after the job: a second attempt replaces the file of the first.
    name = f"exports/{context.job_id}.csv"
    default_storage.delete(name)
    default_storage.save(name, ContentFile(text.getvalue()))
    send_export.enqueue(email, name)
    return name


@task(max_attempts=3)
def send_export(email: str, name: str) -> None:
    send_letter(email, "Your export is ready", f"Fetch it here: {default_storage.url(name)}\n")
