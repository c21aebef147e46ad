"""Tasks of every shape of signature."""

from __future__ import annotations

from typing import Any

from jobs import JobContext, task


@task
def none() -> None:
    pass


@task
def plain(a: Any, b: Any) -> tuple[Any, Any]:
    return a, b


@task
def with_default(a: Any, b: Any = 2) -> tuple[Any, Any]:
    return a, b


@task
def positional_only(a: Any, b: Any = 2, /) -> tuple[Any, Any]:
    return a, b


@task
def keyword_only(*, a: Any, b: Any = 2) -> tuple[Any, Any]:
    return a, b


@task
def mixed(a: Any, /, b: Any, *, c: Any) -> tuple[Any, Any, Any]:
    return a, b, c


@task
def any_args(*args: Any) -> tuple[Any, ...]:
    return args


@task
def any_kwargs(**kwargs: Any) -> dict[str, Any]:
    return kwargs


@task
def anything(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


@task(takes_context=True)
def contextual(context: JobContext, a: Any) -> Any:
    return context.attempt, a


@task(takes_context=True)
def contextual_kwargs(context: JobContext, **kwargs: Any) -> Any:
    return context.attempt, kwargs


@task(takes_context=True)
def contextual_args(context: JobContext, *args: Any) -> Any:
    return context.attempt, args


@task
async def coroutine(a: Any, b: Any = 2) -> tuple[Any, Any]:
    return a, b


@task(takes_context=True)
async def contextual_coroutine(context: JobContext, a: Any) -> Any:
    return context.attempt, a
