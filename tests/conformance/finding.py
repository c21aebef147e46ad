"""Finding results again: from any thread and process that has the id."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections

from jobs.backend.api import exceptions
from tests.conformance.ground import Ground, behaviour

TOPIC = "Results"


@behaviour(TOPIC, "`get_result` finds a job by its id, from another thread too", "get_result")
def _(ground: Ground) -> None:
    result = ground.task("add").enqueue(1, b=2)
    found: list[Any] = []

    def look() -> None:
        found.append(ground.task("add").get_result(result.id))
        connections.close_all()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found[0].id == result.id and found[0].task.func is result.task.func
    assert (found[0].args, found[0].kwargs, found[0].backend) == ([1], {"b": 2}, ground.alias)
    assert ground.backend.get_result(result.id).id == result.id


@behaviour(TOPIC, "it has the queue and the priority it was enqueued with", "get_result", "priority")
def _(ground: Ground) -> None:
    result = ground.task("add").using(priority=7, queue_name="mail").enqueue(1)
    task = ground.backend.get_result(result.id).task
    assert (task.priority, task.queue_name) == (7, "mail")


@behaviour(TOPIC, "an id that is nowhere, or no id: `TaskResultDoesNotExist`", "get_result")
def _(ground: Ground) -> None:
    for nowhere in ("01900000-0000-7000-8000-000000000000", "no id", "", "x" * 500):
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            ground.backend.get_result(nowhere)
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            async_to_sync(ground.task("add").aget_result)(nowhere)


@behaviour(TOPIC, "the id of another task's job: `TaskResultMismatch`", "get_result")
def _(ground: Ground) -> None:
    result = ground.task("add").enqueue(1)
    with pytest.raises(exceptions.TaskResultMismatch):
        ground.task("echo").get_result(result.id)
    with pytest.raises(exceptions.TaskResultMismatch):
        async_to_sync(ground.task("echo").aget_result)(result.id)


@behaviour(TOPIC, "without `supports_get_result`, another thread is told so or finds nothing")
def _(ground: Ground) -> None:
    if ground.supports("get_result"):
        return
    result = ground.task("add").enqueue(1)
    said: list[BaseException] = []

    def look() -> None:
        try:
            ground.backend.get_result(result.id)
        except (NotImplementedError, exceptions.TaskResultDoesNotExist) as error:
            said.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert said


@behaviour(TOPIC, "`refresh` and `arefresh` bring a result up to date in place", "run", "get_result")
def _(ground: Ground) -> None:
    result = ground.task("add").enqueue(1, 2)
    again = ground.backend.get_result(result.id)
    ground.finished(result)
    async_to_sync(again.arefresh)()
    assert again.status == "SUCCESSFUL" and again.return_value == 3
    for attribute in ("started_at", "finished_at", "last_attempted_at", "enqueued_at", "worker_ids", "errors"):
        assert getattr(again, attribute) == getattr(result, attribute)
