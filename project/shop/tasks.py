"""What the shop has done in the background. A worker can die at any line, so a task may run twice: each says
what that would do."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from email.utils import make_msgid
from io import BytesIO
from pathlib import Path
from typing import NoReturn
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.mail import EmailMessage
from django.db.models import Count, Sum
from django.template.loader import render_to_string
from django.utils import timezone
from PIL import Image, ImageOps

from jobs import GiveUp, JobContext, every, task
from project.shop.models import Order, OrderLine, Product, Rate, SalesReport, SupplierCall

THUMBNAIL_SIZE = (640, 480)

RECEIPT_SUBJECT = "Receipt for order {}"

# The supplier of the demo is next door: a proxy in the environment would look for it elsewhere.
OPENER = build_opener(ProxyHandler({}))

SUPPLIER_PATIENCE = 10.0
"""Seconds the supplier gets to answer."""


class SupplierBusy(Exception):
    """The supplier answered 503: ask again later."""


@task(priority="high", max_attempts=3)
def send_receipt(order_id: int) -> None:
    """Mail the receipt. Nothing in here holds back a second one, so that the demo can count them."""
    order = Order.objects.get(pk=order_id)
    lines = order.lines.select_related("product").order_by("pk")
    EmailMessage(
        subject=RECEIPT_SUBJECT.format(order.reference),
        body=render_to_string("shop/receipt.txt", {"order": order, "lines": lines}),
        to=[order.email],
        # Django would ask the DNS for this machine's name, which takes seconds where nobody answers.
        headers={"Message-ID": make_msgid(domain="example.com")},
    ).send()


@task(takes_context=True, max_attempts=5, backoff=[0.3, 0.6, 1.2, 2.4], retry_on=(SupplierBusy, OSError))
def confirm_with_supplier(context: JobContext, order_id: int) -> str:
    """Have the supplier confirm the order; returns its number there. Asked twice under one key is once."""
    known = SupplierCall.objects.filter(order_id=order_id).first()
    if known is not None:
        return known.reference
    order = Order.objects.get(pk=order_id)
    context.progress(1, 3, "asking the supplier")
    reference = ask_supplier(str(order.reference), context)
    context.progress(2, 3, "writing the confirmation down")
    context.log(f"the supplier calls it {reference}")
    call, _ = SupplierCall.objects.get_or_create(
        order=order, defaults={"reference": reference, "attempt": context.attempt}
    )
    return call.reference


def ask_supplier(order: str, context: JobContext) -> str:
    """Raises SupplierBusy, OSError or GiveUp."""
    request = Request(  # noqa: S310  the address is a setting
        settings.SUPPLIER_URL,
        data=json.dumps({"order": order}).encode(),
        headers={
            "Content-Type": "application/json",
            "Idempotency-Key": context.idempotency_key,
            "Attempt": str(context.attempt),
        },
        method="POST",
    )
    try:
        with OPENER.open(request, timeout=SUPPLIER_PATIENCE) as answer:
            return str(json.load(answer)["reference"])
    except HTTPError as error:
        with error:
            if error.code == 503:
                raise SupplierBusy("the supplier is busy (503)") from None
            raise GiveUp(f"the supplier refused the order ({error.code})") from None


@task(max_attempts=3)
def make_thumbnail(product_id: int) -> str | None:
    """Make the small picture; returns its name. Made twice it is the same picture under the same name."""
    product = Product.objects.get(pk=product_id)
    source = product.picture.name
    if not source:
        return None
    with product.picture.open() as file, Image.open(file) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        small = ImageOps.fit(upright, THUMBNAIL_SIZE, Image.Resampling.LANCZOS)
    data = BytesIO()
    small.save(data, "JPEG", quality=85, optimize=True, progressive=True)
    field = product.thumbnail
    name = field.field.generate_filename(product, f"{product.slug}-{Path(source).stem}.jpg")
    field.storage.delete(name)
    name = field.storage.save(name, ContentFile(data.getvalue()))
    # Not save(): another picture may have been uploaded meanwhile, and its own job makes its thumbnail.
    Product.objects.filter(pk=product.pk, picture=source).update(thumbnail=name)
    return name


@every(hours=4, overlap="skip")
@task(max_attempts=5, backoff=[30, 120, 600, 1800], retry_on=(OSError,))
def fetch_rates() -> dict[str, str]:
    """Ask the bank what a euro is worth. A second run writes the same rows again."""
    with OPENER.open(settings.RATES_URL, timeout=SUPPLIER_PATIENCE) as answer:
        rates = {str(currency)[:3]: Decimal(str(rate)) for currency, rate in json.load(answer)["rates"].items()}
    if not rates or any(rate <= 0 for rate in rates.values()):
        raise GiveUp("the bank answered nonsense; the old rates stay")
    Rate.objects.bulk_create(
        [Rate(currency=currency, per_euro=rate, as_of=timezone.now()) for currency, rate in rates.items()],
        update_conflicts=True,
        unique_fields=["currency"],
        update_fields=["per_euro", "as_of"],
    )
    return {currency: str(rate) for currency, rate in rates.items()}


@every("0 2 * * *", timezone="Europe/Paris", tick_as="at", overlap="skip")
@task(priority="low", max_attempts=3)
def nightly_report(at: str) -> dict[str, int]:
    """Mail the owner what was sold on the day before `at`, on the shop's own clock. Run late it is the same day."""
    night = datetime.fromisoformat(at).astimezone(ZoneInfo("Europe/Paris"))
    today = night.replace(hour=0, minute=0, second=0, microsecond=0)
    day = Order.objects.filter(placed_at__gte=today - timedelta(days=1), placed_at__lt=today)
    sums = day.aggregate(orders=Count("pk"), revenue=Sum("total", default=0))
    EmailMessage(
        subject=f"Sales of {today - timedelta(days=1):%A, %d %B %Y}",
        body=f"{sums['orders']:,} orders, {sums['revenue'] / 100:,.2f} EUR\n",
        to=[settings.DEFAULT_FROM_EMAIL],
        headers={"Message-ID": make_msgid(domain="example.com")},
    ).send()
    return {"orders": sums["orders"], "revenue": sums["revenue"]}


@task(priority="low")
def sales_report() -> dict[str, int]:
    """Add up all orders. A second run is a second report, of its own moment."""
    lines = OrderLine.objects
    sums = Order.objects.aggregate(orders=Count("pk"), revenue=Sum("total", default=0))
    items = lines.aggregate(items=Sum("quantity", default=0))["items"]
    best = lines.values("product__name").annotate(sold=Sum("quantity")).order_by("-sold").first()
    report = SalesReport.objects.create(
        **sums, items=items, best_seller=best["product__name"] if best is not None else ""
    )
    return {"orders": report.orders, "items": report.items, "revenue": report.revenue}


@task(timeout=2, max_attempts=1)
def never_ends() -> NoReturn:
    """Run until it is killed: it takes no hint."""
    while True:
        with suppress(BaseException):
            while True:
                pass
