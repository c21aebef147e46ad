"""The three signals, each in the process that acts."""

from __future__ import annotations

from tests.conformance.ground import Ground, behaviour
from tests.support.wait import wait_until

TOPIC = "Signals"


def _sender(ground: Ground) -> str:
    kind = type(ground.backend)
    return f"{kind.__module__}.{kind.__qualname__}"


@behaviour(TOPIC, "`task_enqueued`: once, READY, sent by the backend's class")
def _(ground: Ground) -> None:
    result = ground.task("add").enqueue(1)
    assert [line[2:] for line in ground.said(result, "enqueued")] == [["add", "READY", "0", _sender(ground)]]


@behaviour(TOPIC, "`task_started`: once, RUNNING, with its first attempt", "run")
def _(ground: Ground) -> None:
    result = ground.run("add", 1)
    assert [line[2:] for line in ground.said(result, "started")] == [["add", "RUNNING", "1", _sender(ground)]]


@behaviour(TOPIC, "`task_finished`: once, SUCCESSFUL, and `get_result` says so by then", "run")
def _(ground: Ground) -> None:
    result = ground.run("add", 1)
    (line,) = wait_until(lambda: ground.said(result, "finished"), what="the signal")
    assert line[2:6] == ["add", "SUCCESSFUL", "1", _sender(ground)]
    if ground.supports("get_result"):
        assert "stored=SUCCESSFUL" in line


@behaviour(TOPIC, "`task_finished` of a failure: once, FAILED, with its error", "run")
def _(ground: Ground) -> None:
    result = ground.run("refuse", "no")
    (line,) = wait_until(lambda: ground.said(result, "finished"), what="the signal")
    assert line[3] == "FAILED" and "errors=tests.django_tasks.Refused" in line


@behaviour(TOPIC, "`async def` tasks send the same", "run", "async_task")
def _(ground: Ground) -> None:
    result = ground.run("async_add", 1, 2)
    (line,) = wait_until(lambda: ground.said(result, "finished"), what="the signal")
    assert line[3] == "SUCCESSFUL"
    assert [said[3] for said in ground.said(result, "started")] == ["RUNNING"]
