"""Declaring a task: what is accepted, and what is refused at the decorator."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timedelta
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from jobs.backend.api import InvalidTask
from jobs.backend.api import tasks as api
from tests import django_tasks
from tests.conformance.ground import Ground, behaviour

TOPIC = "Declaring"


@behaviour(TOPIC, "a task has `name`, `module_path`, `priority` 0, queue `default`, no `run_after`")
def _(ground: Ground) -> None:
    task = ground.task("add")
    assert (task.name, task.module_path) == ("add", "tests.django_tasks.add")
    assert (task.priority, task.queue_name, task.run_after, task.takes_context) == (0, "default", None, False)
    assert task.backend == ground.alias and task.get_backend() is ground.backend
    assert isinstance(task, ground.backend.task_class)


@behaviour(TOPIC, "a function inside a function is refused: `InvalidTask`")
def _(ground: Ground) -> None:
    def inner() -> None: ...

    with pytest.raises(InvalidTask):
        api.task(backend=ground.alias)(inner)


@behaviour(TOPIC, "`takes_context` wants a first parameter named `context`: `InvalidTask`")
def _(ground: Ground) -> None:
    with pytest.raises(InvalidTask):
        api.task(backend=ground.alias, takes_context=True)(django_tasks.add.func)


@behaviour(TOPIC, "a queue that is not in `QUEUES` is refused: `InvalidTask`")
def _(ground: Ground) -> None:
    assert ground.task("add", queue_name="mail").queue_name == "mail"
    with pytest.raises(InvalidTask):
        ground.task("add").using(queue_name="nobody-declared-this")


@behaviour(TOPIC, "priorities are whole numbers from -100 to 100, others `InvalidTask`", "priority")
def _(ground: Ground) -> None:
    task = ground.task("add")
    for priority in (-100, -1, 1, 100):
        assert task.using(priority=priority).priority == priority
    for priority in (-101, 101, 1.5):
        with pytest.raises(InvalidTask):
            task.using(priority=priority)


@behaviour(TOPIC, "`run_after` is an aware datetime, a naive one is `InvalidTask`", "defer")
def _(ground: Ground) -> None:
    due = timezone.now() + timedelta(hours=1)
    assert ground.task("add").using(run_after=due).run_after == due
    with pytest.raises(InvalidTask):
        ground.task("add").using(run_after=datetime(2030, 1, 1))


@behaviour(TOPIC, "`async def` is accepted", "async_task")
def _(ground: Ground) -> None:
    assert ground.task("async_add").name == "async_add"


@behaviour(TOPIC, "what a `supports_` flag denies is refused, what it claims accepted")
def _(ground: Ground) -> None:
    due = timezone.now() + timedelta(hours=1)
    claims: list[tuple[str, Any]] = [
        ("defer", lambda: ground.task("add").using(run_after=due)),
        ("priority", lambda: ground.task("add").using(priority=7)),
        ("async_task", lambda: ground.task("async_add")),
    ]
    for flag, declare in claims:
        if ground.supports(flag):
            declare()
        else:
            with pytest.raises(InvalidTask):
                declare()


@behaviour(TOPIC, "`using` answers a changed copy of the same class and leaves the task as it is")
def _(ground: Ground) -> None:
    task = ground.task("add")
    other = task.using(queue_name="mail")
    assert (task.queue_name, other.queue_name) == ("default", "mail")
    assert type(other) is type(task) and other.func is task.func and other.backend == ground.alias
    with pytest.raises(AttributeError):
        task.queue_name = "mail"


@behaviour(TOPIC, "`using(backend=...)` moves a task of another backend here")
def _(ground: Ground) -> None:
    elsewhere = api.task(backend="dummy")(django_tasks.add.func)
    moved = elsewhere.using(backend=ground.alias)
    assert moved.get_backend() is ground.backend
    assert moved.enqueue(1, 2).backend == ground.alias


@behaviour(TOPIC, "a task cannot be called; `call` and `acall` run it here and now, sync or not")
def _(ground: Ground) -> None:
    task = ground.task("add")
    with pytest.raises(TypeError):
        task(1, 2)
    assert task.call(1, b=2) == 3
    assert async_to_sync(task.acall)(1, b=2) == 3
    if ground.supports("async_task"):
        assert ground.task("async_add").call(1, 2) == 3


@behaviour(TOPIC, "a task survives `copy.deepcopy`, and from Django 6.1 on `pickle`")
def _(ground: Ground) -> None:
    task = ground.task("add", queue_name="mail")
    assert copy.deepcopy(task) == task
    if django.VERSION >= (6, 1):
        assert pickle.loads(pickle.dumps(task)) == task


@behaviour(TOPIC, "`run_after` in the decorator is a `TypeError`")
def _(ground: Ground) -> None:
    with pytest.raises(TypeError):
        ground.task("add", run_after=timezone.now())


@behaviour(TOPIC, "`manage.py check` has nothing to say about a right setting")
def _(ground: Ground) -> None:
    assert list(ground.backend.check()) == []
