"""A stored call and the task at hand: versions, upgrades, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.errors import InvalidOption, InvalidTask
from jobs.fit import Misfit, Unreadable, arguments_of
from jobs.options import check_upgrade, check_version
from jobs.tasks import Task
from tests import tasks
from tests.support.floor import a_task


def send(order: int, *, copies: int) -> None:
    """Version 3."""


def from_1(order: str) -> tuple[Any, ...]:
    return (int(order), 1)


def from_2(order: int, copies: int) -> dict[str, Any]:
    return {"order": order, "copies": copies}


def of_version_3(**upgrade: Any) -> Task[Any, Any]:
    return a_task(send, version=3, upgrade={1: from_1, 2: from_2} | upgrade.get("instead", {}))


def test_arguments_of_each_older_version_are_brought_up_step_by_step() -> None:
    task = of_version_3()

    assert arguments_of('{"args":["7"],"kwargs":{}}', 1, task) == ([], {"order": 7, "copies": 1})
    assert arguments_of('{"args":[7,2],"kwargs":{}}', 2, task) == ([], {"order": 7, "copies": 2})
    assert arguments_of('{"args":[7],"kwargs":{"copies":4}}', 3, task) == ([7], {"copies": 4})


def test_a_version_that_changed_nothing_needs_no_function() -> None:
    task = a_task(send, version=5, upgrade={2: from_2})

    assert arguments_of('{"args":[7,2],"kwargs":{}}', 1, task) == ([], {"order": 7, "copies": 2})


@pytest.mark.parametrize(
    ("arguments", "version", "instead", "said"),
    [
        ('{"args":[7],"kwargs":{"copies":4}}', 4, {}, "enqueued for version 4 .* this code has version 3"),
        ('{"args":["seven"],"kwargs":{}}', 1, {}, r"upgrade\[1\] of .* raised ValueError"),
        ('{"args":[],"kwargs":{}}', 1, {}, r"upgrade\[1\] of .* raised TypeError"),
        ('{"args":[7,2],"kwargs":{}}', 2, {2: lambda *_: [7, 2]}, r"upgrade\[2\] of .* answered a list"),
        ('{"args":[7,2],"kwargs":{}}', 2, {2: lambda *_: (7, 2)}, "cannot be called like this"),
        ('{"args":[7],"kwargs":{}}', 3, {}, "cannot be called like this"),
    ],
)
def test_what_does_not_fit_says_why(arguments: str, version: int, instead: Any, said: str) -> None:
    with pytest.raises(Misfit, match=said):
        arguments_of(arguments, version, of_version_3(instead=instead))


def test_garbage_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        arguments_of("garbage", 1, of_version_3())


@pytest.mark.parametrize("version", [0, -1, 40_000, "2", 1.0, True, None])
def test_a_version_that_is_none_is_refused(version: Any) -> None:
    with pytest.raises(InvalidOption, match="version="):
        check_version(version)


@pytest.mark.parametrize(
    ("upgrade", "version"), [([from_1], 2), ({1: "from_1"}, 2), ({2: from_2}, 2), ({0: from_1}, 2), ({"1": from_1}, 2)]
)
def test_an_upgrade_that_is_none_is_refused(upgrade: Any, version: int) -> None:
    with pytest.raises(InvalidOption, match="upgrade"):
        check_upgrade(upgrade, version)


@pytest.mark.parametrize("promise", ["at_most_once", "atomic"])
def test_the_promises_are_not_for_coroutines(promise: str) -> None:
    from jobs.declare import task

    with pytest.raises(InvalidTask, match=f"{promise}=True.*plain function"):
        task(**{promise: True})(tasks.async_wait.func)


def test_an_atomic_task_is_refused_another_database() -> None:
    task = a_task(send, atomic=True)

    with pytest.raises(InvalidOption, match="is atomic"):
        task.using(database="other")
