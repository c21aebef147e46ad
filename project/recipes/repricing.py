"""New prices for all products: one job each, all of them or none."""

from __future__ import annotations

from django.db import transaction

from jobs import JobHandle, task
from project.shop.models import Product


@task(max_attempts=2)
def set_price(product_id: int, price: int) -> None:
    """The new price itself and not "5 % more": done twice, that would be 10."""
    Product.objects.filter(pk=product_id).update(price=price)


@transaction.atomic
def reprice(percent: int) -> list[JobHandle[None]]:
    prices = Product.objects.values_list("pk", "price")
    return set_price.using(source_name=f"reprice/{percent}").enqueue_many(
        (pk, price + round(price * percent / 100)) for pk, price in prices
    )
