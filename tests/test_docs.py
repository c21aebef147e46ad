"""What the documentation names exists, and what exists is documented."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class

from jobs.conf import JobsSettings
from jobs.consume import Options, consumer, event
from jobs.context import JobContext
from jobs.declare import task
from jobs.emit import Published
from jobs.models import Schedule, State
from jobs.plan import every
from jobs.recur import NICKNAMES
from jobs.tasks import Task
from outbox.conf import OutboxSettings

THEIRS = {"db_worker", "qinfo"}
"""Commands of those whom docs/moving leaves."""

ROOT = Path(__file__).resolve().parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def text(name: str) -> str:
    return (ROOT / name).read_text()


def rows(section: str) -> dict[str, str]:
    """The first two columns of the table under a heading of docs/settings.md."""
    part = text("docs/settings.md").split(f"## {section}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", part, re.MULTILINE))


@pytest.mark.parametrize(("section", "settings"), [("OUTBOX", OutboxSettings), ("JOBS", JobsSettings)])
def test_every_setting_is_documented_with_its_default(section: str, settings: Any) -> None:
    documented = rows(section)
    made = settings()

    assert set(documented) == {field.name for field in fields(settings)}
    for name, said in documented.items():
        default = getattr(made, name)
        if isinstance(default, timedelta):
            assert said == f"{default.days} days"
        else:
            assert ast.literal_eval(said.strip("`")) == default


@pytest.mark.parametrize(
    ("app", "command"),
    [
        *(("jobs", name) for name in ("runworkers", "checkjobs", "lintbackground", "joblogs", "jobs", "jobmetrics")),
        *(("jobs", name) for name in ("schedules", "replayevents")),
        ("outbox", "relay"),
    ],
)
def test_every_option_of_a_command_is_documented_and_the_other_way_round(app: str, command: str) -> None:
    parser = load_command_class(app, command).create_parser("manage.py", command)
    own = {
        option
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and action.dest not in inherited()
    }
    everything = "\n".join(path.read_text() for path in DOCS)

    for option in own:
        assert re.search(rf"`[^`]*{option}\b", everything), f"{option} of {command} is not documented"
    for said in re.findall(rf"manage\.py {command}((?: --[\w-]+(?: [\w.]+)?)+)", everything):
        for option in re.findall(r"--[\w-]+", said):
            assert option in parser._option_string_actions, f"{command} has no {option}"


def inherited() -> set[str]:
    from django.core.management.base import BaseCommand

    return {action.dest for action in BaseCommand().create_parser("manage.py", "x")._actions}


def test_every_command_named_exists() -> None:
    from django.core.management import get_commands

    named = {name for path in DOCS for name in re.findall(r"manage\.py (\w+)", path.read_text())}

    assert named - THEIRS <= set(get_commands())


def test_every_state_is_explained_and_no_other_is_named() -> None:
    said = text("docs/design.md")

    for state in State:
        if state not in (State.WRITTEN, State.SET_ASIDE):  # their table says where they are
            assert f"`{state.value}`" in said


def test_the_options_of_task_and_using_are_documented() -> None:
    said = text("docs/tasks.md")

    for name in inspect.signature(task).parameters:
        if name != "func":
            assert f"`{name}`" in said
    for name in inspect.signature(Task.using).parameters:
        if name != "self":
            assert f"`{name}`" in said
    for name in (*JobContext._fields, "idempotency_key", "event_id", "event_type"):
        assert f"`{name}`" in said


def test_the_options_of_every_and_what_it_takes_for_them_are_documented() -> None:
    said = text("docs/schedules.md")

    for name in inspect.signature(every).parameters:
        assert name == "cron" or f"`{name}`" in said
    for choice in (*Schedule.Missed.values, *Schedule.Overlap.values):
        assert f'`"{choice}"`' in said
    for nickname in set(NICKNAMES) - {"@annually", "@midnight"}:
        assert f"`{nickname}`" in said
    for codename, _ in Schedule._meta.permissions:
        assert f"`jobs.{codename}`" in said


def test_links_lead_somewhere() -> None:
    for path in DOCS:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_page_is_in_the_contents() -> None:
    said = set(re.findall(r"\]\(([\w/-]+\.md)", text("docs/index.md")))

    assert said == {str(path.relative_to(ROOT / "docs")) for path in DOCS[1:]} - {"index.md"}


def test_every_picture_is_shown() -> None:
    shown = {name for path in DOCS for name in re.findall(r"img/([\w-]+\.png)\)", path.read_text())}

    assert shown == {path.name for path in (ROOT / "docs" / "img").iterdir()}


def test_the_tables_of_comparison_agree_on_date_and_versions() -> None:
    whole, short = text("docs/comparison.md"), text("README.md")

    assert (date := re.search(r"As of (\d{4}-\d\d-\d\d)", whole)) and f"As of {date[1]}" in short
    named = re.findall(r"(django-ox|django-tasks-db|Procrastinate|django-q2|Celery) (\d[\d.]+)", short)
    assert len(named) == 5
    for name, version in named:
        assert f"{name} {version}" in whole


def test_the_two_commands_of_the_readme_are_the_ones_that_were_agreed() -> None:
    said = text("README.md")

    assert "pip install uv && uv run manage.py demo\n" in said
    assert "pip install uv && uv run pytest\n" in said


@pytest.mark.django_db
def test_every_metric_is_documented_and_no_other() -> None:
    from jobs.metrics import JobsCollector

    families = {family.name + "_total" * (family.type == "counter") for family in JobsCollector().collect()}
    table = text("docs/metrics.md").split("| --- | --- | --- |\n")[1].split("\n\n")[0]
    documented = {name for row in table.splitlines() if row for name in re.findall(r"`(\w+)`", row.split("|")[1])}

    assert families == documented


def test_the_options_of_event_and_consumer_are_documented() -> None:
    said = text("docs/events.md")

    for name in (*inspect.signature(event).parameters, *inspect.signature(consumer).parameters, *Published._fields):
        if name not in ("name", "types", "options"):
            assert f"`{name}`" in said or f"`{name}=`" in said, name
    assert set(Options.__annotations__) <= set(inspect.signature(task).parameters)


def test_every_check_is_documented_and_no_other() -> None:
    code = "\n".join(path.read_text() for app in ("jobs", "outbox") for path in (ROOT / app).rglob("*.py"))
    given = set(re.findall(r'id="((?:jobs|outbox)\.[EWI]\d+)"', code))

    assert given == set(re.findall(r"^\| `([a-z]+\.[EWI]\d+)` \|", text("docs/settings.md"), re.MULTILINE))


def test_every_test_that_is_named_exists() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = {name for path in DOCS for name in re.findall(r"`(test_\w+)`", path.read_text())}

    assert len(named) > 15
    assert {name for name in named if f"def {name}(" not in tests} == set()
