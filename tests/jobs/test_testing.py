"""`jobs.testing`: what the tests of an application can do with jobs, in a transaction that never commits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import TestCase
from django.utils import timezone

from jobs import JobContext, task
from jobs.errors import JobsError
from jobs.ids import new_id
from jobs.models import FinishedJob, Job, LogLine
from jobs.testing import assert_enqueued, assert_not_enqueued, enqueued, run_jobs
from outbox.models import Message
from tests import tasks
from tests.models import Effect
from tests.support.database import on_sqlite
from tests.support.processes import ROOT, environment
from tests.support.side_file import SideFile
from tests.support.sql import a_cursor

pytestmark = pytest.mark.django_db


@task(max_attempts=3, backoff=60)
def remind(user_id: int, text: str = "hello", *, urgent: bool = False) -> str:
    if text == "fail":
        raise ConnectionError("no mail today")
    Effect.objects.create(note=f"{user_id} {text}")
    return text


@task(takes_context=True)
def fan_out(context: JobContext, count: int) -> None:
    context.progress(count, count, "fanned out")
    context.log("fanned out")
    remind.enqueue_many([(n,) for n in range(count)])


@task
def without_end() -> None:
    without_end.enqueue()


@task(atomic=True, max_attempts=2)
def all_or_nothing(fail: bool) -> None:
    Effect.objects.create(note="all")
    if fail:
        raise ValueError("nothing")


@task
def spoil() -> None:
    Effect.objects.create(note="before")
    with a_cursor() as cursor:
        cursor.execute("SELECT 1 FROM nowhere")


@task
async def ask(question: str) -> str:
    return f"{question}!"


# Running ------------------------------------------------------------------------------------------------------------


def test_jobs_run_in_the_transaction_of_the_test() -> None:
    handle = remind.using(priority="high").enqueue(7)

    ran = run_jobs()

    assert (len(ran), ran.states) == (1, {"succeeded": 1})
    assert (handle.status, handle.return_value, handle.attempts) == ("succeeded", "hello", 1)
    assert Effect.objects.get().note == "7 hello"
    assert not Message.objects.exists() and not Job.objects.exists()
    assert run_jobs().outcomes == []


def test_jobs_that_jobs_enqueue_run_too_and_what_they_say_is_kept() -> None:
    parent = fan_out.enqueue(3)

    assert run_jobs().states == {"succeeded": 4}

    assert {job.parent for job in FinishedJob.objects.filter(task=remind.name)} == {parent.id}
    assert parent.progress is not None and parent.progress.text == "fanned out"
    assert LogLine.objects.get().text == "fanned out"


def test_async_jobs_run_too() -> None:
    handle = ask.enqueue("why")

    run_jobs()

    assert handle.return_value == "why!"


def test_the_error_of_a_job_is_raised_after_it_was_written() -> None:
    handle = remind.enqueue(1, "fail")

    with pytest.raises(ConnectionError, match="no mail today"):
        run_jobs()

    assert (handle.status, handle.attempts) == ("retrying", 1)
    assert "ConnectionError" in handle.errors[0].traceback


def test_retries_run_when_their_time_is_made_to_come() -> None:
    handle = remind.enqueue(1, "fail")

    assert run_jobs(raise_errors=False).states == {"retrying": 1}
    assert run_jobs(raise_errors=False).states == {}
    ran = run_jobs(raise_errors=False, later=True)

    assert ran.states == {"retrying": 1, "dead": 1}
    assert ran.outcomes[-1].error.endswith("no mail today")
    handle.refresh()
    assert handle.status == "dead"


def test_what_is_scheduled_waits_until_it_is_asked_for() -> None:
    handle = remind.using(delay=timedelta(days=3)).enqueue(1)

    assert len(run_jobs()) == 0
    assert handle.status == "scheduled"
    assert len(run_jobs(later=True)) == 1


def test_higher_priority_runs_first() -> None:
    for priority in ("low", "high", "default"):
        remind.using(priority=priority).enqueue(1, priority)

    run_jobs()

    assert list(Effect.objects.order_by("pk").values_list("note", flat=True)) == ["1 high", "1 default", "1 low"]


def test_an_atomic_task_leaves_nothing_when_it_fails() -> None:
    all_or_nothing.enqueue(True)
    all_or_nothing.enqueue(False)

    assert run_jobs(raise_errors=False).states == {"retrying": 1, "succeeded": 1}

    assert Effect.objects.count() == 1


def test_an_error_of_the_database_spoils_that_job_only() -> None:
    handle = spoil.enqueue()
    after = remind.enqueue(1)

    assert run_jobs(raise_errors=False).states == {"dead": 1, "succeeded": 1}

    assert "nowhere" in handle.error
    assert after.return_value == "hello"
    # On PostgreSQL the statement spoils the transaction of the test, with what the job wrote before.
    notes = [effect.note for effect in Effect.objects.order_by("pk")]
    assert notes == [*(["before"] if on_sqlite() else []), "1 hello"]


def test_jobs_without_end_are_stopped() -> None:
    without_end.enqueue()

    with pytest.raises(JobsError, match="has run 20 attempts and there are more"):
        run_jobs(most=20)


def test_a_task_that_nobody_declares_is_said() -> None:
    Message.objects.create(
        uid=new_id(), headers='{"v":1,"task":"nobody.knows","queue":"default"}', body='{"args":[],"kwargs":{}}'
    )

    with pytest.raises(JobsError, match=r"no task 'nobody.knows' here: declare it in a tasks\.py"):
        run_jobs()


def test_a_message_that_cannot_be_relayed_is_said() -> None:
    Message.objects.create(uid=new_id(), headers="{}", body="{}")

    with pytest.raises(JobsError, match="cannot be relayed: the headers are of version None"):
        run_jobs()


@pytest.mark.django_db(transaction=True)
def test_it_works_where_transactions_commit() -> None:
    handle = remind.enqueue(7)
    spoil.enqueue()

    assert run_jobs(raise_errors=False).states == {"succeeded": 1, "dead": 1}

    assert handle.return_value == "hello"
    assert sorted(Effect.objects.values_list("note", flat=True)) == ["7 hello", "before"]


class InATestCase(TestCase):
    """The same under Django's own class, whose tests share a class-wide transaction."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.handle = remind.enqueue(1)

    def test_one(self) -> None:
        assert_enqueued(remind, 1)
        assert run_jobs().states == {"succeeded": 1}
        assert enqueued() == []

    def test_another_begins_anew(self) -> None:
        assert_enqueued(remind, 1)
        with transaction.atomic():
            remind.enqueue(2)
            transaction.set_rollback(True)
        assert [str(job) for job in enqueued()] == [f"{remind.name}(1)"]
        Effect.objects.create(pk=1, note="one")
        with pytest.raises(IntegrityError), transaction.atomic():
            Effect.objects.create(pk=1, note="two")
        assert run_jobs().states == {"succeeded": 1}


# Looking ------------------------------------------------------------------------------------------------------------


def test_what_was_enqueued_with_its_options() -> None:
    later = timezone.now() + timedelta(hours=1)
    first = remind.using(run_after=later, priority="low", max_attempts=5, source_name="mail").enqueue(7, urgent=True)
    tasks.noop.enqueue()

    (job,) = enqueued(remind)
    assert job == enqueued(remind.name)[0]
    assert (job.id, job.args, job.kwargs) == (first.id, [7], {"urgent": True})
    assert (job.priority, job.max_attempts, job.source_name, job.run_after) == (-50, 5, "mail", later)
    assert [each.task for each in enqueued()] == [remind.name, tasks.noop.name]


def test_what_waits_in_the_queue_is_seen_like_what_stands_in_the_outbox() -> None:
    remind.using(delay=5).enqueue(7)
    before = enqueued()

    run_jobs()

    assert Job.objects.count() == 1
    after = enqueued()
    assert [job._replace(run_after=None) for job in after] == [job._replace(run_after=None) for job in before]
    assert before[0].run_after is not None and before[0].run_after == after[0].run_after


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((7,), {}), ((), {"user_id": 7}), ((7, "hello"), {}), ((7,), {"text": "hello", "urgent": False})],
)
def test_a_call_is_found_however_it_is_written(args: Any, kwargs: Any) -> None:
    remind.enqueue(8)
    handle = remind.enqueue(7)

    assert assert_enqueued(remind, *args, **kwargs).id == handle.id


def test_the_context_is_no_argument() -> None:
    tasks.tell_context.enqueue("it")

    assert_enqueued(tasks.tell_context, "it")
    assert_enqueued(tasks.tell_context, mark="it", times=1)


def test_how_often() -> None:
    remind.enqueue_many([(7,), (7,), (8,)])

    assert_enqueued(remind, 7, times=2)
    assert_enqueued(remind, times=3)
    with pytest.raises(AssertionError, match=r"remind\(7\) was 2 times, not 1 times"):
        assert_enqueued(remind, 7, times=1)
    with pytest.raises(ValueError, match="assert_not_enqueued"):
        assert_enqueued(remind, 9, times=0)


@pytest.mark.parametrize(
    ("assertion", "words"),
    [
        (lambda: assert_enqueued(remind, 9, "bye"), ["remind(9, 'bye') was not enqueued.", "user_id is 7 and not 9."]),
        (lambda: assert_enqueued(remind, 7, urgent=True), ["Nearest: ", "urgent is False and not True."]),
        (lambda: assert_enqueued(remind, 1, 2, 3), ["These arguments do not fit", "(user_id: 'int'"]),
        (lambda: assert_enqueued(ask), ["ask(...) was not enqueued.", "Enqueued in all (2):", "  tests.tasks.noop()"]),
        (lambda: assert_not_enqueued(remind), ["1 jobs were enqueued that should not be:", "remind(7, text='bye')"]),
        (lambda: assert_not_enqueued(remind, 7, "bye"), ["should not be"]),
    ],
)
def test_a_failure_says_what_was_there_instead(assertion: Callable[[], object], words: list[str]) -> None:
    remind.enqueue(7, text="bye")
    tasks.noop.enqueue()

    with pytest.raises(AssertionError) as caught:
        assertion()

    for word in words:
        assert word in str(caught.value)


def test_a_failure_with_nothing_there_asks_about_the_transaction() -> None:
    with pytest.raises(AssertionError, match="Nothing was enqueued at all"):
        assert_enqueued(remind, 7)
    assert_not_enqueued(remind)


# The plugin ---------------------------------------------------------------------------------------------------------

FIXTURES = """
from tests import tasks

def test_one(run_jobs, enqueued, assert_enqueued, assert_not_enqueued):
    assert_not_enqueued(tasks.add)
    handle = tasks.add.enqueue(1, 2)
    assert len(enqueued()) == 1
    assert_enqueued(tasks.add, 1, 2)
    run_jobs()
    assert handle.return_value == 3

def test_two(transactional_db, run_jobs):
    handle = tasks.add.enqueue(1, 2)
    assert run_jobs().states == {"succeeded": 1}
"""


SETTINGS = """
from tests.settings import *
DATABASES = {"default": {**DATABASES["default"], "TEST": {"NAME": "test_application"}}}
"""


@pytest.mark.slow
def test_the_fixtures_are_there_without_a_word_under_xdist_too(tmp_path: Path) -> None:
    (tmp_path / "test_application.py").write_text(FIXTURES)
    (tmp_path / "application_settings.py").write_text(SETTINGS)
    env = {
        **environment(),
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "DJANGO_SETTINGS_MODULE": "application_settings",
    }

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            ROOT / "pyproject.toml",
            "--rootdir",
            tmp_path,
            "-n",
            "2",
            tmp_path,
        ],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_callbacks_run_too_and_what_its_condition_stops_is_no_error(side_file: SideFile) -> None:
    wanted = tasks.remind.enqueue("wanted")
    Effect.objects.create(note="done")
    done = tasks.remind.enqueue("done")

    assert run_jobs().states == {"succeeded": 3, "cancelled": 1}

    assert sorted(line for line in side_file.lines() if line.startswith("reminder")) == sorted(
        [f"reminder {wanted.id} succeeded None", f"reminder {done.id} cancelled None"]
    )
