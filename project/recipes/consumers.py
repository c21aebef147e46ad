"""Who does something when an order is placed; each for itself."""

from __future__ import annotations

from django.conf import settings
from django.db.models import F

from jobs import JobContext, consumer
from project.recipes.letters import send_letter
from project.recipes.models import Points
from project.recipes.orders import OrderCreated, order_created
from project.recipes.web import post_json


@consumer(order_created, priority="high", max_attempts=3)
def thank_customer(payload: OrderCreated) -> None:
    send_letter(payload["email"], "Thank you", f"Dear {payload['customer']},\n\nwe have your order.\n")


@consumer(order_created, atomic=True, max_attempts=3)
def give_points(payload: OrderCreated) -> None:
    """Its writes and its end commit together, so that nobody gets points twice."""
    Points.objects.get_or_create(email=payload["email"])
    Points.objects.filter(email=payload["email"]).update(points=F("points") + payload["total"] // 100)


@consumer(order_created, delay=0.05, max_attempts=5, timeout=15, takes_context=True)
def tell_warehouse(context: JobContext, payload: OrderCreated) -> None:
    """A few seconds later: who changes the mind does it at once."""
    headers = {"Idempotency-Key": context.idempotency_key, "Event": str(context.event_id)}
    post_json(settings.WAREHOUSE_URL, {"pack": payload["order"]}, headers=headers, timeout=10)
