"""Django tasks on a real worker, where it is killed and where it knows less than the site does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings

if not settings.TASKS:
    pytest.skip("Django before 6.0 without django-tasks has no tasks", allow_module_level=True)

from jobs.backend.api import tasks as api
from jobs.errors import TimedOut, WorkerLost
from jobs.models import FinishedJob, Job
from tests import django_tasks
from tests.support.declared import as_it_was
from tests.support.processes import Program
from tests.support.side_file import SideFile
from tests.support.wait import wait_until

Start = Callable[..., Program]


def until(result: Any, status: str) -> Any:
    def there() -> bool:
        result.refresh()
        return bool(result.status == status)

    wait_until(there, within=30, what=f"{result.task.name} is {status}")
    return result


def leave_a_mark_unseen(mark: str) -> None:
    django_tasks.append(mark)


@pytest.mark.kills
def test_a_try_that_hangs_or_dies_is_an_error_of_the_result(runworkers: Start, side_file: SideFile) -> None:
    # The priority of the first is high: its limit is that band's.
    hung = django_tasks.wait_for_file.using(priority=100).enqueue("/nowhere")
    died = django_tasks.tell_pid_and_wait_for_file.enqueue("/nowhere")
    runworkers("--slots", "2", jobs={"TIMEOUTS": {"high": 0.5}, "MAX_CRASHES": 1})

    until(hung, "FAILED")
    pid = wait_until(lambda: next(iter(side_file.lines()), ""), what="it runs")
    os.kill(int(pid), signal.SIGKILL)
    until(died, "FAILED")

    assert [error.exception_class for error in hung.errors] == [TimedOut]
    assert [error.exception_class for error in died.errors] == [WorkerLost]
    assert hung.attempts == died.attempts == 1
    assert hung.worker_ids == died.worker_ids
    with pytest.raises(ValueError, match="failed"):
        hung.return_value  # noqa: B018


def test_a_task_no_worker_has_loaded_waits_for_one_that_has(runworkers: Start, side_file: SideFile) -> None:
    with as_it_was():
        result = api.task(leave_a_mark_unseen).enqueue("ran")
    ignorant = runworkers("--slots", "1")
    wait_until(lambda: Job.objects.filter(pk=result.id, state="scheduled").exists(), what="it is put off")
    assert "tests.process.test_django_tasks.leave_a_mark_unseen" in ignorant.said()
    with as_it_was():
        api.task(leave_a_mark_unseen)
        result.refresh()
        assert result.status == "READY" and result.attempts == 0
    assert ignorant.terminate() == 0

    Job.objects.update(run_after="2020-01-01T00:00:00Z")
    runworkers("--slots", "1", env={"TEST_MODULES": "tests.process.test_django_tasks"})
    wait_until(lambda: FinishedJob.objects.filter(pk=result.id, state="succeeded").exists(), within=30)
    assert side_file.lines() == ["ran"]


if os.environ.get("TEST_MODULES"):  # in the worker that is told of this module
    api.task(leave_a_mark_unseen)
