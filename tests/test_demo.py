"""`manage.py demo`: it runs, and its check finds what it is there to find."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import django
import psycopg
import pytest
from django.core.management import CommandError
from django.core.management.base import OutputWrapper
from django.core.management.color import no_style

from project.shop.demo import figures as figures_module
from project.shop.demo.customers import make_plans
from project.shop.demo.figures import JSON_KEYS, mailed_receipts
from project.shop.demo.processes import Children, free_port
from project.shop.demo.show import Progress, table
from project.shop.models import Product
from project.shop.tasks import send_receipt
from tests.factories import (
    AttemptFactory,
    FinishedJobFactory,
    JobFactory,
    MessageFactory,
    SetAsideMessageFactory,
)
from tests.factories_shop import Day, OrderLineFactory, ProductFactory

pytestmark = pytest.mark.postgresql("the demo makes a database on a server and counts a sequence")

if TYPE_CHECKING:  # its place differs between versions
    from pytest_django import Settings

ROOT = Path(__file__).resolve().parent.parent


# The whole of it ----------------------------------------------------------------------------------


def start_demo(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "project.settings", **variables}
    return subprocess.Popen(
        [sys.executable, "manage.py", "demo", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def demo_databases() -> list[str]:
    with psycopg.connect(os.environ["DATABASE_URL"]) as server:
        found = server.execute("SELECT datname FROM pg_database WHERE datname LIKE 'outbox_demo_%'")
        return [name for (name,) in found]


@pytest.mark.slow
def test_the_demo_runs_and_loses_nothing(tmp_path: Path) -> None:
    before = demo_databases()

    demo = start_demo("--orders", "60", "--json", "--seed", "7", TMPDIR=str(tmp_path))
    output, errors = demo.communicate(timeout=85)

    assert demo.returncode == 0, errors
    said = json.loads(output)
    assert tuple(said) == JSON_KEYS
    assert said["orders_committed"] + said["orders_rolled_back"] == 60
    assert said["receipts"] == said["orders_committed"] > 30
    assert said["orders_rolled_back"] > 3
    assert [said[key] for key in JSON_KEYS if key.startswith("receipts_")] == [0, 0, 0]
    assert said["retried"] > 0
    assert said["timed_out"] == said["dead"] > 0
    assert 0 < said["seconds"] < 80
    assert set(demo_databases()) <= set(before)
    assert list(tmp_path.glob("outbox-demo-*")) == []


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    demo = start_demo("--orders", "5000", "--json", TMPDIR=str(tmp_path))
    assert demo.stderr is not None
    while "Placing orders" not in (line := demo.stderr.readline()):
        assert line, "it ended by itself"
    assert len(processes_of(tmp_path)) >= 3

    demo.send_signal(number)
    output, _ = demo.communicate(timeout=30)

    assert demo.returncode == 128 + number
    assert output == ""
    assert processes_of(tmp_path) == []
    assert list(tmp_path.glob("outbox-demo-*")) == []


def processes_of(folder: Path) -> list[str]:
    """Command lines of the living processes whose data lie in the folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"DATA_DIR={folder}".encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has just ended, or is somebody else's
            continue
    return found


# The check ----------------------------------------------------------------------------------------


@pytest.fixture
def day(db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Day:
    # Numbers of orders go on from test to test, and one in so many would have to have its report.
    monkeypatch.setattr(figures_module, "REPORT_EVERY", 10**9)
    return Day(tmp_path)


def test_a_good_day(day: Day) -> None:
    figures = day.examined()

    assert figures.problems == []
    assert figures.as_json() == {
        "orders_committed": 3,
        "orders_rolled_back": 1,
        "receipts": 3,
        "receipts_lost": 0,
        "receipts_duplicated": 0,
        "receipts_for_rolled_back": 0,
        "retried": 0,
        "timed_out": 1,
        "dead": 1,
        "seconds": 0.0,
    }


def test_a_receipt_that_is_missing_is_lost(day: Day) -> None:
    next((day.data / "mail").iterdir()).unlink()

    figures = day.examined()

    assert (figures.receipts, figures.receipts_lost) == (2, 1)
    assert figures.problems == ["1 committed orders have no receipt"]


@pytest.mark.parametrize("file", ["", "the-same"])
def test_a_receipt_that_was_sent_again_is_a_duplicate(day: Day, file: str) -> None:
    for _ in range(2):
        day.letter(str(day.orders[0].reference), file)

    figures = day.examined()

    assert (figures.receipts, figures.receipts_lost, figures.receipts_duplicated) == (5, 0, 2)
    assert figures.problems == ["2 receipts were sent again"]


def test_a_receipt_for_an_order_that_was_rolled_back_is_found(day: Day) -> None:
    day.letter(day.refused)

    figures = day.examined()

    assert figures.receipts_for_rolled_back == 1
    assert figures.problems == ["1 receipts were sent for orders that were rolled back"]


def a_job_of_no_order() -> None:
    FinishedJobFactory(task=send_receipt.name, arguments='{"args":[0],"kwargs":{}}')


def a_job_that_died() -> None:
    FinishedJobFactory(state="dead")


@pytest.mark.parametrize(
    ("happens", "problem"),
    [
        (a_job_of_no_order, "receipt jobs are too many, or for an order that does not exist"),
        (a_job_that_died, "jobs died that should not have"),
        (MessageFactory, "messages or jobs are left over"),
        (JobFactory, "messages or jobs are left over"),
        (SetAsideMessageFactory, "messages were set aside"),
        (lambda: AttemptFactory(kind="timed_out"), "kills too many or too few"),
        (lambda: Product.objects.update(stock=0), "pieces are neither on the shelf nor in an order"),
        (lambda: ProductFactory(thumbnail="nowhere.jpg", stock=0), None),
    ],
)
def test_whatever_else_is_wrong_is_found(day: Day, happens: Callable[[], Any], problem: str | None) -> None:
    happens()

    problems = day.examined().problems

    assert [text.partition(" ")[2] for text in problems] == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("known", "problem"),
    [
        ("placed", "customers were told that their order is placed, and it is not there"),
        ("refused", "rollbacks too many or too few"),
        ("uploads", "thumbnails too many or too few"),
    ],
)
def test_what_customers_were_told_is_held_against_the_tables(day: Day, known: str, problem: str) -> None:
    one_more = 1 if known == "uploads" else getattr(day.told(), known) | {str(uuid4())}

    assert [text.partition(" ")[2] for text in day.examined(**{known: one_more}).problems] == [problem]


def test_orders_that_nobody_or_the_wrong_one_was_told_about_are_found(day: Day) -> None:
    placed = frozenset([str(day.orders[0].reference)])

    problems = day.examined(placed=placed, refused=frozenset([str(day.orders[1].reference)])).problems

    assert problems == [
        "1 customers were told that nothing was ordered, and there is an order",
        "1 orders are there that nobody was told about",
    ]


def test_real_receipts_are_found_in_real_mail_files(db: None, tmp_path: Path, settings: Settings) -> None:
    files = "django.core.mail.backends.filebased.EmailBackend"
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": files, "OPTIONS": {"file_path": str(tmp_path)}}}
    else:
        settings.EMAIL_BACKEND, settings.EMAIL_FILE_PATH = files, str(tmp_path)
    orders = [OrderLineFactory().order for _ in range(5)]

    for order in (*orders, orders[0]):
        send_receipt.call(order.pk)

    counted = mailed_receipts(tmp_path)
    assert counted == {str(order.reference): 1 + (order is orders[0]) for order in orders}


# What is shown ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_table_shows_the_figures_and_the_verdict(day: Day) -> None:
    good = table(day.examined(), no_style(), OutputWrapper(io.StringIO()))
    day.letter(day.refused)
    bad = table(day.examined(), no_style(), OutputWrapper(io.StringIO()))

    assert "Orders committed              3\n" in good
    assert "Good: nothing lost" in good
    assert "for rolled-back orders      1\n" in bad
    assert "Not good:\n  1 receipts were sent for orders that were rolled back" in bad


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        progress = Progress(OutputWrapper(stream))
        progress.say("Starting")
        progress.show("Placing orders", 1, 4, "2 jobs done")
        progress.show("Placing orders", 2, 4, "3 jobs done")
        progress.clear()

    assert terminal.getvalue().endswith(f"Placing orders    {'#' * 14}{'-' * 14} 2/4  3 jobs done\r\x1b[K")
    assert file.getvalue() == "Starting\nPlacing orders: 1 of 4; 2 jobs done\n"


# Its parts ----------------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_customers(db: None) -> None:
    products = ProductFactory.create_batch(5)

    plans = [make_plans(200, products, random.Random(seed)) for seed in (1, 1, 2)]

    assert plans[0] == plans[1] != plans[2]
    assert len({plan.reference for plan in plans[0]}) == 200
    assert 20 < sum(plan.fails for plan in plans[0]) < 60


@contextmanager
def children(folder: Path) -> Iterator[Children]:
    made = Children(folder, {})
    try:
        yield made
    finally:
        made.stop()


def test_a_process_that_dies_is_noticed_with_its_last_words(tmp_path: Path) -> None:
    with children(tmp_path) as made:
        made.start("shop", "-c", "import sys; sys.exit('no more paper')")
        with pytest.raises(CommandError, match=r"The shop ended with status 1:\nno more paper"):
            check_for(20, made)


def check_for(seconds: float, made: Children) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        made.check()
        time.sleep(0.02)


@pytest.mark.kills
def test_a_process_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("project.shop.demo.processes.STOP_WITHIN", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    with children(tmp_path) as made:
        made.start("deaf", "-c", deaf)
        until = time.monotonic() + 20
        while "deaf" not in made.said("deaf") and time.monotonic() < until:
            time.sleep(0.02)
        started = time.monotonic()

    assert time.monotonic() - started < 5


def test_a_port_that_is_taken_is_not_chosen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert free_port(taken.getsockname()[1]) != taken.getsockname()[1]
