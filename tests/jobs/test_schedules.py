"""Schedules in the dashboard, on the command line and in the checks: who may do what, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.test import override_settings

from jobs import arrange, plan
from jobs.models import Job, Note, Schedule
from jobs.proposal import EMPTY
from outbox.text import clean
from tests import tasks
from tests.factories import FinishedJobFactory, JobFactory, ScheduleFactory
from tests.support.dashboard import at
from tests.support.people import staff, superuser

pytestmark = pytest.mark.django_db

GOOD = {**EMPTY, "name": "mine", "task": "tests.tasks.noop", "cron": "0 2 * * *", "timezone": "Europe/Paris",
        "verb": "save"}  # fmt: skip


def act(client: Any, schedule: Schedule, verb: str, **more: str) -> Any:
    return client.post(at("act_on_schedule"), {"schedule": str(schedule.pk), "verb": verb, **more})


def fresh(schedule: Schedule) -> Schedule:
    schedule.refresh_from_db()
    return schedule


# Looking --------------------------------------------------------------------------------------------------------------


def test_the_list_says_when_in_plain_words_and_the_next_three_times() -> None:
    ScheduleFactory(
        name="nightly", cron="0 2 * * *", every=None, timezone="Europe/Paris",
        next_at=datetime(2099, 3, 28, 1, tzinfo=UTC),
    )  # fmt: skip

    page = superuser().get(at("schedules")).content.decode()

    assert "At 02:00 every day" in page and "Europe/Paris" in page
    for said in ("Sat 28 Mar 2099 02:00", "Sun 29 Mar 2099 03:00", "Mon 30 Mar 2099 02:00"):
        assert said in page, "the second of them falls into the gap"
    assert "no job yet" in page


def test_the_last_job_and_its_state(django_assert_max_num_queries: Any) -> None:
    schedule = ScheduleFactory()
    job = JobFactory(running=True, parent=schedule.pk, origin=f"schedule {schedule.name}, due 2026-01-01 02:00:00 UTC")
    Schedule.objects.update(last_job=job.pk, last_at=datetime.now(UTC), missed_ticks=4, skipped_ticks=5)
    root = superuser()

    with django_assert_max_num_queries(12):
        page = root.get(at("schedules")).content.decode()
    assert at("change", job.pk) in page and "running" in page

    page = root.get(at("schedule", schedule.pk)).content.decode()
    assert "due 2026-01-01 02:00:00 UTC" in page and "4 ticks" in page and "5 ticks" in page
    page = root.get(at("change", job.pk)).content.decode()
    assert at("schedule", schedule.pk) in page, "the job's page leads to its schedule"


@pytest.mark.postgresql("pg_sleep, which nothing can interrupt on SQLite")
def test_more_jobs_than_can_be_looked_through_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = ScheduleFactory()
    slow = "SELECT pg_sleep(1) WHERE %s <> gen_random_uuid() AND %s <> gen_random_uuid()"
    monkeypatch.setattr("jobs.dashboard.schedules.JOBS", slow)
    monkeypatch.setattr("jobs.dashboard.look.MOST_SECONDS", 0.05)

    answer = superuser().get(at("schedule", schedule.pk))

    assert answer.status_code == 200 and "too many to look through" in answer.content.decode()


def test_an_empty_list_says_how_to_begin() -> None:
    assert "There is no schedule yet" in superuser().get(at("schedules")).content.decode()


def test_arguments_are_seen_with_their_permission_and_secrets_by_nobody() -> None:
    schedule = ScheduleFactory(arguments='{"args":["an argument"],"kwargs":{"password":"hush"}}')

    page = staff("jobs.view_job").get(at("schedule", schedule.pk)).content.decode()
    assert "an argument" not in page and "hidden" in page
    root = superuser()
    page = root.get(at("schedule", schedule.pk)).content.decode()
    assert "an argument" in page and "hush" not in page
    assert "hush" not in root.get(at("edit_schedule", schedule.pk)).content.decode()


def test_what_ails_stands_on_the_overview() -> None:
    ScheduleFactory(trouble="no such task")
    ScheduleFactory(declared=True, orphaned_at=datetime.now(UTC))
    ScheduleFactory(next_at=datetime.now(UTC) - timedelta(hours=1))
    ScheduleFactory(paused_at=datetime.now(UTC), next_at=datetime.now(UTC) - timedelta(hours=1))

    page = " ".join(superuser().get(at("changelist")).content.decode().split())

    for said in ("cannot be run", "is late: no scheduler has looked", "is left over: no running code"):
        assert page.count(f"1 schedule</a> {said}") == 1


@pytest.mark.parametrize("url", ["schedules", "schedule", "new_schedule", "edit_schedule"])
def test_who_may_not_look_sees_nothing(url: str) -> None:
    schedule = ScheduleFactory(name="secret.name")
    address = at(url, *([schedule.pk] if url in ("schedule", "edit_schedule") else []))

    answer = staff("jobs.manage_schedule", "jobs.run_schedule", "jobs.view_arguments").get(address)

    assert answer.status_code == 403 and b"secret.name" not in answer.content


# Acts -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "permission"),
    [
        ("pause", "manage_schedule"),
        ("resume", "manage_schedule"),
        ("delete", "manage_schedule"),
        ("run", "run_schedule"),
    ],
)
def test_each_act_has_its_permission_and_needs_the_one_to_look(verb: str, permission: str) -> None:
    schedule = ScheduleFactory(paused_at=datetime.now(UTC) if verb == "resume" else None)
    before = Schedule.objects.values().get()
    others = {"jobs.manage_schedule", "jobs.run_schedule", "jobs.view_arguments"} - {f"jobs.{permission}"}
    without, blind = staff("jobs.view_job", *others), None

    assert act(without, schedule, verb, confirmed="yes").status_code == 403
    blind = superuser()
    assert blind.get(at("act_on_schedule")).status_code == 405
    assert blind.post(at("act_on_schedule"), {"verb": "explode", "schedule": str(schedule.pk)}).status_code == 400
    assert Schedule.objects.values().get() == before and not Job.objects.exists() and not LogEntry.objects.exists()

    assert act(blind, schedule, verb, confirmed="yes").status_code == 302
    assert LogEntry.objects.get().change_message == verb


def test_pause_asks_for_the_reason_and_resume_goes_on_with_the_next_tick() -> None:
    past = datetime.now(UTC) - timedelta(days=3)
    schedule, client = ScheduleFactory(next_at=past), staff("jobs.view_job", "jobs.manage_schedule")

    assert "until somebody resumes it" in act(client, schedule, "pause").content.decode()
    assert fresh(schedule).paused_at is None
    act(client, schedule, "pause", confirmed="yes", reason="the provider is down")
    assert (fresh(schedule).paused_by, schedule.pause_reason) == ("staff", "the provider is down")
    act(client, schedule, "resume")

    assert fresh(schedule).paused_at is None and schedule.pause_reason == ""
    assert schedule.next_at is not None and schedule.next_at > datetime.now(UTC), "nothing is made up for"


def test_run_now_makes_a_job_that_says_who(django_capture_on_commit_callbacks: Any) -> None:
    schedule = ScheduleFactory(task="tests.tasks.add", arguments='{"args":[1],"kwargs":{}}', tick_as="b")
    before = schedule.next_at
    client = staff("jobs.view_job", "jobs.run_schedule")

    act(client, schedule, "run")

    job = Job.objects.get()
    assert (job.state, job.parent, job.origin) == (
        "ready", schedule.pk, f"schedule {schedule.name}, run by hand by staff",
    )  # fmt: skip
    assert datetime.fromisoformat(json.loads(job.arguments)["kwargs"]["b"])
    assert (fresh(schedule).last_job, schedule.made, schedule.next_at, schedule.last_at) == (job.pk, 1, before, None)
    assert Note.objects.get().by == "staff"


@pytest.mark.parametrize(
    ("columns", "why"),
    [({"task": "os.system"}, "this code has no task os.system"), ({"arguments": '{"args":[1,2],"kwargs":{}}'}, "many")],
)
def test_run_now_says_why_it_cannot(columns: dict[str, str], why: str) -> None:
    schedule, client = ScheduleFactory(**columns), superuser()

    act(client, schedule, "run")

    assert why in client.get(at("schedules")).content.decode()
    assert not Job.objects.exists() and fresh(schedule).made == 0


def test_what_the_code_has_is_neither_deleted_nor_edited_here_but_an_orphan_is_deleted() -> None:
    schedule, client = ScheduleFactory(declared=True), superuser()

    act(client, schedule, "delete", confirmed="yes")
    assert Schedule.objects.exists()
    assert client.get(at("edit_schedule", schedule.pk)).status_code == 404
    assert client.post(at("edit_schedule", schedule.pk), GOOD).status_code == 404
    Schedule.objects.update(orphaned_at=datetime.now(UTC))
    act(client, schedule, "delete", confirmed="yes")

    assert not Schedule.objects.exists()


def test_acts_on_one_that_is_gone_do_nothing() -> None:
    schedule, client = ScheduleFactory(), superuser()
    Schedule.objects.all().delete()

    for verb in ("pause", "resume", "run", "delete"):
        assert act(client, schedule, verb, confirmed="yes").status_code == 302
    assert not arrange.pause(schedule.pk) and not arrange.resume(schedule.pk) and arrange.run_now(schedule.pk) is None
    assert not Job.objects.exists() and not LogEntry.objects.exists()


# The form -------------------------------------------------------------------------------------------------------------


def test_a_schedule_is_made() -> None:
    client = staff("jobs.view_job", "jobs.manage_schedule", "jobs.view_arguments")
    given = {
        **GOOD, "arguments": '{"args": [], "kwargs": {"n": 3}}', "missed": "all", "missed_limit": "7",
        "overlap": "skip", "priority": "high", "queue_name": "mail", "max_attempts": "2", "source_name": "a/b",
        "delay": "1.5",
    }  # fmt: skip

    client.post(at("new_schedule"), given)

    row = Schedule.objects.get()
    assert (row.name, row.task, row.cron, row.every, row.timezone) == (
        "mine", "tests.tasks.noop", "0 2 * * *", None, "Europe/Paris",
    )  # fmt: skip
    assert (row.missed, row.missed_limit, row.overlap, row.declared) == ("all", 7, "skip", False)
    assert json.loads(row.arguments) == {"args": [], "kwargs": {"n": 3}}
    assert json.loads(row.options) == {
        "priority": "high", "queue_name": "mail", "max_attempts": 2, "source_name": "a/b", "delay": 1.5,
    }  # fmt: skip
    assert row.next_at is not None and row.next_at > datetime.now(UTC)
    assert LogEntry.objects.get().change_message == "Created."


def test_showing_the_next_times_writes_nothing() -> None:
    page = superuser().post(at("new_schedule"), {**GOOD, "verb": "check"}).content.decode()

    assert "At 02:00 every day" in page and page.count("02:00</time>") == 5
    assert not Schedule.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"task": "os.system"}, "Choose a task"),
        ({"task": ""}, "Choose a task"),
        ({"name": "two words"}, "letters, digits"),
        ({"name": ""}, "letters, digits"),
        ({"name": "taken"}, "give this one another name"),
        ({"cron": ""}, "Say when"),
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"number": "5"}, "one of the two"),
        ({"cron": "", "number": "x"}, "give a number"),
        ({"cron": "", "number": "nan"}, "give a number"),
        ({"cron": "", "number": "1e300"}, "give a number"),
        ({"cron": "", "number": "0.5", "unit": "second"}, "shortest interval"),
        ({"cron": "", "number": "-5"}, "above 0"),
        ({"timezone": "Mars/Olympus"}, "not known here"),
        ({"arguments": "{"}, "not JSON"),
        ({"arguments": "[]"}, "nothing else"),
        ({"arguments": "[" * 100_000}, "nested too deep"),
        ({"arguments": '{"args": {}, "kwargs": {}}'}, "must be a list"),
        ({"arguments": '{"args": [1, 2], "kwargs": {}}'}, "too many positional"),
        ({"arguments": '{"args": [NaN], "kwargs": {}}'}, "not JSON"),
        ({"tick_as": "at"}, "unexpected keyword argument"),
        ({"missed": "perhaps"}, "missed="),
        ({"missed_limit": "0"}, "missed_limit"),
        ({"missed_limit": "inf"}, "missed_limit"),
        ({"overlap": "perhaps"}, "overlap="),
        ({"queue_name": "nowhere"}, "not declared"),
        ({"priority": "urgent"}, "priority"),
        ({"priority": "101"}, "priority"),
        ({"max_attempts": "99"}, "max_attempts"),
        ({"max_attempts": "1.5"}, "max_attempts"),
        ({"source_name": "a b"}, "source_name"),
        ({"delay": "-1"}, "delay"),
        ({"delay": "nan"}, "delay"),
    ],
)
def test_what_cannot_be_is_refused_in_the_form_and_nothing_is_written(wrong: dict[str, str], words: str) -> None:
    ScheduleFactory(name="taken")

    answer = superuser().post(at("new_schedule"), {**GOOD, **wrong})

    assert answer.status_code == 200
    assert words in answer.content.decode().split('role="alert">')[1].split("</p>")[0].replace("&#x27;", "'")
    assert Schedule.objects.count() == 1 and not LogEntry.objects.exists()


@pytest.mark.parametrize("missing", ["manage_schedule", "view_arguments"])
def test_who_may_write_one(missing: str) -> None:
    client = staff("jobs.view_job", *{"jobs.manage_schedule", "jobs.view_arguments"} - {f"jobs.{missing}"})
    schedule = ScheduleFactory()

    assert client.post(at("new_schedule"), GOOD).status_code == 403
    assert client.post(at("edit_schedule", schedule.pk), GOOD).status_code == 403
    assert Schedule.objects.values_list("name", flat=True).get() == schedule.name


def edit(client: Any, schedule: Schedule, **changes: str) -> Any:
    """Send the form back as it was shown, with these changes."""
    shown = client.get(at("edit_schedule", schedule.pk)).context["values"]
    given = {**shown, "digest": fresh(schedule).digest, "verb": "save", **changes}
    return client.post(at("edit_schedule", schedule.pk), given)


def test_editing_the_rhythm_moves_the_next_tick_and_editing_anything_else_does_not() -> None:
    client = superuser()
    client.post(at("new_schedule"), {**GOOD, "cron": "", "number": "90", "unit": "minute"})
    row = Schedule.objects.get()
    before = row.next_at
    shown = client.get(at("edit_schedule", row.pk)).context["values"]
    assert (shown["number"], shown["unit"]) == ("90", "minute")

    edit(client, row, arguments='{"args": [5], "kwargs": {}}', name="renamed", priority="-50")
    assert (fresh(row).name, row.arguments, row.next_at) == ("renamed", '{"args":[5],"kwargs":{}}', before)
    assert json.loads(row.options) == {"priority": -50}
    edit(client, row, number="2", unit="day")

    assert fresh(row).every == timedelta(days=2)
    assert row.next_at is not None and row.next_at > datetime.now(UTC) + timedelta(hours=40)


def test_secrets_that_were_not_touched_stay() -> None:
    schedule = ScheduleFactory(task="tests.tasks.echo", arguments='{"args":[{"password":"hush","n":1}],"kwargs":{}}')

    edit(superuser(), schedule, arguments='{"args": [{"password": "•••", "n": 2}], "kwargs": {}}')

    assert json.loads(fresh(schedule).arguments)["args"] == [{"password": "hush", "n": 2}]


def test_what_somebody_else_has_changed_is_not_overwritten() -> None:
    client = superuser()
    client.post(at("new_schedule"), GOOD)
    row = Schedule.objects.get()
    old = row.digest
    edit(client, row, cron="0 3 * * *")

    edit(client, row, cron="0 4 * * *", digest=old)

    assert fresh(row).cron == "0 3 * * *"


def test_hostile_text_in_a_form_comes_back_as_text() -> None:
    hostile = "\"'><script>alert(1)</script>"

    page = superuser().post(at("new_schedule"), {**GOOD, "name": hostile, "cron": hostile}).content.decode()

    assert "<script>alert(1)" not in page


# The command ----------------------------------------------------------------------------------------------------------


def listed(*arguments: str) -> str:
    out = StringIO()
    call_command("schedules", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> dict[str, plan.Plan]:
    known: dict[str, plan.Plan] = {}
    for module in ("jobs.plan", "jobs.checks", "jobs.management.commands.schedules"):
        monkeypatch.setattr(f"{module}.declared", known)
    return known


def test_the_command_lists_them(code: dict[str, plan.Plan]) -> None:
    assert "There is no schedule" in listed()
    job = FinishedJobFactory()
    ScheduleFactory(
        name="nightly", cron="0 2 * * *", every=None, timezone="Europe/Paris", made=3, missed_ticks=2, last_job=job.pk,
        next_at=datetime(2099, 3, 28, 1, tzinfo=UTC), last_at=datetime(2099, 3, 27, 1, tzinfo=UTC),
    )  # fmt: skip
    ScheduleFactory(name="stopped", paused_at=datetime.now(UTC), pause_reason="a\x1b[31m reason")

    said = listed("--next", "2")

    assert "nightly  At 02:00 every day, Europe/Paris" in said
    assert "2099-03-28 02:00:00+0100, 2099-03-29 03:00:00+0200\n" in said
    assert "3 made, 2 missed, 0 skipped" in said and f"succeeded {job.pk}" in said
    assert "stopped  Every minute, UTC  [paused]" in said and "\x1b" not in said


def test_the_command_for_a_program(code: dict[str, plan.Plan]) -> None:
    ScheduleFactory(name="a", trouble="no")
    plan.every("@daily", name="b")(tasks.noop)

    first, second = [json.loads(line) for line in listed("--json").splitlines()]

    assert (first["name"], first["state"], first["every"], first["trouble"]) == ("a", "troubled", 60.0, "no")
    assert len(first["next"]) == 3 and datetime.fromisoformat(first["next"][0]).tzinfo is not None
    assert second == {"name": "b", "task": "tests.tasks.noop", "state": "not enrolled"}
    assert "In the code, and not in the table until a relay has started: b." in listed()


def test_the_command_refuses_nonsense() -> None:
    with pytest.raises(CommandError, match="from 1 to 1000"):
        listed("--next", "0")


# Checks ---------------------------------------------------------------------------------------------------------------


def test_check_tells_of_a_queue_that_is_declared_no_more(code: dict[str, plan.Plan]) -> None:
    plan.every("@daily", queue_name="mail")(tasks.noop)
    assert [found for found in run_checks() if found.id == "jobs.E004"] == []

    with override_settings(JOBS={"QUEUES": ["default"]}):
        (found,) = [found for found in run_checks() if found.id == "jobs.E004"]

    assert "'mail' is not declared" in found.msg


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"task": "os.system"}, "no task os.system"),
        ({"timezone": "Mars/Olympus"}, "not known here"),
        ({"options": '{"queue_name":"nowhere"}'}, "not declared"),
        ({"arguments": '{"args":[1,2],"kwargs":{}}'}, "too many positional"),
    ],
)
def test_check_with_the_database_looks_at_what_people_have_made(columns: dict[str, str], words: str) -> None:
    ScheduleFactory()
    assert [found for found in run_checks(databases=["default"]) if found.id == "jobs.W005"] == []
    ScheduleFactory(name="bad", **columns)

    assert [found for found in run_checks() if found.id == "jobs.W005"] == [], "only where the database is named"
    (found,) = [found for found in run_checks(databases=["default"]) if found.id == "jobs.W005"]

    assert "'bad'" in found.msg and words in clean(found.msg, 1000)
