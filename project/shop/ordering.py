"""Place an order: one transaction writes everything, the jobs included, or nothing at all.

It takes what the customer asked for; it leaves the order, its lines, less stock and the messages of its jobs.
A crash at any point here is a rollback: no order, no missing stock, no receipt for something nobody bought.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from jobs import JobHandle
from project.shop.models import Order, OrderJob, OrderLine, Product
from project.shop.tasks import confirm_with_supplier, make_thumbnail, sales_report, send_receipt

REPORT_EVERY = 100


class OutOfStock(Exception):
    """Somebody else was faster, or somebody wants very much."""

    def __init__(self, product: Product, wanted: int) -> None:
        super().__init__(f'We do not have {wanted} of "{product.name}" any more. Please choose fewer.')


class PaymentFailed(Exception):
    """Staged by the demo, after everything has been written and enqueued."""


@dataclass(frozen=True)
class Wish:
    """What a customer asks for."""

    reference: UUID
    customer: str
    email: str
    basket: list[tuple[Product, int]]
    """Which and how many."""
    payment_fails: bool = False


def place_order(wish: Wish) -> Order:
    """Raises OutOfStock or PaymentFailed; then nothing has happened."""
    # Everybody takes products in the same order, so no two orders wait for each other.
    basket = sorted(wish.basket, key=lambda entry: entry[0].pk)
    with transaction.atomic():
        order = Order.objects.create(
            reference=wish.reference,
            customer=wish.customer,
            email=wish.email,
            total=sum(product.price * quantity for product, quantity in basket),
        )
        OrderLine.objects.bulk_create(
            OrderLine(order=order, product=product, quantity=quantity, price=product.price)
            for product, quantity in basket
        )
        for product, quantity in basket:
            take_stock(product, quantity)
        enqueue_jobs(order)
        if wish.payment_fails:
            raise PaymentFailed
    return order


def take_stock(product: Product, quantity: int) -> None:
    # The filter is the check and the row count the answer: between a read and a write somebody else may buy.
    if not Product.objects.filter(pk=product.pk, stock__gte=quantity).update(stock=F("stock") - quantity):
        raise OutOfStock(product, quantity)


def enqueue_jobs(order: Order) -> None:
    handles: list[JobHandle[Any]] = [send_receipt.enqueue(order.pk), confirm_with_supplier.enqueue(order.pk)]
    # By number and not by count(*): orders that are placed at the same time need not know of each other.
    if order.pk % REPORT_EVERY == 0:
        handles.append(sales_report.enqueue())
    remembered = (OrderJob(order=order, job=handle.id, task=handle.task.name) for handle in handles)
    OrderJob.objects.bulk_create(remembered)


@transaction.atomic
def change_picture(product: Product) -> None:
    """Keep a newly uploaded picture and have its thumbnail made."""
    product.save(update_fields=["picture"])
    make_thumbnail.enqueue(product.pk)
