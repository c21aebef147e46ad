"""Hide what nobody is to see: arguments that a task names in `redact=`, and keys that look like secrets.

It takes arguments as they are stored; it leaves the same with the secret values replaced. What is hidden here is in no
page's source, whatever the permissions of whoever looks. The rows keep the values: the task needs them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from jobs.conf import jobs_settings
from jobs.consume import redacted_for
from jobs.tasks import Task

HIDDEN = "•••"


def is_secret(name: str, redact: Iterable[str] = ()) -> bool:
    """Whether a value of that name is hidden: named by the task, or like one of JOBS["REDACT"]."""
    lowered = name.lower()
    return name in redact or any(part.lower() in lowered for part in jobs_settings().REDACT)


def named(args: list[Any], task: Task[Any, Any] | None) -> list[tuple[str, Any]]:
    """Positional arguments with the names of the task's parameters, where it is known; else their numbers."""
    names: list[str] = []
    if task is not None:
        parameters = list(inspect.signature(task.func).parameters.values())[1 if task.takes_context else 0 :]
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [(names[n] if n < len(names) else str(n), value) for n, value in enumerate(args)]


def redacted(value: Any, redact: Iterable[str] = ()) -> Any:
    """The same value with the secrets in it hidden, at any depth."""
    if isinstance(value, dict):
        return {key: HIDDEN if is_secret(str(key), redact) else redacted(item, redact) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted(item, redact) for item in value]
    return value


def redacted_call(
    args: list[Any], kwargs: dict[str, Any], task: Task[Any, Any] | None
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments with their secrets hidden."""
    names = names_of(task)
    shown = [HIDDEN if is_secret(name, names) else redacted(value, names) for name, value in named(args, task)]
    return shown, redacted(kwargs, names)


def names_of(task: Task[Any, Any] | None) -> tuple[str, ...]:
    """What a task hides, and what the events that it consumes hide."""
    return (*task.redact, *redacted_for(task.name)) if task is not None else ()


def restored(edited: Any, before: Any) -> Any:
    """What a person has edited, with the values back in place that were hidden from them."""
    if edited == HIDDEN:
        return before
    if isinstance(edited, dict) and isinstance(before, dict):
        return {key: restored(item, before[key]) if key in before else item for key, item in edited.items()}
    if isinstance(edited, list) and isinstance(before, list):
        return [restored(item, before[n]) if n < len(before) else item for n, item in enumerate(edited)]
    return edited
