"""An order has been placed: said once, in its transaction, to whoever consumes it."""

from __future__ import annotations

from typing import TypedDict

from jobs import Published, event, publish
from project.shop.models import Order


class OrderCreated(TypedDict):
    order: int
    customer: str
    email: str
    total: int


order_created = event("order.created", schema=OrderCreated, redact=["email"])


def announce(order: Order) -> Published:
    """Call it in the transaction that makes the order."""
    return publish(
        order_created,
        {"order": order.pk, "customer": order.customer, "email": order.email, "total": order.total},
    )
