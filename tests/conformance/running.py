"""Running: outcomes, the context, order and time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.conformance.ground import Ground, behaviour
from tests.django_tasks import Refused
from tests.support.wait import wait_until

TOPIC = "Running"


@behaviour(TOPIC, "success: SUCCESSFUL, with its `return_value`", "run")
def _(ground: Ground) -> None:
    result = ground.run("add", 1, 2)
    assert result.status == "SUCCESSFUL" and result.is_finished and result.return_value == 3
    assert result.errors == []
    assert ground.run("echo", None).return_value is None


@behaviour(TOPIC, "times: enqueued, started, last attempted, finished, in this order", "run")
def _(ground: Ground) -> None:
    result = ground.run("add", 1, 2)
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.last_attempted_at == result.started_at
    assert abs(timezone.now() - result.finished_at) < timedelta(minutes=1)


@behaviour(TOPIC, "one attempt, one worker id, a text", "run")
def _(ground: Ground) -> None:
    result = ground.run("add", 1, 2)
    assert result.attempts == 1 and len(result.worker_ids) == 1
    assert isinstance(result.worker_ids[0], str) and 0 < len(result.worker_ids[0]) <= 64


@behaviour(TOPIC, "an exception: FAILED, one of `errors` with its class and traceback", "run")
def _(ground: Ground) -> None:
    result = ground.run("refuse", "no such thing")
    assert result.status == "FAILED" and result.is_finished
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value
    (error,) = result.errors
    assert error.exception_class_path == "tests.django_tasks.Refused" and error.exception_class is Refused
    assert "Traceback" in error.traceback and "no such thing" in error.traceback and "in refuse" in error.traceback
    assert result.attempts == 1


@behaviour(TOPIC, "an exception of Python's own is named with its module", "run")
def _(ground: Ground) -> None:
    (error,) = ground.run("add", 1, "2").errors
    assert error.exception_class_path == "builtins.TypeError" and error.exception_class is TypeError


@behaviour(TOPIC, "a return value that is no JSON: FAILED", "run")
def _(ground: Ground) -> None:
    result = ground.run("answer_what_is_no_json")
    assert result.status == "FAILED" and len(result.errors) == 1
    assert issubclass(result.errors[0].exception_class, Exception)


@behaviour(TOPIC, "a return value is what JSON makes of it: tuples become lists", "run")
def _(ground: Ground) -> None:
    assert ground.run("answer_a_tuple").return_value == {"pair": [1, 2]}


@behaviour(TOPIC, "`takes_context`: a TaskContext with `attempt` 1 and the running `task_result`", "run")
def _(ground: Ground) -> None:
    result = ground.run("tell_context", "here")
    told = result.return_value
    assert "TaskContext" in told.pop("kind")
    assert told == {"mark": "here", "attempt": 1, "id": result.id, "status": "RUNNING"}


@behaviour(TOPIC, "`async def` tasks run, and take the context", "run", "async_task")
def _(ground: Ground) -> None:
    assert ground.run("async_add", 20, 22).return_value == 42
    result = ground.run("async_tell_context")
    assert result.return_value == {"attempt": 1, "id": result.id, "args": []}


@behaviour(TOPIC, "tasks of every queue in `QUEUES` run", "run")
def _(ground: Ground) -> None:
    result = ground.finished(ground.task("add", queue_name="mail").enqueue(1, 2))
    assert result.return_value == 3 and result.task.queue_name == "mail"


@behaviour(TOPIC, "a higher priority goes first", "run", "priority", "get_result")
def _(ground: Ground) -> None:
    # Within one band of ours: low has its turn at being first, now and then.
    ground.side_file.path.write_text("")
    due = timezone.now() + timedelta(seconds=1) if ground.supports("defer") else None
    mark = ground.task("leave_mark")
    results = [mark.using(priority=n, run_after=due).enqueue(f"priority {n}") for n in (-49, -1, 0, 1, 25, 49)]
    for result in results:
        ground.finished(result)
    first = [line for line in ground.side_file.lines() if line.startswith("priority")]
    assert first == [f"priority {n}" for n in (49, 25, 1, 0, -1, -49)]


@behaviour(TOPIC, "`run_after`: not before its time, then it runs", "run", "defer", "get_result")
def _(ground: Ground) -> None:
    due = timezone.now() + timedelta(seconds=0.5)
    result = ground.task("add").using(run_after=due).enqueue(1, 2)
    other = ground.task("add").using(run_after=due + timedelta(hours=1)).enqueue(1, 2)
    ground.finished(result)
    assert result.started_at >= due and result.return_value == 3
    other.refresh()
    assert other.status == "READY" and other.attempts == 0


@behaviour(TOPIC, "while it runs: RUNNING, one attempt, started and not finished", "run", "get_result")
def _(ground: Ground) -> None:
    path = ground.side_file.path.with_name("go")
    path.unlink(missing_ok=True)
    result = ground.task("wait_for_file").enqueue(str(path))

    def runs() -> bool:
        result.refresh()
        return bool(result.status == "RUNNING")

    wait_until(runs, within=30, what="it runs")
    assert result.attempts == 1 and result.started_at is not None and result.finished_at is None
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    path.touch()
    assert ground.finished(result).status == "SUCCESSFUL"
