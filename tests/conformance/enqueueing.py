"""Enqueueing: what comes back, and what arguments may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from tests.conformance.ground import Ground, behaviour

TOPIC = "Enqueueing"


@behaviour(TOPIC, "`enqueue` answers a TaskResult: id, task, arguments, backend, time")
def _(ground: Ground) -> None:
    before = timezone.now()
    task = ground.task("add")
    result = task.enqueue(1, b=2)
    assert isinstance(result.id, str) and 0 < len(result.id) <= 64
    assert result.task == task and result.backend == ground.alias
    assert (result.args, result.kwargs) == ([1], {"b": 2})
    assert before <= result.enqueued_at <= timezone.now()
    assert result.id != task.enqueue(1, b=2).id


@behaviour(TOPIC, "`aenqueue` does the same from async code")
def _(ground: Ground) -> None:
    result = async_to_sync(ground.task("add").aenqueue)(1, b=2)
    assert (result.args, result.kwargs) == ([1], {"b": 2})
    if ground.runs:
        assert ground.finished(result).return_value == 3


@behaviour(TOPIC, "a result is READY, without attempts, errors or times, until it runs")
def _(ground: Ground) -> None:
    if ground.supports("defer"):
        task = ground.task("add").using(run_after=timezone.now() + timedelta(hours=1))
    elif not ground.runs:
        task = ground.task("add")
    else:
        return  # it runs within `enqueue`
    result = task.enqueue(1)
    assert result.status == "READY" and not result.is_finished
    assert (result.attempts, result.errors, result.worker_ids) == (0, [], [])
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value


@behaviour(TOPIC, "arguments are what JSON makes of them: tuples become lists")
def _(ground: Ground) -> None:
    result = ground.task("echo").enqueue((1, [2, (3,)]))
    assert result.args == [[1, [2, [3]]]]


@behaviour(TOPIC, "arguments that are no JSON are refused at the call, and nothing is enqueued")
def _(ground: Ground) -> None:
    ground.side_file.path.write_text("")
    for value in (datetime(2030, 1, 1, tzinfo=UTC), {1, 2}, object()):
        with pytest.raises((TypeError, ValueError)):
            ground.task("echo").enqueue(value)
        with pytest.raises((TypeError, ValueError)):
            ground.task("echo").enqueue(value=value)
    assert not [line for line in ground.side_file.lines() if line.startswith("enqueued")]


@behaviour(TOPIC, "what changes in an argument after `enqueue` does not change the job")
def _(ground: Ground) -> None:
    value: dict[str, Any] = {"list": [1]}
    result = ground.task("echo").enqueue(value)
    value["list"].append(2)
    assert result.args == [{"list": [1]}]
    if ground.runs:
        assert ground.finished(result).return_value == {"list": [1]}


@behaviour(TOPIC, "positional and keyword arguments arrive as they were given", "run")
def _(ground: Ground) -> None:
    value = {"text": "žluťoučký 🐎", "none": None, "number": 1.5, "big": 2**70, "list": [True, {"a": []}], "": "x"}
    assert ground.run("echo", value).return_value == value
    assert ground.run("add", b=5, a=4).return_value == 9
