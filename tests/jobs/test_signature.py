"""A call that could never run is refused where it is made."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.errors import InvalidArguments
from jobs.tasks import Task
from tests.support import shapes

FITS: list[tuple[Task[Any, Any], tuple[Any, ...], dict[str, Any]]] = [
    (shapes.none, (), {}),
    (shapes.plain, (1, 2), {}),
    (shapes.plain, (1,), {"b": 2}),
    (shapes.plain, (), {"b": 2, "a": 1}),
    (shapes.with_default, (1,), {}),
    (shapes.with_default, (1, 3), {}),
    (shapes.with_default, (), {"a": 1}),
    (shapes.positional_only, (1,), {}),
    (shapes.positional_only, (1, 3), {}),
    (shapes.keyword_only, (), {"a": 1}),
    (shapes.keyword_only, (), {"b": 3, "a": 1}),
    (shapes.mixed, (1, 2), {"c": 3}),
    (shapes.mixed, (1,), {"c": 3, "b": 2}),
    (shapes.any_args, (), {}),
    (shapes.any_args, tuple(range(50)), {}),
    (shapes.any_kwargs, (), {}),
    (shapes.any_kwargs, (), {"self": 1, "args": 2, "kwargs": 3, "func": 4, "context": 5, "not an identifier": 6}),
    (shapes.anything, (1, 2), {"a": 3, "args": 4}),
    (shapes.contextual, (1,), {}),
    (shapes.contextual, (), {"a": 1}),
    (shapes.contextual_kwargs, (), {"a": 1}),
    (shapes.contextual_args, (1, 2), {}),
    (shapes.coroutine, (1,), {}),
    (shapes.contextual_coroutine, (1,), {}),
]

MISFITS: list[tuple[Task[Any, Any], tuple[Any, ...], dict[str, Any]]] = [
    (shapes.none, (1,), {}),
    (shapes.none, (), {"a": 1}),
    (shapes.plain, (), {}),
    (shapes.plain, (1,), {}),
    (shapes.plain, (1, 2, 3), {}),
    (shapes.plain, (1, 2), {"b": 2}),
    (shapes.plain, (1, 2), {"c": 2}),
    (shapes.with_default, (), {}),
    (shapes.with_default, (1, 2, 3), {}),
    (shapes.with_default, (), {"b": 2}),
    (shapes.positional_only, (), {}),
    (shapes.positional_only, (), {"a": 1}),
    (shapes.positional_only, (1,), {"b": 2}),
    (shapes.keyword_only, (1,), {}),
    (shapes.keyword_only, (), {}),
    (shapes.keyword_only, (), {"b": 1}),
    (shapes.mixed, (1, 2), {}),
    (shapes.mixed, (1, 2, 3), {}),
    (shapes.mixed, (), {"a": 1, "b": 2, "c": 3}),
    (shapes.any_args, (), {"a": 1}),
    (shapes.any_kwargs, (1,), {}),
    (shapes.contextual, (), {}),
    (shapes.contextual, (1, 2), {}),
    (shapes.contextual, (1,), {"context": 2}),
    (shapes.contextual_kwargs, (), {"context": 2}),
    (shapes.contextual_args, (), {"context": 2}),
    (shapes.coroutine, (), {}),
    (shapes.contextual_coroutine, (), {}),
]


def called(call: tuple[Task[Any, Any], tuple[Any, ...], dict[str, Any]]) -> str:
    task, args, kwargs = call
    return f"{task.func.__name__}{args[:4]}{kwargs}"


@pytest.mark.parametrize("call", FITS, ids=called)
def test_a_call_that_fits_passes_and_would_run(call: tuple[Task[Any, Any], tuple[Any, ...], dict[str, Any]]) -> None:
    task, args, kwargs = call

    task.check_call(args, kwargs)
    task.call(*args, **kwargs)


@pytest.mark.parametrize("call", MISFITS, ids=called)
def test_a_call_that_does_not_fit_is_refused_with_the_signature(
    call: tuple[Task[Any, Any], tuple[Any, ...], dict[str, Any]],
) -> None:
    task, args, kwargs = call

    with pytest.raises(InvalidArguments, match=task.name) as caught:
        task.check_call(args, kwargs)

    assert "(" in str(caught.value)
    with pytest.raises(TypeError):
        task.call(*args, **kwargs)


def test_the_message_says_what_is_missing() -> None:
    with pytest.raises(InvalidArguments) as caught:
        shapes.plain.check_call((1,), {})

    assert str(caught.value) == (
        "tests.support.shapes.plain(a: 'Any', b: 'Any') -> 'tuple[Any, Any]' cannot be called like this:"
        " missing a required argument: 'b'."
    )


def test_the_context_is_no_argument_of_the_caller() -> None:
    with pytest.raises(InvalidArguments) as caught:
        shapes.contextual.check_call((), {})

    assert "context" not in str(caught.value).removeprefix(shapes.contextual.name)
