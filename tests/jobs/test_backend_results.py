"""A job in every home, as Django's TaskResult."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.utils import timezone

if not settings.TASKS:
    pytest.skip("Django before 6.0 without django-tasks has no tasks", allow_module_level=True)

from jobs.backend.api import exceptions
from jobs.errors import JobCancelled, ResultMissing, TimedOut, WorkerLost
from jobs.handle import JobHandle
from outbox.errors import Undeliverable
from tests import django_tasks
from tests.factories import AttemptFactory, FinishedJobFactory, JobFactory, MessageFactory, SetAsideMessageFactory

pytestmark = pytest.mark.django_db

TASK = "tests.django_tasks.add"
HEADERS = '{"v":1,"task":"%s","queue":"mail","priority":7,"max_attempts":1,"delay":60.0}'
NOW = timezone.now()


def found(job_id: Any) -> Any:
    return django_tasks.add.get_result(str(job_id))


@pytest.mark.parametrize(
    ("traits", "status"),
    [
        ({}, "READY"),
        ({"scheduled": True}, "READY"),
        ({"retrying": True}, "READY"),
        ({"running": True, "claimed_at": NOW}, "RUNNING"),
    ],
)
def test_a_job_that_has_not_ended(traits: dict[str, Any], status: str) -> None:
    job = JobFactory(task=TASK, arguments='{"args":[1],"kwargs":{"b":2}}', priority=7, queue="mail", **traits)

    result = found(job.id)

    assert (result.status, result.args, result.kwargs, result.backend) == (status, [1], {"b": 2}, "default")
    assert (result.task.priority, result.task.queue_name) == (7, "mail")
    assert result.task.run_after == job.run_after and result.enqueued_at == job.enqueued_at
    assert result.finished_at is None and not result.is_finished
    assert result.worker_ids == (["1"] if status == "RUNNING" else [])
    assert result.started_at == (NOW if status == "RUNNING" else None)


def test_a_message_that_no_relay_has_seen() -> None:
    message = MessageFactory(headers=HEADERS % TASK, body='{"args":[1],"kwargs":{}}')

    result = found(message.uid)

    assert (result.status, result.args, result.task.priority, result.task.queue_name) == ("READY", [1], 7, "mail")
    assert result.enqueued_at == message.written_at
    assert result.task.run_after == message.written_at + timedelta(minutes=1)


def test_one_that_was_set_aside_has_failed_and_says_why() -> None:
    message = SetAsideMessageFactory(headers=HEADERS % TASK, error="the body is not right")

    result = found(message.uid)

    assert result.status == "FAILED" and result.errors[0].exception_class is Undeliverable
    assert result.errors[0].traceback == "the body is not right"


@pytest.mark.parametrize("broken", [{"headers": "nonsense"}, {"headers": HEADERS % TASK, "body": "nonsense"}])
def test_one_that_cannot_be_read_at_all_is_nobodys(broken: dict[str, str]) -> None:
    message = SetAsideMessageFactory(**broken)

    with pytest.raises(exceptions.TaskResultDoesNotExist):
        found(message.uid)


@pytest.mark.parametrize("task", ["tests.tasks.noop", "no.such.task"])
def test_a_job_of_no_django_task_is_nobodys(task: str) -> None:
    job = JobFactory(task=task)

    with pytest.raises(exceptions.TaskResultDoesNotExist):
        found(job.id)


def test_every_try_is_a_worker_and_every_bad_one_an_error() -> None:
    job = FinishedJobFactory(task=TASK, state="succeeded", result="3", attempts=3, crashes=2, worker=9, started_at=NOW)
    kinds = ["failed", "timed_out", "crashed", "lost"]
    for n, kind in enumerate(kinds):
        AttemptFactory(
            job=job.id, lease=n + 1, number=n + 1, kind=kind, worker=n + 1, error="tests.django_tasks.Refused: no",
            traceback="Traceback ..." if kind == "failed" else "", started_at=NOW - timedelta(minutes=5 - n),
        )  # fmt: skip

    result = found(job.id)

    assert result.return_value == 3 and result.finished_at == job.ended_at
    assert result.worker_ids == ["1", "2", "3", "4", "9"] and result.attempts == 5
    assert [error.exception_class for error in result.errors] == [
        django_tasks.Refused,
        TimedOut,
        WorkerLost,
        WorkerLost,
    ]
    assert [error.traceback for error in result.errors][:2] == ["Traceback ...", "tests.django_tasks.Refused: no"]
    assert (result.started_at, result.last_attempted_at) == (NOW - timedelta(minutes=5), NOW)


def test_a_dead_job_has_failed_with_the_times_of_its_tries() -> None:
    job = FinishedJobFactory(task=TASK, state="dead", result=None, attempts=1, started_at=NOW, error="ValueError: no")
    AttemptFactory(job=job.id, lease=1, number=1, kind="failed", worker=1, error="ValueError: no", started_at=NOW)

    result = found(job.id)

    assert result.status == "FAILED" and result.errors[0].exception_class is ValueError
    assert (result.started_at, result.last_attempted_at, result.finished_at) == (NOW, NOW, job.ended_at)
    with pytest.raises(ValueError, match="failed"):
        result.return_value  # noqa: B018


def test_a_cancelled_job_has_failed_and_says_by_whom() -> None:
    job = FinishedJobFactory(task=TASK, state="cancelled", result=None, error="cancelled by anna")

    result = found(job.id)

    assert result.status == "FAILED"
    assert [(error.exception_class, error.traceback) for error in result.errors] == [
        (JobCancelled, "cancelled by anna")
    ]


def test_a_result_that_was_not_kept_is_not_none() -> None:
    job = FinishedJobFactory(task=TASK, state="succeeded", result=None, error="its result was not kept: too large")
    none = FinishedJobFactory(task=TASK, state="succeeded", result="null")

    result = found(job.id)

    assert result.status == "SUCCESSFUL"
    with pytest.raises(ResultMissing, match="too large"):
        result.return_value  # noqa: B018
    assert issubclass(ResultMissing, ValueError)
    assert found(none.id).return_value is None


def test_refresh_brings_along_why_there_is_no_result() -> None:
    job = JobFactory(task=TASK)
    result = found(job.id)
    job_id = job.id
    job.delete()
    FinishedJobFactory(id=job_id, task=TASK, state="succeeded", result=None, error="too large")

    result.refresh()

    with pytest.raises(ResultMissing):
        result.return_value  # noqa: B018


def test_a_job_is_found_though_its_queue_is_gone_and_its_arguments_unreadable() -> None:
    job = FinishedJobFactory(task=TASK, state="dead", queue="gone", arguments="nonsense", result=None)

    result = found(job.id)

    assert (result.status, result.args, result.kwargs) == ("FAILED", [], {})


def test_a_result_knows_the_job_it_is_of() -> None:
    result = django_tasks.add.enqueue(1)

    handle = result.job

    assert isinstance(handle, JobHandle) and str(handle.id) == result.id and handle.status == "written"


def test_a_job_that_is_nowhere() -> None:
    for nowhere in (uuid4(), "no id"):
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            found(nowhere)
