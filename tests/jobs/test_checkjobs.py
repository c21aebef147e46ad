"""`manage.py checkjobs`: every job that has not ended is bound to the code at hand."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings

from jobs.draft import headers_of
from jobs.recipe import RENDER
from tests import tasks
from tests.factories import FinishedJobFactory, JobFactory, MessageFactory
from tests.support.blocks import page, templates

pytestmark = pytest.mark.django_db


def check(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("checkjobs", *arguments, stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def test_jobs_that_fit_are_counted_wherever_they_are() -> None:
    tasks.add.enqueue(1, 2)
    JobFactory()
    JobFactory(scheduled=True)
    JobFactory(retrying=True)
    JobFactory(running=True)

    assert check() == (0, "All 5 jobs that have not ended would run with this code.\n")


def test_nothing_waits() -> None:
    assert check() == (0, "All 0 jobs that have not ended would run with this code.\n")


def test_what_has_ended_is_nobodys_business() -> None:
    FinishedJobFactory(task="gone.tasks.send")

    assert check()[0] == 0


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"task": "gone.tasks.send"}, "no such task"),
        ({"task": "tests.tasks.add", "arguments": '{"args":[1],"kwargs":{}}'}, "cannot be called like this"),
        ({"task": "tests.tasks.noop", "arguments": "garbage"}, "cannot be read"),
        ({"task": "tests.tasks.noop", "version": 2}, "version 2"),
        ({"task": "tests.tasks.renamed_argument", "version": 1, "arguments": '{"args":["x"],"kwargs":{}}'}, "upgrade"),
    ],
)
def test_a_job_that_would_break_is_listed_with_the_reason(given: dict[str, Any], why: str) -> None:
    JobFactory()
    job = JobFactory(scheduled=True, **given)

    status, said = check()

    assert status == 1
    assert str(job.id) in said and given["task"] in said and why in said
    assert "1 of 2 jobs would not run with this code." in said


@pytest.mark.parametrize(
    "tag", ["{% background n=1 %}{% effect n %}{% endbackground %}", "{% background 'tests/welcome.html' %}"]
)
def test_a_background_block_is_compiled_with_this_code(tag: str) -> None:
    page(tag)
    assert check()[0] == 0

    with override_settings(TEMPLATES=templates(libraries={"works": "tests.templatetags.other_money"})):
        status, said = check()

    assert status == 1
    assert "this code cannot compile the block at" in said or "has no template tests/welcome.html" in said


@pytest.mark.parametrize("reference", ['{"digest":"0"}', "{}", "5", '{"recipe":"{}","signature":"x"}'])
def test_a_background_block_that_is_not_there_or_not_ours_is_listed(reference: str) -> None:
    JobFactory(task=RENDER, arguments=f'{{"args":[{reference},{{}}],"kwargs":{{}}}}')

    status, said = check()

    assert status == 1
    assert "not kept" in said or "signature" in said or "cannot be read" in said


def test_an_older_version_with_an_upgrade_fits() -> None:
    JobFactory(task="tests.tasks.renamed_argument", version=1, arguments='{"args":["5"],"kwargs":{}}')
    JobFactory(task="tests.tasks.renamed_argument", version=2, arguments='{"args":[],"kwargs":{"number":5}}')

    assert check()[0] == 0


def test_a_message_that_no_relay_has_moved_is_looked_at_too() -> None:
    MessageFactory(headers='{"v":1,"task":"gone.tasks.send","queue":"default"}')
    MessageFactory(headers="garbage")

    status, said = check()

    assert status == 1
    assert "gone.tasks.send" in said and "not JSON" in said


def test_json_lists_all() -> None:
    jobs = [JobFactory(task="gone.tasks.send") for _ in range(60)]

    status, said = check("--json")
    found = json.loads(said)

    assert (status, found["checked"]) == (1, 60)
    assert {row["id"] for row in found["broken"]} == {str(job.id) for job in jobs}
    assert set(found["broken"][0]) == {"id", "task", "state", "why"}
    assert "and 10 more" in check()[1]


def test_a_database_that_is_not_configured() -> None:
    with pytest.raises(CommandError, match=r"settings\.DATABASES has"):
        check("--database", "nowhere")


def test_what_a_job_is_to_call_back_is_looked_at_too() -> None:
    last = tasks.noop.using(on_success=tasks.add.callback(1, 2))
    job = tasks.noop.using(on_failure=tasks.tell_end.callback("x"), on_complete=last).enqueue()
    assert check() == (0, "All 4 jobs that have not ended would run with this code.\n")
    callbacks = json.dumps(headers_of(tasks.noop.using(on_failure=tasks.tell_end.callback("x")))["callbacks"])
    waiting = JobFactory(callbacks=callbacks.replace("tell_end", "told_end"))
    JobFactory(callbacks=callbacks.replace('"x"', ""))

    status, said = check("--json")

    assert status == 1
    assert [(row["id"], row["task"], row["state"]) for row in json.loads(said)["broken"]][:1] == [
        (str(waiting.id), "tests.tasks.told_end", "on_failure")
    ]
    assert len(json.loads(said)["broken"]) == 2 and str(job.id) not in said
