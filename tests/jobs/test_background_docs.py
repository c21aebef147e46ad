"""docs/background.md: every example in it runs, and those of the documents do what the documents say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, QueryDict
from django.template import Context, Template
from django.utils import translation

from jobs.conf import JobsSettings, band_of
from tests.support.blocks import messages, notes, work, worked

pytestmark = pytest.mark.django_db

SAID = (Path(__file__).resolve().parents[2] / "docs" / "background.md").read_text()
EXAMPLES = re.findall(r"```django\n(.*?)```", SAID, re.DOTALL)


def example(words: str) -> str:
    (found,) = [each for each in EXAMPLES if words in each]
    return str(found)


def page(source: str) -> tuple[str, dict[str, Any]]:
    """Render an example; what came out, and the headers of its job."""
    request = HttpRequest()
    request.GET = QueryDict("currency=USD")
    request.tenant = SimpleNamespace(id=4)  # type: ignore[attr-defined]
    user = User(id=7, username="anna", email="anna@example.com", first_name="Anna")
    user.name = "Anna"  # type: ignore[attr-defined]
    order = SimpleNamespace(id=12, customer=SimpleNamespace(email="kurt@example.com"))
    said = Template(source).render(Context({
        "request": request, "user": user, "order": order, "my_data": {"k": 1}, "account": SimpleNamespace(id=3),
    }))  # fmt: skip
    (message,) = messages()
    headers = json.loads(message.headers)
    return said, {name: headers.get(name) for name in ("priority", "delay", "max_attempts", "source_name")}


def test_there_are_as_many_examples_as_the_documents_have() -> None:
    assert len(EXAMPLES) == 3 + 11


@pytest.mark.parametrize(
    ("words", "priority", "delay", "attempts", "name", "effects"),
    [
        ("my custom job", -50, 300.0, 3, "my_custom_job", ["{'k': 1}"]),
        ('"emails/welcome.html" as job_id', 0, None, 1, "emails/welcome.html", ["welcome 7 anna@example.com"]),
        ("update-currency-rates", 50, None, 1, "update-currency-rates", ["rates of USD"]),
        ("long-running-job", -50, None, 3, "long-running-job", []),
        ("job_name", 0, None, 1, "job_name", ["log: User: Anna"]),
        ("'send_email'", 50, 300.0, 3, "send_email", ["welcome 7 anna@example.com"]),
        ("process_order", 0, None, 1, "process_order", ["log: Order ID: 12", "log: Email: kurt@example.com"]),
        ("send_notification", 0, 60.0, 1, "send_notification",
         ["Your order has shipped  ", "Your order has shipped 7 12"]),
        ("send_welcome_email", 0, None, 2, "send_welcome_email", ["welcome 7 anna@example.com"]),
        ("generate_monthly_report", -50, 3600.0, 1, "generate_monthly_report", ["report of 3"]),
        ("critical_sync", 50, None, 5, "critical_sync", ["sync 4"]),
    ],
)  # fmt: skip
def test_an_example_of_the_documents(
    words: str, priority: int, delay: float | None, attempts: int, name: str, effects: list[str]
) -> None:
    """P1, P2, P4-P9, P14b, P14c, P40: documents 000 and 001, example by example."""
    said, headers = page(example(words))

    assert headers == {"priority": priority, "delay": delay, "max_attempts": attempts, "source_name": name}
    assert said.strip() == ""
    assert notes() == []
    assert worked() == effects


def test_the_example_of_500_products() -> None:
    """P5, P14c: document 000, example 2: priority "normal", every product 15 % cheaper."""
    _, headers = page(example("apply-discount"))

    assert headers["priority"] == 0
    assert band_of(headers["priority"]) == "default"
    made = worked()
    assert len(made) == 500
    assert (made[0], made[-1]) == ("1 85", "500 42500")


def test_the_example_of_an_error() -> None:
    """P6, P30, P31: document 001: retries up to max_attempts times, with growing pauses."""
    page(example("risky_operation"))

    (outcome,) = work()

    assert (outcome.state, outcome.attempts) == ("retrying", 1)
    assert outcome.delay == pytest.approx(5, rel=0.21)
    assert "no answer" in outcome.error
    assert notes() == ["call https://api.example.com"]


def test_the_example_of_a_language_that_is_passed() -> None:
    """P40."""
    with translation.override("de"):
        page(example("get_current_language"))

    assert worked() == ["Ja, Anna"]


def test_the_documents_example_that_cannot_work_says_why() -> None:
    """P40: document 001 reads `order` inside a block that is not given it; there it is empty, here the lint tells."""
    Template(
        "{% load background works %}{% background source_name='process_order' %}{% with order_id=order.id %}"
        "{% log order_id %}{% endwith %}{% endbackground %}"
    ).render(Context({"order": SimpleNamespace(id=12)}))

    assert worked() == ["log: "]


@pytest.mark.parametrize(("priority", "seconds"), [("high", 60), ("default", 300), ("normal", 300), ("low", 14_400)])
def test_the_time_limits_are_the_documents(priority: str, seconds: int) -> None:
    """P20: high 1 minute, default 5 minutes, low 4 hours."""
    Template(f'{{% load background %}}{{% background priority="{priority}" %}}{{% endbackground %}}').render(Context())

    (message,) = messages()
    assert JobsSettings().timeout(band_of(json.loads(message.headers)["priority"])) == seconds
