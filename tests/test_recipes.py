"""The recipes of the documents run, through a real worker, and stand in the documentation as they ran."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from jobs import JobContext, RetryAfter, Task, publish
from jobs.errors import InvalidEvent
from jobs.execute import failed
from jobs.ids import new_id
from jobs.models import FinishedJob, Job, State
from project.recipes import chasing, consumers, export, repricing, webhook, welcome
from project.recipes.models import Points
from project.recipes.orders import announce
from project.recipes.views import hook
from project.shop import tasks as shop
from project.shop.models import Rate
from tests.factories_shop import OrderFactory, ProductFactory, SupplierCallFactory
from tests.support.floor import DEFAULTS, a_claimed
from tests.support.processes import ROOT, Program
from tests.support.wait import wait_until

SAID = re.compile(r"<!-- from (\S+) -->\n```python\n(.*?)\n```", re.DOTALL)


def test_what_the_documentation_shows_is_what_runs() -> None:
    said = SAID.findall((ROOT / "docs" / "recipes.md").read_text())

    assert len(said) >= 9
    for name, code in said:
        assert code in (ROOT / name).read_text(), f"docs/recipes.md shows another {name}"


def test_every_recipe_is_shown() -> None:
    shown = {name for name, _ in SAID.findall((ROOT / "docs" / "recipes.md").read_text())}
    files = {path for path in (ROOT / "project" / "recipes").glob("*.py") if "jobs import" in path.read_text()}

    assert {str(path.relative_to(ROOT)) for path in files if path.name != "tasks.py"} <= shown


# The other side -------------------------------------------------------------------------------------------------------


class OtherSide:
    """A service on a port of its own: what it was told, and what it answers."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, str], Any]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        other = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                other.told.append((self.path, dict(self.headers), body))
                code, headers = other.answers.pop(0) if other.answers else (204, {})
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'{"rates": {"CHF": 0.9312, "USD": 1.0842}}')

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def other_side() -> Iterator[OtherSide]:
    made = OtherSide()
    yield made
    made.server.shutdown()
    made.server.server_close()


# All of them, in one worker -------------------------------------------------------------------------------------------


def letters(folder: Path) -> dict[str, str]:
    """Receiver and text by subject."""
    found = {}
    for path in (folder / "mail").iterdir():
        for text in path.read_text().split("-" * 79):
            if match := re.search(r"^Subject: (.*)$", text, re.MULTILINE):
                found[match[1]] = text
    return found


def test_all_recipes_run_in_a_real_worker(
    runworkers: Callable[..., Program], tmp_path: Path, other_side: OtherSide
) -> None:
    """B6, B9, P14c, H2: the documents' uses: e-mail, rates, 500 products, export and letter, webhook, report."""
    order, done = OrderFactory(total=2500), OrderFactory(customer="Done")
    SupplierCallFactory(order=done)
    yesterday = datetime.now(ZoneInfo("Europe/Paris")).date() - timedelta(days=1)
    ProductFactory.create_batch(20, price=1000)

    welcome.sign_up("ada", "ada@example.com")
    fetched = shop.fetch_rates.enqueue()
    repriced = repricing.reprice(5)
    exported = export.export_orders.enqueue("anna@example.com")
    told = webhook.call_webhook.enqueue(other_side.url, {"order": order.pk}, "s3cret")
    report = shop.nightly_report.enqueue(timezone.now().isoformat())
    chased, spared = (chasing.chase_supplier.using(delay=0.001).enqueue(each.pk) for each in (order, done))
    announced = announce(order)

    settings = {"DATA_DIR": str(tmp_path), "RATES_URL": other_side.url, "WAREHOUSE_URL": other_side.url}
    worker = runworkers("--slots", "2", env=settings)
    ours = Job.objects.filter(task__startswith="project.recipes")
    wait_until(lambda: FinishedJob.objects.count() > 25 and not ours.exists(), within=60, what="all have ended")
    assert worker.terminate() == 0
    unwell = {job.pk: job.state for job in FinishedJob.objects.exclude(state="succeeded")}
    assert unwell == {spared.id: "cancelled"}, worker.said()

    assert len(fetched.return_value) == Rate.objects.count() == 2
    assert len(repriced) >= 20 and repriced[-1].status is State.SUCCEEDED
    assert ProductFactory._meta.model.objects.filter(price=1050).count() == 20
    file = (tmp_path / "media" / exported.return_value).read_text()
    assert file.splitlines()[1:] == [f"{each.number},{each.customer},{each.total}" for each in (order, done)]
    assert report.return_value == {"orders": 0, "revenue": 0}
    assert (chased.status, spared.error) == ("succeeded", "only_if said no")
    assert Points.objects.get().points == 25

    said = letters(tmp_path)
    assert set(said) == {
        "Welcome to the shop", "Your export is ready", f"Sales of {yesterday:%A, %d %B %Y}", f"Order {order.number}",
        "Thank you",
    }  # fmt: skip
    assert exported.return_value in said["Your export is ready"]
    by_body = {json.dumps(body): headers for _, headers, body in other_side.told}
    assert by_body[f'{{"order": {order.pk}}}']["Idempotency-Key"] == str(told.id)
    assert by_body[f'{{"pack": {order.pk}}}']["Event"] == str(announced.id)
    assert len(other_side.told) == 2


# What each of them says about failing ---------------------------------------------------------------------------------


def context(task: Task[..., Any], attempt: int = 1) -> JobContext:
    return JobContext(new_id(), "", attempt, task.max_attempts, task.name, "default", 0, task.name, 0)


def call_it(other_side: OtherSide, *answers: tuple[int, dict[str, str]]) -> None:
    other_side.answers = list(answers)
    task = webhook.call_webhook
    task.func(context(task), other_side.url, {"a": 1}, "s3cret")


@pytest.mark.parametrize(
    ("answer", "headers", "raised", "wait"),
    [(503, {}, OSError, 10), (429, {"Retry-After": "7"}, RetryAfter, 7), (400, {}, webhook.Refused, None)],
)
def test_a_webhook_is_tried_again_as_the_other_side_wants(
    other_side: OtherSide, answer: int, headers: dict[str, str], raised: Any, wait: float | None
) -> None:
    """P30, P31, P38: a third party that fails is tried again with a backoff, and one that refuses is not."""
    task = webhook.call_webhook
    with pytest.raises(raised) as error:
        call_it(other_side, (answer, headers))

    job = a_claimed(max_attempts=5, task=task.name)
    outcome = failed(job, task, DEFAULTS, context(task), error.value, 0.0)

    assert outcome.state == ("dead" if wait is None else "retrying")
    if wait is not None:
        assert outcome.delay == pytest.approx(wait, rel=0.25)
    assert other_side.told[0][1]["Authorization"] == "Bearer s3cret"
    assert (task.timeout, task.redact) == (15, ("secret",))


@pytest.mark.django_db
def test_repriced_twice_it_is_the_same_price() -> None:
    """P38: a second run does no harm."""
    product = ProductFactory(price=1000)
    for _ in range(2):
        repricing.set_price.call(product.pk, 1050)
    product.refresh_from_db()

    assert product.price == 1050


@pytest.mark.django_db
def test_a_second_export_of_a_job_replaces_the_first(settings: Any, tmp_path: Path) -> None:
    """Rows P90 and P91: a report that is asked for and fetched when it is there."""
    settings.MEDIA_ROOT = str(tmp_path)
    OrderFactory()
    same = context(export.export_orders)

    names = {export.export_orders.func(same, "anna@example.com") for _ in range(2)}

    assert names == {f"exports/{same.job_id}.csv"}
    assert [path.name for path in (tmp_path / "exports").iterdir()] == [f"{same.job_id}.csv"]


@pytest.mark.django_db
def test_points_are_given_in_one_transaction_with_the_end_of_the_job() -> None:
    assert consumers.give_points.atomic
    for _ in range(2):
        consumers.give_points.call({"order": 1, "customer": "Ada", "email": "a@b.c", "total": 250})

    assert Points.objects.get().points == 4


@pytest.mark.django_db
def test_an_order_without_a_total_is_nobodys_order() -> None:
    with pytest.raises(InvalidEvent, match=r'order.created: payload\["total"\] is missing; OrderCreated wants it'):
        publish("order.created", {"order": 1, "customer": "Ada", "email": "a@b.c"})


def test_the_demo_has_the_other_side(rf: Any) -> None:
    assert (hook(rf.post("/")).status_code, hook(rf.get("/")).status_code) == (204, 405)
