"""`manage.py joblogs` shows what jobs have logged and why they failed, and goes on showing."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from jobs.finish import tell
from jobs.ids import new_id
from tests.factories import AttemptFactory, FinishedJobFactory, LogLineFactory
from tests.support.committing import _django_db_helper  # noqa: F401
from tests.support.floor import a_claimed, outcome
from tests.support.processes import Program
from tests.support.values import named
from tests.support.wait import wait_until

pytestmark = pytest.mark.django_db


def told(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("joblogs", *arguments, stdout=out)
    return out.getvalue().splitlines()


def test_lines_and_failed_tries_in_the_order_of_time() -> None:
    job = FinishedJobFactory(state="dead", source_name="checkout/receipt", task="shop.send")
    now = timezone.now()
    LogLineFactory(job=job.id, text="second", at=now - timedelta(seconds=2), source_name="checkout/receipt")
    LogLineFactory(job=job.id, text="first", at=now - timedelta(seconds=3), task="shop.send", level=10)
    AttemptFactory(job=job.id, task="shop.send", error="ValueError: no", traceback="Traceback\n  x", ended_at=now)
    LogLineFactory(text="long ago", at=now - timedelta(hours=2))

    lines = told()

    assert ["first" in lines[0], "second" in lines[1], "ValueError: no" in lines[2]] == [True] * 3
    assert lines[3:] == ["    Traceback", "      x"]
    assert f"DEBUG    {job.id} shop.send #1 shop.tasks: first" in lines[0]
    assert "ERROR    " in lines[2] and "checkout/receipt" in lines[2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--source-name", "mail"], {"a"}),
        (["--task", "shop.b"], {"b"}),
        (["--level", "warning"], {"c", "attempt 1 failed: ValueError: no"}),
        (["--since", "3d"], {"a", "b", "c", "old", "attempt 1 failed: ValueError: no"}),
        (["--since", "2020-01-01"], {"a", "b", "c", "old", "attempt 1 failed: ValueError: no"}),
        (["--task", "%"], set()),
    ],
    ids=named,
)
def test_what_is_shown_can_be_narrowed(arguments: list[str], expected: set[str]) -> None:
    LogLineFactory(text="a", source_name="mail")
    LogLineFactory(text="b", task="shop.b")
    LogLineFactory(text="c", level=30)
    LogLineFactory(text="old", at=timezone.now() - timedelta(days=2))
    AttemptFactory()

    assert {json.loads(line)["text"] for line in told("--json", *arguments)} == expected


def test_one_job_as_json() -> None:
    job = new_id()
    LogLineFactory(job=job, text="ä\u2028\n<b>")
    LogLineFactory()

    (line,) = told("--json", "--job", str(job))

    row = json.loads(line)
    assert (row["job"], row["level"], row["number"], row["text"]) == (str(job), "INFO", 1, "ä\u2028\n<b>")


def test_no_line_can_pass_for_another_or_command_a_terminal() -> None:
    LogLineFactory(text="one\n2026-01-01 ERROR two\x1b[31m", logger="a\rb")

    first, second = told()

    assert first.endswith("a\\rb: one")
    assert second == "    2026-01-01 ERROR two\\x1b[31m"


@pytest.mark.parametrize("arguments", [["--since", "yesterday"], ["--job", "5"], ["--level", "loud"]])
def test_nonsense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        told(*arguments)


@pytest.mark.django_db(transaction=True)
@pytest.mark.kills
def test_it_follows(tmp_path: Path) -> None:
    program = Program("joblogs", "--follow", "--json", folder=tmp_path)
    try:
        LogLineFactory(text="one")
        wait_until(lambda: '"one"' in program.said())
        LogLineFactory(text="late", at=timezone.now() - timedelta(seconds=5))
        LogLineFactory(text="two")
        wait_until(lambda: '"two"' in program.said() and '"late"' in program.said())
        assert program.said().count('"one"') == 1
    finally:
        program.kill()


def test_a_job_that_dies_says_why_in_the_ordinary_log(caplog: pytest.LogCaptureFixture) -> None:
    dead = outcome(a_claimed(), "failed", retry_in=None)
    retrying = outcome(a_claimed(max_attempts=2), "failed")

    tell([dead, retrying], {dead.id, retrying.id})

    first, second = caplog.records
    assert first.levelname == "ERROR" and "it failed\nTraceback: ..." in first.getMessage()
    assert second.levelname == "WARNING" and "Traceback" not in second.getMessage()
