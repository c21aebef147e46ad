"""The demo shop: an order is one transaction, its pages can be looked at, its tasks do real work."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from django.db import connections
from django.test import Client

from jobs.ids import new_id
from jobs.notebook import notebook
from jobs.recipe import RENDER
from outbox.models import Message
from project.shop import ordering, tasks
from project.shop.models import Order, OrderJob, OrderLine, Product, SalesReport, SupplierCall
from project.shop.ordering import OutOfStock, Wish, place_order
from project.shop.templatetags.shop import money
from tests.factories import FinishedJobFactory, JobFactory
from tests.factories_shop import OrderFactory, OrderLineFactory, ProductFactory, tasks_written
from tests.support.blocks import work
from tests.support.sql import a_cursor

if TYPE_CHECKING:  # their places differ between versions
    from pytest_django import DjangoAssertNumQueries, Settings

pytestmark = pytest.mark.django_db


def form(*basket: tuple[Product, object], **changes: object) -> dict[str, object]:
    """What the browser sends."""
    quantities = {f"quantity-{product.pk}": quantity for product, quantity in basket}
    address = {"customer": "Ada", "email": "ada@example.com", "reference": str(uuid4())}
    return {**address, **quantities, **changes}


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders are counted over all tests, so which of them would ask for a report depends on those before."""
    monkeypatch.setattr(ordering, "REPORT_EVERY", 10**9)


# Placing an order ---------------------------------------------------------------------------------


@pytest.mark.postgresql("xmin: which transaction wrote a row")
@pytest.mark.django_db(transaction=True)
def test_an_order_and_its_jobs_are_written_in_one_transaction(client: Client) -> None:
    pen, ink = ProductFactory(price=4800), ProductFactory(price=1450)

    answer = client.post("/orders/", form((pen, 1), (ink, 2)))

    order = Order.objects.get()
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/orders/{order.reference}/"
    assert order.total == 7700
    assert [(line.product, line.quantity, line.price) for line in order.lines.order_by("pk")] == [
        (pen, 1, 4800),
        (ink, 2, 1450),
    ]
    assert [Product.objects.get(pk=product.pk).stock for product in (pen, ink)] == [9, 8]
    assert tasks_written() == ["send_receipt", "confirm_with_supplier"]
    written = set(Message.objects.values_list("uid", flat=True))
    assert written == set(OrderJob.objects.values_list("job", flat=True))
    assert len(transactions("shop_order", "shop_orderline", "outbox_message", "shop_orderjob")) == 1
    assert transactions("shop_product") >= transactions("shop_order")


def transactions(*tables: str) -> set[str]:
    """The numbers of the transactions that wrote the rows."""
    with a_cursor() as cursor:
        cursor.execute(" UNION ".join(f"SELECT xmin::text FROM {table}" for table in tables))
        return {number for (number,) in cursor.fetchall()}


def test_the_jobs_say_how_they_want_to_be_run(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "REPORT_EVERY", 1)

    client.post("/orders/", form((ProductFactory(), 1)))

    headers = [json.loads(text) for text in Message.objects.order_by("id").values_list("headers", flat=True)]
    assert [(said["priority"], said["max_attempts"]) for said in headers] == [(50, 3), (0, 5), (-50, 1)]
    assert tasks_written()[-1] == "sales_report"


@pytest.mark.parametrize("staged", ["DEMO", "DEBUG"])
def test_a_payment_that_fails_leaves_nothing(client: Client, settings: Settings, staged: str) -> None:
    setattr(settings, staged, True)
    pen = ProductFactory(stock=3)

    answer = client.post("/orders/", form((pen, 2), fail=1))

    assert answer.status_code == 409
    assert "Nothing was ordered" in answer.content.decode()
    assert_nothing_happened(pen)


def test_payments_fail_on_the_stage_only(client: Client) -> None:
    answer = client.post("/orders/", form((ProductFactory(), 1), fail=1))

    assert answer.status_code == 302
    assert "Let the payment fail" not in client.get("/").content.decode()


def test_an_order_for_more_than_there_is_leaves_nothing(client: Client) -> None:
    plenty, scarce = ProductFactory(stock=50), ProductFactory(name="Quill", stock=2)

    answer = client.post("/orders/", form((plenty, 5), (scarce, 3)))

    page = answer.content.decode()
    assert answer.status_code == 409
    assert "We do not have 3 of &quot;Quill&quot; any more" in page
    assert f'name="quantity-{plenty.pk}" value="5"' in page
    assert_nothing_happened(plenty, scarce)


def assert_nothing_happened(*products: Product) -> None:
    assert not Order.objects.exists()
    assert not OrderLine.objects.exists()
    assert not Message.objects.exists()
    assert [Product.objects.get(pk=product.pk).stock for product in products] == [p.stock for p in products]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"customer": ""}, "Please tell us who orders."),
        ({"customer": "x" * 101}, "at most 100 characters"),
        ({"customer": "A\x00"}, "Null characters are not allowed"),
        ({"email": "nowhere"}, "valid email address"),
        ({"quantity": 0}, "Your basket is empty"),
        ({"quantity": -1}, "greater than or equal to 0"),
        ({"quantity": 100}, "less than or equal to 99"),
        ({"quantity": "many"}, "Enter a whole number"),
        ({"reference": "42"}, "Please look at the order slip again"),
    ],
)
def test_a_wrong_form_comes_back(client: Client, changes: dict[str, object], complaint: str) -> None:
    pen = ProductFactory()

    answer = client.post("/orders/", form((pen, changes.pop("quantity", 1)), **changes))

    assert answer.status_code == 400
    assert complaint in answer.content.decode()
    assert_nothing_happened(pen)


def test_a_form_that_is_sent_twice_is_one_order(client: Client) -> None:
    sent = form((ProductFactory(), 1))

    first, second = client.post("/orders/", sent), client.post("/orders/", sent)

    assert first.headers["Location"] == second.headers["Location"]
    assert Order.objects.count() == 1
    assert Message.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_who_want_the_last_one_at_the_same_time_one_gets_it() -> None:
    last = ProductFactory(stock=1)
    together, outcomes = threading.Barrier(2), []

    def order() -> None:
        together.wait(10)
        try:
            outcomes.append(place_order(Wish(uuid4(), "Ada", "ada@example.com", [(last, 1)])))
        except OutOfStock as reason:
            outcomes.append(reason)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=order) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Order", "OutOfStock"]
    assert Product.objects.get(pk=last.pk).stock == 0
    assert Message.objects.count() == 2


def test_the_forms_are_protected_against_other_sites() -> None:
    guarded = Client(enforce_csrf_checks=True)

    assert guarded.post("/orders/", form((ProductFactory(), 1))).status_code == 403
    assert guarded.post("/supplier/", "{}", "application/json").status_code == 400


# Pages --------------------------------------------------------------------------------------------


def test_the_storefront_shows_what_there_is(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    ProductFactory(name="Quill", blurb="Of a goose.", price=123456, stock=3)
    gone = ProductFactory(name="Last year's calendar", stock=0)

    with django_assert_max_num_queries(1):
        page = client.get("/").content.decode()

    assert "Quill" in page and "Of a goose." in page and "€\u20091,234.56" in page and "Only 3 left" in page
    assert "Sold out" in page
    assert "disabled" in page.partition(f'name="quantity-{gone.pk}"')[2].partition(">")[0]


def test_whoever_goes_back_to_the_address_of_the_form_finds_the_shop(client: Client) -> None:
    assert client.get("/orders/").headers["Location"] == "/"


def test_the_page_of_an_order_follows_its_jobs(client: Client) -> None:
    client.post("/orders/", form((ProductFactory(name="Quill"), 2)))
    order = Order.objects.get()
    receipt, supplier = order.jobs.all()

    assert_shows(client, order, "2 \u00d7 Quill", "written", "Reload")

    Message.objects.all().delete()
    FinishedJobFactory(id=receipt.job, task=receipt.task)
    JobFactory(id=supplier.job, task=supplier.task, retrying=True, error="SupplierBusy: not now")

    assert_shows(client, order, "succeeded", "retrying", "SupplierBusy: not now", "Reload")


def test_the_page_of_an_old_order_says_that_its_jobs_are_no_longer_kept(client: Client) -> None:
    order = OrderFactory()
    OrderJob.objects.create(order=order, job=new_id(), task=tasks.send_receipt.name)
    OrderJob.objects.create(order=order, job=new_id(), task="shop.was_removed")

    assert_shows(client, order, "no longer kept", "shop.was_removed", "Everything is done.")


def assert_shows(client: Client, order: Order, *texts: str) -> None:
    answer = client.get(order.get_absolute_url())
    assert answer.status_code == 200
    page = answer.content.decode()
    assert [text for text in texts if text not in page] == []


def test_what_is_not_there_is_said_so(client: Client) -> None:
    for address in (f"/orders/{uuid4()}/", "/products/nothing/", "/nowhere/"):
        answer = client.get(address)
        assert answer.status_code == 404
        assert "Return to sender" in answer.content.decode()


def test_names_are_shown_as_they_are(client: Client) -> None:
    assert_shows(client, OrderFactory(customer="<script>"), "&lt;script&gt;")


def test_money() -> None:
    assert [money(0), money(5), money(123456)] == ["€\u20090.00", "€\u20090.05", "€\u20091,234.56"]


def test_a_look_at_a_product_is_noted_in_the_background(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """P14c, B9: analytics: low priority, one attempt; statistics must be background."""
    product = ProductFactory(slug="a-pen")

    page = client.get(f"/products/{product.slug}/").content.decode()

    assert "background" not in page and "looked" not in page
    (message,) = Message.objects.all()
    assert json.loads(message.headers) == {
        "v": 1, "task": RENDER, "queue": "default", "priority": -50, "max_attempts": 1,
        "source_name": "product_looked_at",
    }  # fmt: skip
    said: list[str] = []
    monkeypatch.setattr(notebook, "line", lambda context, level, logger, text: said.append(text))
    assert [outcome.state for outcome in work()] == ["succeeded"]
    assert said == ["somebody has looked at a-pen"]


@pytest.mark.parametrize("model", ["product", "order", "suppliercall", "salesreport"])
def test_admin_shows_the_shop(admin_client: Client, model: str) -> None:
    order = OrderLineFactory().order
    OrderJob.objects.create(order=order, job=new_id(), task=tasks.send_receipt.name)
    call = SupplierCall.objects.create(order=order, reference="PP-7", attempt=2)
    tasks.sales_report.call()
    row = {"product": Product.objects.first(), "order": order, "suppliercall": call}.get(model)
    row = row or SalesReport.objects.get()

    assert admin_client.get(f"/admin/shop/{model}/").status_code == 200
    assert admin_client.get(f"/admin/shop/{model}/{row.pk}/change/").status_code == 200
    assert admin_client.get(f"/admin/shop/{model}/add/").status_code == (200 if model == "product" else 403)
