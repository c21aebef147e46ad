"""Send later, unless it was done meanwhile: whether it still makes sense is asked when the time has come."""

from __future__ import annotations

from django.db import transaction

from jobs import task
from project.recipes.letters import send_letter
from project.shop.models import Order, SupplierCall
from project.shop.tasks import confirm_with_supplier

SUPPLIER = "orders@supplier.example.com"


def unconfirmed(order_id: int) -> bool:
    return not SupplierCall.objects.filter(order=order_id).exists()


@task(max_attempts=3, only_if=unconfirmed)
def chase_supplier(order_id: int) -> None:
    order = Order.objects.get(pk=order_id)
    send_letter(SUPPLIER, f"Order {order.number}", "We are still waiting for your confirmation.\n")


@transaction.atomic
def ask_supplier(order: Order) -> None:
    confirm_with_supplier.enqueue(order.pk)
    chase_supplier.using(delay=60).enqueue(order.pk)
