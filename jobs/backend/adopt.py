"""Adopt a declared Django task: from then on it is a task of the registry, the only thing a worker runs.

It takes a Django task; it leaves the registered task of its name, and answers a copy with the options of this one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.apps import apps
from django.utils import timezone

from jobs.backend.api import InvalidTask, base
from jobs.backend.call import callable_of, policy_backoff
from jobs.backend.declared import PER_JOB, POLICY, seen
from jobs.backend.settings import SAID_ABOVE
from jobs.conf import jobs_settings
from jobs.declare import registry
from jobs.declare import task as declare
from jobs.errors import InvalidOption, JobsError
from jobs.tasks import Task

logger = logging.getLogger("jobs")

_late: dict[str, tuple[str, str]] = {}
"""Module and alias of those declared after start-up: in a module that a worker may never import."""


def job_task_of(task: Any, backend: Any) -> Task[Any, Any]:
    """The task as a job task with the options of this copy; raises InvalidOption or InvalidTask."""
    name = task.module_path
    known = registry.get(name)
    if known is None or getattr(known.func, "__wrapped__", None) is not task.func:
        known = _declare(task, backend, queue=task.queue_name)
        if apps.ready:
            _late[name] = (task.func.__module__, task.backend)
    policy = policy_of(task, backend)
    given = {option: value for option in PER_JOB if (value := getattr(task, option, None)) is not None}
    made = replace(
        known,
        priority=int(task.priority),
        queue_name=task.queue_name,
        max_attempts=policy.get("max_attempts", 1),
        source_name=policy.get("source_name", ""),
        delay=getattr(task, "delay", 0.0),
        run_after=_aware(task.run_after),
        database=getattr(task, "database", None) or backend.settings.database,
        idempotency_key=getattr(task, "idempotency_key", None),
    )
    return made.using(**given) if given else made


def adopt_loaded(backend: Any) -> None:
    """Adopt the tasks in loaded modules that were declared for another backend: `using(backend=...)` may bring them."""
    for module in list(sys.modules.values()):
        for value in list(getattr(module, "__dict__", {}).values()):
            # By type(): isinstance() would ask a lazy object what it is, and wake an admin site that is not installed.
            if issubclass(type(value), base.Task) and value.module_path not in registry:
                try:
                    _declare(value, backend, queue=None)
                except (JobsError, InvalidTask) as error:
                    logger.info("%s cannot be a job: %s", value.module_path, error)


def unseen(backend: Any) -> Iterator[tuple[str, str]]:
    """Name and module of this alias's tasks that workers do not come by when they start."""
    for name, (module, alias) in sorted(_late.items()):
        if alias == backend.alias and module not in backend.settings.modules:
            yield name, module


def policy_of(task: Any, backend: Any) -> dict[str, Any]:
    """What the task itself says, else what TASKS says about it, else what TASKS says about all."""
    said = backend.settings.of_task(task.module_path)
    chosen = {}
    for option in POLICY:
        value = getattr(task, option, None)
        if value is None:
            value = said.get(option)
        if value is None and option.upper() in SAID_ABOVE:
            value = backend.settings.default(option.upper())
        if value is not None:
            chosen[option] = value
    return chosen


def _declare(task: Any, backend: Any, queue: str | None) -> Task[Any, Any]:
    name, queues = task.module_path, jobs_settings().QUEUES
    policy = policy_of(task, backend)
    if callable(policy.get("backoff")):
        policy["backoff"] = policy_backoff(policy["backoff"], name)
    try:
        made: Task[Any, Any] = declare(
            name=name,
            takes_context=task.takes_context,
            queue_name=queue or (queues[0] if queues else "default"),
            priority=int(task.priority),
            **policy,
        )(callable_of(task, backend.alias, keeps="backoff" in policy and callable(policy["backoff"])))
    except InvalidOption:
        raise
    except JobsError as error:
        raise InvalidTask(str(error)) from error
    seen[name] = task
    return made


def _aware(due: datetime | None) -> datetime | None:
    return timezone.make_aware(due) if due is not None and timezone.is_naive(due) else due
