"""Rows of the demo shop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import factory
from django.db import transaction

from jobs.ids import new_id
from outbox.models import Message
from project.shop.demo.figures import Figures, Told, examine, order_numbers, pieces
from project.shop.models import Order, OrderLine, Product, SupplierCall
from project.shop.tasks import RECEIPT_SUBJECT, confirm_with_supplier, never_ends, send_receipt
from tests.factories import AttemptFactory, FinishedJobFactory


class ProductFactory(factory.django.DjangoModelFactory[Product]):
    class Meta:
        model = Product

    name = factory.Sequence(lambda n: f"Thing {n}")
    slug = factory.Sequence(lambda n: f"thing-{n}")
    price = 250
    stock = 10


class OrderFactory(factory.django.DjangoModelFactory[Order]):
    class Meta:
        model = Order

    customer = "Ada Lovelace"
    email = "ada@example.com"
    total = 500


class OrderLineFactory(factory.django.DjangoModelFactory[OrderLine]):
    class Meta:
        model = OrderLine

    order = factory.SubFactory(OrderFactory)
    product = factory.SubFactory(ProductFactory)
    quantity = 2
    price = 250


class SupplierCallFactory(factory.django.DjangoModelFactory[SupplierCall]):
    class Meta:
        model = SupplierCall

    order = factory.SubFactory(OrderFactory)
    reference = "PP-1"
    attempt = 1


def tasks_written() -> list[str]:
    headers = Message.objects.order_by("id").values_list("headers", flat=True)
    return [json.loads(text)["task"].rpartition(".")[2] for text in headers]


class Day:
    """A day in the shop that went well: three orders, one rolled back, one job that never ended."""

    def __init__(self, data: Path) -> None:
        self.data = data
        (data / "mail").mkdir()
        Product.objects.all().delete()
        self.product = ProductFactory(stock=100)
        self.pieces, self.numbers = pieces(), order_numbers()
        self.orders = [self.order() for _ in range(3)]
        self.refused = str(uuid4())
        with transaction.atomic():
            OrderFactory(reference=self.refused)
            transaction.set_rollback(True)
        endless = FinishedJobFactory(task=never_ends.name, state="dead")
        AttemptFactory(job=endless.id, kind="timed_out")

    def order(self) -> Order:
        line = OrderLineFactory(product=self.product, quantity=2)
        Product.objects.update(stock=100 - 2 * Order.objects.count())
        for task in (send_receipt, confirm_with_supplier):
            FinishedJobFactory(task=task.name, arguments=f'{{"args":[{line.order.pk}],"kwargs":{{}}}}')
        SupplierCallFactory(order=line.order)
        self.letter(str(line.order.reference))
        return line.order

    def letter(self, reference: str, name: str = "") -> Path:
        """A mail file as Django's backend writes it."""
        path = self.data / "mail" / f"{name or new_id()}.log"
        subject = RECEIPT_SUBJECT.format(reference)
        with path.open("a") as file:
            file.write(f"Subject: {subject}\nTo: ada@example.com\n\nDear Ada,\n\n{'-' * 79}\n")
        return path

    def told(self, **changes: Any) -> Told:
        known: dict[str, Any] = {
            "placed": frozenset(str(order.reference) for order in self.orders),
            "refused": frozenset([self.refused]),
            "endless": 1,
            "pieces": self.pieces,
        }
        return Told(**{**known, **changes})

    def examined(self, **changes: Any) -> Figures:
        return examine(self.data, self.told(**changes), numbers_before=self.numbers)
