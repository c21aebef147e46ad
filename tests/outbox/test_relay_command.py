"""`manage.py relay`: once, for ever, and what it says to bad input."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from jobs.models import Job
from outbox import relay
from outbox.models import Message, SetAsideMessage
from tests import tasks
from tests.factories import MessageFactory, SetAsideMessageFactory, in_home
from tests.support.committing import _django_db_helper, on_both, on_default  # noqa: F401
from tests.support.observer import observer
from tests.support.processes import Program
from tests.support.sql import a_cursor
from tests.support.wait import wait_until

pytestmark = on_default


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("relay", *arguments, stdout=out)
    return out.getvalue()


def test_once_moves_what_is_there_and_says_so() -> None:
    handles = tasks.noop.enqueue_many([(n,) for n in range(7)])
    bad = MessageFactory(headers="{")

    said = run("--once")

    assert said == "7 delivered, 1 set aside, 0 replayed.\n"
    assert {job.id for job in Job.objects.all()} == {handle.id for handle in handles}
    assert in_home(bad.uid) == ["outbox_setasidemessage"]


def test_once_goes_on_until_the_outbox_is_empty(settings: Any) -> None:
    settings.OUTBOX = {"BATCH": 2}
    tasks.noop.enqueue_many([(n,) for n in range(7)])

    assert run("--once") == "7 delivered, 0 set aside, 0 replayed.\n"
    assert not Message.objects.exists()


def test_once_with_nothing_to_do() -> None:
    assert run("--once") == "0 delivered, 0 set aside, 0 replayed.\n"


def test_once_quietly() -> None:
    assert run("--once", "--verbosity", "0") == ""


def test_json_is_one_object() -> None:
    tasks.noop.enqueue()
    MessageFactory(headers="{")

    assert json.loads(run("--once", "--json")) == {"delivered": 1, "set_aside": 1, "replayed": 0}


def test_named_messages_are_replayed() -> None:
    first, second, kept = (SetAsideMessageFactory() for _ in range(3))

    said = run("--replay", str(first.id), str(second.id))

    assert said == "2 delivered, 0 set aside, 2 replayed.\n"
    assert {job.id for job in Job.objects.all()} == {first.uid, second.uid}
    assert in_home(kept.uid) == ["outbox_setasidemessage"]


def test_all_messages_are_replayed_and_those_still_poisoned_come_back() -> None:
    good = SetAsideMessageFactory()
    bad = SetAsideMessageFactory(headers="{")

    said = run("--replay", "all", "--json")

    assert json.loads(said) == {"delivered": 1, "set_aside": 1, "replayed": 2}
    assert in_home(good.uid) == ["jobs_job"]
    assert in_home(bad.uid) == ["outbox_setasidemessage"]


def test_all_of_nothing_is_nothing() -> None:
    assert run("--replay", "all") == "0 delivered, 0 set aside, 0 replayed.\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["5"], "no message 5 is set aside"),
        (["-5"], "no message -5 is set aside"),
        (["99999999999999999999999"], "no message 99999999999999999999999 is set aside"),
        (["x"], 'numbers of set-aside messages, or "all"'),
        (["5", "all"], 'numbers of set-aside messages, or "all"'),
        (["1.5"], 'numbers of set-aside messages, or "all"'),
        ([""], 'numbers of set-aside messages, or "all"'),
    ],
)
def test_what_cannot_be_replayed_is_said_and_nothing_is_moved(given: list[str], said: str) -> None:
    aside = SetAsideMessageFactory(id=1)
    waiting = MessageFactory()

    with pytest.raises(CommandError, match=said):
        run("--replay", *given)

    assert in_home(aside.uid) == ["outbox_setasidemessage"]
    assert in_home(waiting.uid) == ["outbox_message"]


def test_of_several_one_that_is_missing_stops_them_all() -> None:
    aside = SetAsideMessageFactory(id=1)

    with pytest.raises(CommandError, match="no message 2, 3 is set aside"):
        run("--replay", "1", "3", "2")

    assert in_home(aside.uid) == ["outbox_setasidemessage"]


def test_a_database_that_is_not_configured() -> None:
    with pytest.raises(CommandError, match=r"--database nowhere: settings.DATABASES has default, other"):
        run("--once", "--database", "nowhere")


@on_both
def test_another_database_has_its_own_outbox() -> None:
    here = tasks.noop.enqueue()
    there = tasks.noop.using(database="other").enqueue()

    assert run("--once", "--database", "other") == "1 delivered, 0 set aside, 0 replayed.\n"

    assert in_home(here.id) == ["outbox_message"]
    assert Job.objects.using("other").filter(pk=there.id).exists()


def test_a_database_without_the_tables_is_an_error_without_a_traceback() -> None:
    with observer() as other:
        other.execute("ALTER TABLE outbox_message RENAME TO gone")
        try:
            with pytest.raises(
                CommandError,
                match=r"The database said: (relation|no such table:).*outbox_message",
            ):
                run("--once")
        finally:
            other.execute("ALTER TABLE gone RENAME TO outbox_message")


def test_a_relay_without_destination_says_what_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_destination", [])
    MessageFactory()

    with pytest.raises(Exception, match="Add 'jobs' to INSTALLED_APPS"):
        run("--once")

    assert Message.objects.count() == 1


@pytest.mark.postgresql("sessions on a server")
@pytest.mark.parametrize("arguments", [["--once"], ["--replay", "all"], ["--replay", "5"]])
def test_a_relay_that_ran_once_leaves_no_connection_behind(arguments: list[str]) -> None:
    tasks.noop.enqueue()

    with contextlib.suppress(CommandError):
        run(*arguments)

    def left() -> int:
        with a_cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'outbox-relay-%%'")
            return int(cursor.fetchone()[0])

    wait_until(lambda: left() == 0, within=5)  # the server takes a moment to notice


@pytest.mark.parametrize("notify", [True, False], ids=["woken", "polling"])
def test_a_relay_moves_what_comes_until_it_is_told_to_end(
    relay: Callable[..., Program],
    notify: bool,
) -> None:
    early = tasks.noop.enqueue()

    program = relay(outbox={"NOTIFY": notify})
    wait_until(lambda: in_home(early.id) == ["jobs_job"])
    bad = MessageFactory(headers="{")
    late = tasks.noop.enqueue()
    wait_until(lambda: in_home(late.id) == ["jobs_job"])

    assert program.terminate(within=5) == 0
    assert in_home(bad.uid) == ["outbox_setasidemessage"]
    assert "Relaying." in program.said()
    assert "3 messages moved." in program.said()
    assert SetAsideMessage.objects.count() == 1


@pytest.mark.postgresql("sessions on a server")
def test_a_relay_whose_connection_is_cut_goes_on(relay: Callable[..., Program]) -> None:
    program = relay()
    before = tasks.noop.enqueue()
    wait_until(lambda: in_home(before.id) == ["jobs_job"])

    with a_cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE application_name LIKE 'outbox-relay-%%' AND datname = current_database()"
        )
        assert cursor.fetchone() == (1,)
    after = tasks.noop.enqueue()
    wait_until(lambda: in_home(after.id) == ["jobs_job"])

    assert program.terminate(within=5) == 0
