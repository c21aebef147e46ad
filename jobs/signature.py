"""Check a call against a task's signature at enqueue: a call that could never run is refused at the caller."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobs.errors import InvalidArguments


def checker(
    func: Callable[..., Any], name: str, *, skip_first: bool
) -> Callable[[Sequence[Any], Mapping[str, Any]], None]:
    """A function that raises InvalidArguments where `func` could not be called with these arguments.

    `skip_first` leaves out the first parameter (the context, which the worker gives).
    """
    signature = inspect.signature(func)
    parameters = list(signature.parameters.values())
    taken = None
    if skip_first:
        first, *parameters = parameters
        taken = first.name if first.kind is first.POSITIONAL_OR_KEYWORD else None
        signature = signature.replace(parameters=parameters)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    most = 10**9 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)
    needs_keywords = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)

    def check(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        # Most calls are positional only; Signature.bind costs some ten times this comparison.
        if not kwargs and not needs_keywords and required <= len(args) <= most:
            return
        if taken in kwargs:
            raise InvalidArguments(f"{name}{signature} cannot be called like this: {taken!r} is given by the worker.")
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArguments(f"{name}{signature} cannot be called like this: {error}.") from None

    return check


def wants_context(func: Callable[..., Any]) -> bool:
    """Whether a condition is to be given the JobContext before the arguments: its first parameter is `context`."""
    return next(iter(inspect.signature(func).parameters), None) == "context"
