"""Whether a stored call fits the task at hand: read it, bring it to the task's version, bind it to the signature.

Pure: text and a task go in, arguments or a reason come out. A worker asks it before it calls a task, `checkjobs`
before a deploy.
"""

from __future__ import annotations

from typing import Any

from jobs.envelope import unpack_body
from jobs.tasks import Task


class Unreadable(Exception):
    """The arguments in the row are not what was ever written there."""


class Misfit(Exception):
    """The arguments are in order, but this version of the task cannot be called with them."""


def arguments_of(arguments: str, version: int, task: Task[Any, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments to call `task` with; raises Unreadable or Misfit."""
    try:
        args, kwargs = unpack_body(arguments)
    except ValueError as error:
        raise Unreadable(f"the arguments of this job cannot be read: {error}") from None
    if version > task.version:
        raise Misfit(f"it was enqueued for version {version} of {task.name}; this code has version {task.version}")
    for older in range(version, task.version):
        if (upgrade := task.upgrade.get(older)) is not None:
            args, kwargs = _upgraded(upgrade, older, args, kwargs, task)
    try:
        task.check_call(args, kwargs)
    except ValueError as error:
        raise Misfit(str(error)) from None
    return args, kwargs


def _upgraded(
    upgrade: Any, older: int, args: list[Any], kwargs: dict[str, Any], task: Task[Any, Any]
) -> tuple[list[Any], dict[str, Any]]:
    function = f"upgrade[{older}] of {task.name}"
    try:
        call = upgrade(*args, **kwargs)
    except Exception as error:
        raise Misfit(f"{function} raised {type(error).__name__}: {error}") from error
    if isinstance(call, tuple):
        return list(call), {}
    if isinstance(call, dict):
        return [], call
    raise Misfit(
        f"{function} answered a {type(call).__name__}: it must answer a tuple of positional arguments or a dict"
    )
