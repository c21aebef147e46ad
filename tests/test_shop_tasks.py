"""The tasks of the demo shop do real work: pictures, letters, reports, and calls to a supplier who is busy."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from jobs import GiveUp, JobContext, Task
from jobs.ids import new_id
from jobs.plan import declared
from project.shop import tasks, views
from project.shop.models import Order, Product, Rate, SalesReport, SupplierCall
from tests.factories_shop import OrderFactory, OrderLineFactory, ProductFactory, tasks_written

if TYPE_CHECKING:  # their places differ between versions
    from pytest_django import Settings
    from pytest_django.live_server_helper import LiveServer

pytestmark = pytest.mark.django_db


def context(task: Task[..., Any], attempt: int) -> JobContext:
    job_id = new_id()
    return JobContext(job_id, str(job_id), attempt, task.max_attempts, task.name, "default", 0, task.name, 0)


# Pictures -----------------------------------------------------------------------------------------


@pytest.fixture
def stage(settings: Settings, tmp_path: Path) -> Path:
    """Visitors may upload, and this is where it goes."""
    settings.DEMO, settings.MEDIA_ROOT = True, str(tmp_path)
    return tmp_path


def a_picture(size: tuple[int, int] = (900, 500), kind: str = "PNG") -> bytes:
    data = BytesIO()
    Image.new("RGB", size, (170, 50, 40)).save(data, kind)
    return data.getvalue()


def upload(client: Client, product: Product, content: bytes, name: str = "new.png") -> Any:
    return client.post(product.get_absolute_url(), {"picture": SimpleUploadedFile(name, content)})


LOOKS = "render_block"
"""A product's page notes in the background that it was looked at."""


def test_an_uploaded_picture_gets_its_thumbnail(stage: Path, client: Client) -> None:
    product = ProductFactory()
    assert "Change the picture" in client.get(product.get_absolute_url()).content.decode()

    answer = upload(client, product, a_picture())

    product.refresh_from_db()
    assert answer.status_code == 302
    assert [name for name in tasks_written() if name != LOOKS] == ["make_thumbnail"]
    assert not product.thumbnail

    name = tasks.make_thumbnail.call(product.pk)
    assert tasks.make_thumbnail.call(product.pk) == name

    product.refresh_from_db()
    assert product.thumbnail.name == name
    assert [path.name for path in (stage / "thumbnails").iterdir()] == [f"{product.slug}-new.jpg"]
    with Image.open(stage / str(name)) as small:
        assert (small.format, small.size) == ("JPEG", (640, 480))
    assert product.thumbnail.url in client.get("/").content.decode()


def test_a_thumbnail_of_an_older_picture_does_not_replace_a_newer_one(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MEDIA_ROOT = str(tmp_path)
    product = ProductFactory(picture=SimpleUploadedFile("old.png", a_picture()))
    fit = tasks.ImageOps.fit

    def another_upload_comes(*args: Any) -> Image.Image:
        Product.objects.filter(pk=product.pk).update(picture="pictures/new.png")
        return fit(*args)

    monkeypatch.setattr(tasks.ImageOps, "fit", another_upload_comes)
    tasks.make_thumbnail.call(product.pk)

    product.refresh_from_db()
    assert not product.thumbnail


def test_no_picture_makes_no_thumbnail() -> None:
    assert tasks.make_thumbnail.call(ProductFactory().pk) is None


@pytest.mark.parametrize("content", [b"", b"not a picture", a_picture()[:200]])
def test_what_is_no_picture_is_refused(stage: Path, client: Client, content: bytes) -> None:
    product = ProductFactory()

    answer = upload(client, product, content)

    assert answer.status_code == 400
    assert "errorlist" in answer.content.decode()
    assert set(tasks_written()) <= {LOOKS}
    assert list(stage.iterdir()) == []


def test_a_picture_that_is_too_big_is_refused(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DEMO = True
    monkeypatch.setattr("project.shop.forms.BIGGEST_PICTURE", 100)

    assert upload(client, ProductFactory(), a_picture()).status_code == 400


def test_pictures_are_for_staff_to_change(
    client: Client, admin_client: Client, settings: Settings, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = str(tmp_path)
    product = ProductFactory()

    assert "Change the picture" not in client.get(product.get_absolute_url()).content.decode()
    assert upload(client, product, a_picture()).status_code == 403
    assert upload(admin_client, product, a_picture()).status_code == 302


def test_a_picture_changed_in_admin_gets_its_thumbnail_too(
    admin_client: Client, settings: Settings, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = str(tmp_path)
    product = ProductFactory()
    fields = {"name": product.name, "slug": product.slug, "price": 1, "stock": 1}

    admin_client.post(f"/admin/shop/product/{product.pk}/change/", fields)
    assert tasks_written() == []

    picture = SimpleUploadedFile("new.png", a_picture())
    admin_client.post(f"/admin/shop/product/{product.pk}/change/", {**fields, "picture": picture})
    assert tasks_written() == ["make_thumbnail"]


# Tasks --------------------------------------------------------------------------------------------


def test_a_receipt_names_its_order() -> None:
    line = OrderLineFactory(product__name="Ink & pen", quantity=3)

    tasks.send_receipt.call(line.order.pk)

    (letter,) = mail.outbox
    assert letter.subject == f"Receipt for order {line.order.reference}"
    assert letter.to == ["ada@example.com"]
    assert "3 x Ink & pen, €\u20092.50 each: €\u20097.50" in letter.body


def test_the_sales_report_adds_up_all_orders() -> None:
    OrderLineFactory(quantity=2, order__total=500)
    OrderLineFactory(quantity=5, order__total=1250, product__name="Quill")

    assert tasks.sales_report.call() == {"orders": 2, "items": 7, "revenue": 1750}

    report = SalesReport.objects.get()
    assert (report.orders, report.revenue, report.best_seller) == (2, 1750, "Quill")


def test_a_sales_report_before_the_first_order() -> None:
    assert tasks.sales_report.call() == {"orders": 0, "items": 0, "revenue": 0}


def test_the_job_that_never_ends_has_a_limit_of_its_own() -> None:
    assert (tasks.never_ends.timeout, tasks.never_ends.max_attempts) == (2, 1)


# What runs by itself ------------------------------------------------------------------------------


def test_rates_are_fetched_every_four_hours_and_shown_with_the_price(
    live_server: LiveServer, settings: Settings, client: Client
) -> None:
    settings.RATES_URL = f"{live_server.url}/rates/"
    product = ProductFactory(price=1000)
    assert "About" not in client.get(product.get_absolute_url()).content.decode()

    tasks.fetch_rates.call()
    told = tasks.fetch_rates.call()

    assert {rate.currency: str(rate.per_euro.normalize()) for rate in Rate.objects.all()} == {
        currency: str(Decimal(rate).normalize()) for currency, rate in told.items()
    }
    assert f"{Rate.objects.get(pk='JPY').of(1000)}" in client.get(product.get_absolute_url()).content.decode()
    plan = declared["project.shop.tasks.fetch_rates"]
    assert plan.rhythm.sentence == "Every 4 hours"


def test_a_bank_that_is_not_there_is_asked_again(settings: Settings) -> None:
    settings.RATES_URL = "http://127.0.0.1:1/rates/"

    with pytest.raises(tasks.fetch_rates.retry_on):
        tasks.fetch_rates.call()


def test_the_nightly_report_is_of_the_day_before_its_tick_on_the_clock_of_the_shop() -> None:
    paris = ZoneInfo("Europe/Paris")
    for day, hour in ((28, 0), (28, 23), (29, 0), (27, 23)):
        OrderFactory(placed_at=datetime(2026, 3, day, hour, 30, tzinfo=paris), total=1000 + day)
    plan = declared["project.shop.tasks.nightly_report"]
    tick = plan.rhythm.after(datetime(2026, 3, 28, 12, tzinfo=paris))
    assert tick is not None and plan.tick_as == "at"

    told = tasks.nightly_report.call(tick.isoformat())

    assert told == {"orders": 2, "revenue": 2056}
    (letter,) = mail.outbox
    assert letter.subject == "Sales of Saturday, 28 March 2026" and "2 orders, 20.56 EUR" in letter.body


# The supplier -------------------------------------------------------------------------------------


def an_order(*, busy: bool) -> Order:
    """One whose first call to the supplier meets it busy, or not."""
    references = iter(uuid4, None)
    return OrderFactory(reference=next(ref for ref in references if views.is_busy(str(ref), 1) is busy))


@pytest.mark.django_db(transaction=True)
def test_a_busy_supplier_is_asked_again(live_server: LiveServer, settings: Settings) -> None:
    settings.SUPPLIER_URL = f"{live_server.url}/supplier/"
    order, confirm = an_order(busy=True), tasks.confirm_with_supplier

    with pytest.raises(tasks.SupplierBusy, match="503") as failure:
        confirm.func(context(confirm, 1), order.pk)
    assert not SupplierCall.objects.exists()
    assert isinstance(failure.value, confirm.retry_on)

    reference = confirm.func(context(confirm, 3), order.pk)
    call = SupplierCall.objects.get(order=order)
    assert (call.reference, call.attempt) == (reference, 3)

    settings.SUPPLIER_URL = "http://127.0.0.1:9/nobody/"
    assert confirm.func(context(confirm, 1), order.pk) == reference


@pytest.mark.django_db(transaction=True)
def test_what_the_supplier_refuses_is_not_tried_again(live_server: LiveServer, settings: Settings) -> None:
    settings.SUPPLIER_URL = f"{live_server.url}/supplier/"

    with pytest.raises(GiveUp, match="400"):
        tasks.ask_supplier("no order", context(tasks.confirm_with_supplier, 1))


def test_a_supplier_that_is_not_there_is_tried_again(settings: Settings) -> None:
    settings.SUPPLIER_URL = "http://127.0.0.1:9/nobody/"

    with pytest.raises(tasks.confirm_with_supplier.retry_on):
        tasks.confirm_with_supplier.call(OrderFactory().pk)


def test_the_supplier_is_busy_for_one_call_in_five_and_not_for_long() -> None:
    orders = [str(UUID(int=n)) for n in range(2000)]

    assert 300 < sum(views.is_busy(order, 1) for order in orders) < 500
    assert not any(views.is_busy(order, 3) for order in orders)
    assert [views.is_busy(order, 1) for order in orders] == [views.is_busy(order, 1) for order in orders]


def test_the_supplier_answers_the_same_to_the_same_key(client: Client) -> None:
    def ask(key: str) -> str:
        headers = {"Idempotency-Key": key, "Attempt": "3"}
        body = json.dumps({"order": str(uuid4())})
        return str(client.post("/supplier/", body, "application/json", headers=headers).json()["reference"])

    assert ask("a") == ask("a") != ask("b")


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"order": 7}', '{"order": "x"}', "\ud800"])
def test_the_supplier_refuses_what_it_cannot_read(client: Client, body: str) -> None:
    answer = client.post(
        "/supplier/",
        body.encode(errors="surrogatepass"),
        "application/json",
        headers={"Idempotency-Key": "a", "Attempt": "1"},
    )

    assert answer.status_code == 400
    assert client.get("/supplier/").status_code == 405
