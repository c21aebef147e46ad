"""What can be a task, what cannot, and that it is said at import."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from types import FunctionType
from typing import Any

import pytest

import jobs
from jobs import JobContext, task
from jobs.declare import registry
from jobs.errors import InvalidOption, InvalidTask
from tests.support.processes import ROOT, environment


@pytest.fixture(autouse=True)
def the_registry_as_it_was() -> Iterator[None]:
    before = dict(registry)
    yield
    registry.clear()
    registry.update(before)


def send(to: str) -> str:
    return to


async def send_async(to: str) -> str:
    return to


def with_context(context: JobContext, to: str) -> str:
    return to


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@decorated
def wrapped(to: str) -> str:
    return to


class Shop:
    def method(self) -> None:
        pass

    @staticmethod
    def static() -> None:
        pass

    def __call__(self) -> None:
        pass


def copied(function: Any, **changed: Any) -> Any:
    """The same function with another name or module."""
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    for name, value in changed.items():
        setattr(copy, name, value)
    return copy


def test_a_bare_decorator() -> None:
    made = task(send)

    assert made.name == f"{__name__}.send"
    assert registry[made.name] is made
    assert made.func is send
    assert not made.is_async
    assert (made.priority, made.queue_name, made.max_attempts, made.timeout) == (0, "default", 1, None)
    assert (made.source_name, made.delay, made.run_after, made.idempotency_key) == ("", 0.0, None, None)


def test_a_decorator_with_options() -> None:
    made = task(
        name="shop.tasks.send",
        priority="high",
        queue_name="mail",
        max_attempts=5,
        timeout=timedelta(minutes=2),
        backoff=[1, timedelta(minutes=1)],
        retry_on=[OSError, ValueError],
        never_retry_on=FileNotFoundError,
        source_name="mails/out",
        takes_context=True,
    )(with_context)

    assert registry["shop.tasks.send"] is made
    assert (made.priority, made.queue_name, made.max_attempts, made.timeout) == (50, "mail", 5, 120.0)
    assert made.backoff == (1, timedelta(minutes=1))
    assert (made.retry_on, made.never_retry_on) == ((OSError, ValueError), (FileNotFoundError,))
    assert (made.source_name, made.takes_context) == ("mails/out", True)


def test_a_coroutine_function_is_an_async_task() -> None:
    assert task(send_async).is_async


def test_a_decorated_function_is_a_task_under_its_own_name() -> None:
    assert task(wrapped).name == f"{__name__}.wrapped"


def test_a_module_that_is_loaded_again_declares_the_same_tasks() -> None:
    first = task(send)
    second = task(copied(send, __module__=__name__))

    assert registry[first.name] is second


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda: None, "not at module level"),
        (copied(send, __qualname__="outer.<locals>.send"), "not at module level"),
        (Shop.method, "not at module level"),
        (Shop.static, "not at module level"),
        (Shop().method, "is not a function"),
        (Shop, "is not a function"),
        (Shop(), "is not a function"),
        (functools.partial(send, "x"), "is not a function"),
        (print, "is not a function"),
        ("tests.tasks.add", "is not a function"),
        (staticmethod(send), "is not a function"),
        (generator, "is a generator"),
        (async_generator, "is a generator"),
        (copied(send, __module__="__main__"), "Put it into an app's tasks.py"),
        (copied(send, __qualname__="früh"), "dotted Python name"),
        (copied(send, __module__="a" * 200), "at most 200"),
    ],
)
def test_what_cannot_be_a_task(function: Any, said: str) -> None:
    before = dict(registry)

    with pytest.raises(InvalidTask, match=said):
        task(function)

    assert registry == before


def test_a_task_is_not_made_a_task_twice() -> None:
    with pytest.raises(InvalidTask, match="Put @task outermost"):
        task(task(send))  # type: ignore[call-overload]


@pytest.mark.parametrize("function", [send, Shop.static], ids=["another first parameter", "none at all"])
def test_a_context_must_be_the_first_parameter(function: Any) -> None:
    function = copied(function, __qualname__="send")

    with pytest.raises(InvalidTask, match="must be named `context`"):
        task(takes_context=True)(function)


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a b", "a\n", "1a", "a-b", "os/system", "ä", "a" * 201])
def test_a_name_is_a_dotted_python_name(name: str) -> None:
    with pytest.raises(InvalidTask, match="dotted Python name"):
        task(name=name)(send)


def test_two_functions_cannot_have_one_name() -> None:
    task(name="shop.tasks.send")(send)

    with pytest.raises(InvalidTask, match=r"two functions are named 'shop\.tasks\.send'"):
        task(name="shop.tasks.send")(send_async)


@pytest.mark.parametrize(
    "options",
    [
        {"priority": "urgent"},
        {"priority": 101},
        {"priority": 1.5},
        {"priority": True},
        {"priority": None},
        {"queue_name": "nowhere"},
        {"queue_name": ""},
        {"queue_name": None},
        {"max_attempts": 0},
        {"max_attempts": 11},
        {"max_attempts": "3"},
        {"max_attempts": True},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": timedelta(0)},
        {"timeout": "60"},
        {"timeout": True},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"backoff": -1},
        {"backoff": []},
        {"backoff": "5"},
        {"backoff": ["5"]},
        {"backoff": [timedelta(-1)]},
        {"backoff": float("nan")},
        {"backoff": True},
        {"backoff": 10**400},
        {"retry_on": "ValueError"},
        {"retry_on": ValueError("x")},
        {"retry_on": (ValueError, "OSError")},
        {"never_retry_on": int},
        {"source_name": "two words"},
        {"source_name": "s" * 201},
        {"source_name": None},
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_refused_at_import(options: dict[str, Any]) -> None:
    before = dict(registry)

    with pytest.raises(InvalidOption, match=next(iter(options))):
        task(**options)(send)

    assert registry == before


@pytest.mark.parametrize("backoff", [0, 1.5, timedelta(seconds=1), [1, 2.5], (1,), lambda error, context: None, None])
def test_any_form_of_a_backoff_is_taken(backoff: Any) -> None:
    task(backoff=backoff)(send)


def test_a_retry_policy_may_name_one_class_or_several() -> None:
    assert task(retry_on=OSError)(send).retry_on == (OSError,)
    assert task(retry_on=(OSError, KeyError))(send).retry_on == (OSError, KeyError)
    assert task(retry_on=())(send).retry_on == ()


def test_the_tasks_of_all_installed_apps_are_known_at_start_up() -> None:
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import django; django.setup(); from jobs.declare import registry; print('tests.tasks.add' in registry)",
        ],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert said.stdout.strip() == "True"


def test_the_package_gives_its_names_and_no_others() -> None:
    assert {name for name in jobs.__all__ if getattr(jobs, name).__name__ == name} == set(jobs.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        jobs.nothing  # noqa: B018
