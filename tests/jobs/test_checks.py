"""`manage.py check` says beforehand what would go wrong, with an id and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.checks import Warning as CheckWarning
from django.core.management import CommandError, call_command
from django.db import connections

from jobs.advice import check_pooler, check_tables, check_tasks, check_transactions
from jobs.checks import check_database, check_settings, unsupported
from jobs.declare import registry
from outbox.lite.fitness import habits
from tests.support.floor import a_task
from tests.support.processes import ROOT
from tests.support.sql import a_cursor


def looked() -> list[CheckMessage]:
    """Which SQLite this machine has is not the matter here."""
    return [found for found in check_database() if found.id != "jobs.W007"]


class ToTheOther:
    def db_for_write(self, model: type[Any], **_: Any) -> str | None:
        return "other" if model._meta.app_label == "outbox" else None


OLD = """import sys
from outbox.lite import fitness
fitness.too_old.__defaults__ = ({version},)
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", *sys.argv[1:]])"""


def on_sqlite(
    folder: Path, *arguments: str, name: str | None = None, old: str = ""
) -> subprocess.CompletedProcess[str]:
    """A command of the demo project on SQLite; `old` is the version that it is to take this one for."""
    program = ["-c", OLD.format(version=old)] if old else ["manage.py"]
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": f"sqlite:///{name or folder / 'db.sqlite3'}",
            "DJANGO_SETTINGS_MODULE": "project.settings",
        },
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_nothing_is_wrong_with_the_settings_of_the_tests() -> None:
    assert [found for found in run_checks(tags=["jobs"]) if found.id != "jobs.W007"] == []


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("JOBS", {"MAX_DEPTHS": 5}, "Did you mean 'MAX_DEPTH'"),
        ("JOBS", {"MAX_DEPTH": "5"}, "it must be int"),
        ("JOBS", {"MAX_DEPTH": 0}, "give a number from 1"),
        ("JOBS", ["MAX_DEPTH"], "must be a dict"),
        ("OUTBOX", {"NOTIFI": True}, "Did you mean 'NOTIFY'"),
        ("OUTBOX", {"BATCH": 0}, "give a whole number"),
    ],
)
def test_a_wrong_setting_is_an_error_of_the_check(settings: Any, name: str, given: Any, said: str) -> None:
    setattr(settings, name, given)

    errors = [*check_settings(), *looked()]

    assert [error.id for error in errors] == ["jobs.E001"]
    assert said in errors[0].msg


def test_every_problem_is_said_at_once(settings: Any) -> None:
    settings.JOBS = {"MAX_DEPTH": 0, "SLOTS": 0}
    settings.OUTBOX = {"BATCH": 0}

    assert [error.id for error in check_settings()] == ["jobs.E001"] * 3


def test_a_database_that_is_not_configured(settings: Any) -> None:
    settings.JOBS = {"DATABASE": "nowhere"}

    (error,) = looked()

    assert (error.id, error.is_serious()) == ("jobs.E002", True)
    assert "'nowhere', which settings.DATABASES does not have" in error.msg


@pytest.mark.parametrize("vendor", ["mysql", "oracle"])
def test_a_database_that_nothing_is_written_for(monkeypatch: pytest.MonkeyPatch, vendor: str) -> None:
    monkeypatch.setattr(connections["default"], "vendor", vendor)
    monkeypatch.setattr(connections["default"], "display_name", vendor.title())

    (error,) = looked()

    assert (error.id, error.is_serious()) == ("jobs.E003", True)
    assert f"needs PostgreSQL 14 or later, or SQLite; the database 'default' is {vendor.title()}. Point" in error.msg
    assert error.hint


def test_the_database_of_the_tests_is_supported() -> None:
    assert unsupported("default") is None


def test_messages_that_are_written_where_the_queue_is_not_are_warned_about(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [ToTheOther()]

    (warning,) = looked()

    assert isinstance(warning, CheckWarning)
    assert warning.id == "jobs.W001"
    assert "written to the database 'other' and the queue is in 'default'" in warning.msg
    assert warning.hint == "Route the outbox to 'default', or set JOBS[\"DATABASE\"] to 'other'."


def test_a_queue_that_follows_the_outbox_is_fine(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [ToTheOther()]
    settings.JOBS = {"DATABASE": "other"}

    assert looked() == []


@pytest.mark.parametrize("command", ["runworkers", "relay"])
def test_the_commands_do_not_start_with_wrong_settings(settings: Any, command: str) -> None:
    settings.JOBS = {"MAX_DEPTHS": 5}

    with pytest.raises(Exception, match="Did you mean 'MAX_DEPTH'"):
        call_command(command, skip_checks=False)


def test_sqlite_as_it_comes_is_warned_about_and_works(tmp_path: Path) -> None:
    said = on_sqlite(tmp_path, "check")

    assert said.returncode == 0
    assert "jobs.W008" in said.stderr and '"transaction_mode": "IMMEDIATE"' in said.stderr
    assert "jobs.E" not in said.stderr


def test_sqlite_with_the_option_is_fine() -> None:
    mine = {"ENGINE": "django.db.backends.sqlite3", "NAME": "x.db", "OPTIONS": {"transaction_mode": "immediate"}}
    with alias_of(mine):
        assert list(habits("lite")) == []
    with alias_of({**mine, "OPTIONS": {"transaction_mode": "DEFERRED"}}):
        assert [found.hint.count("IMMEDIATE") for found in habits("lite")] == [1]


@contextmanager
def alias_of(config: dict[str, Any]) -> Iterator[None]:
    connections.settings["lite"] = config
    try:
        yield
    finally:
        del connections.settings["lite"]


def test_an_sqlite_that_is_too_old_is_an_error(tmp_path: Path) -> None:
    said = on_sqlite(tmp_path, "check", old="(3, 34, 1)")

    assert said.returncode != 0
    assert "jobs.E003" in said.stderr and "SQLite 3.34.1 is too old for the queue, which needs 3.35.0" in said.stderr


@pytest.mark.parametrize("command", ["runworkers", "relay"])
def test_sqlite_in_memory_is_refused_by_what_runs_beside_it(tmp_path: Path, command: str) -> None:
    said = on_sqlite(tmp_path, command, name=":memory:")

    assert said.returncode != 0
    assert "The database 'default' is in memory" in said.stderr and "Traceback" not in said.stderr
    assert "jobs.testing" in said.stderr


def test_the_relay_refuses_a_database_that_nothing_is_written_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "mysql")

    with pytest.raises(CommandError, match="The relay needs PostgreSQL or SQLite; the database 'default' is"):
        call_command("relay", "--once")


# What will hurt -----------------------------------------------------------------------------------------------------


def test_a_default_that_no_caller_could_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def collect(ids: Any = frozenset(), limit: int = 5, *, since: str | None = None) -> None: ...

    monkeypatch.setitem(registry, "tests.a_task", a_task(collect))

    (found,) = check_tasks()

    assert found.id == "jobs.W002"
    assert found.msg.startswith("tests.a_task: the default of 'ids' is of type frozenset, which would not come back")
    assert found.hint


def test_views_without_a_transaction_where_one_is_required(settings: Any) -> None:
    assert check_transactions() == []

    settings.OUTBOX = {"REQUIRE_TRANSACTION": True}
    (found,) = check_transactions()
    assert found.id == "jobs.I001"

    with within(ATOMIC_REQUESTS=True):
        assert check_transactions() == []


@contextmanager
def within(**changes: Any) -> Iterator[None]:
    """The settings of the database, changed."""
    given = connections["default"].settings_dict
    before = {name: given[name] for name in changes}
    given.update(changes)
    try:
        yield
    finally:
        given.update(before)


@pytest.mark.parametrize(
    ("changes", "notify", "ids"),
    [
        ({"PORT": 6432}, True, ["jobs.W003"]),
        ({"PORT": "6432"}, False, []),
        ({"HOST": "PgBouncer.internal"}, True, ["jobs.W003"]),
        ({"PORT": "5432", "HOST": "db"}, True, []),
    ],
)
def test_a_pooler_in_between(settings: Any, changes: dict[str, Any], notify: bool, ids: list[str]) -> None:
    settings.OUTBOX = {"NOTIFY": notify}

    with within(**changes):
        assert [found.id for found in check_pooler()] == ids


@pytest.mark.django_db
def test_a_database_that_lacks_the_tables() -> None:
    assert check_tables(databases=["default"]) == []

    with a_cursor("default") as cursor:
        cursor.execute("ALTER TABLE outbox_message RENAME TO elsewhere")
        cursor.execute("ALTER TABLE jobs_job RENAME TO nowhere")
    assert check_tables() == check_tables(databases=["other"]) == []
    assert [found.id for found in check_tables(databases=["default"])] == ["jobs.W004"]

    with a_cursor("default") as cursor:  # a database that nothing was migrated in: `migrate` is running
        cursor.execute("ALTER TABLE django_migrations RENAME TO later")
    assert check_tables(databases=["default"]) == []


@pytest.mark.parametrize("name", ["JOBS", "OUTBOX"])
def test_wrong_settings_are_said_once(settings: Any, name: str) -> None:
    setattr(settings, name, {"NO_SUCH": 1})

    assert check_transactions() + check_pooler() + check_tables(databases=[]) == []
    assert [found.id for found in check_settings()] == ["jobs.E001"]
