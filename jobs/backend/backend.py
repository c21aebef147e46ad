"""The backend: it checks a declared task, writes jobs in the caller's transaction, and finds results.

Django makes one for each thread and alias, so it keeps nothing. A crash while it enqueues is the caller's rollback.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning

from jobs.backend.api import InvalidTask, backends, normalize_json, signals
from jobs.backend.declared import JobsTask
from jobs.backend.hearers import hears
from jobs.backend.settings import BackendSettings
from jobs.early import early
from jobs.errors import InvalidArguments, InvalidOption

if TYPE_CHECKING:
    from jobs.tasks import Task


class JobsBackend(backends.BaseTaskBackend):  # type: ignore[misc]  # a class of the installed Django
    """Runs Django tasks as jobs: `enqueue` is one INSERT in the transaction that is open."""

    task_class: ClassVar[Any] = JobsTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self.params = params
        self.settings = BackendSettings(alias, params)

    def validate_task(self, task: Any) -> None:
        """Raise InvalidTask for one that could not run as a job; declare it where it is seen for the first time."""
        super().validate_task(task)
        _check_function(task)
        if apps.models_ready:
            self.job_task(task)
        else:
            early.append(lambda: self.job_task(task))

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Write one job in the caller's transaction; its TaskResult has the id at once.

        Raises InvalidTask, or InvalidArguments for what the function or JSON cannot take; then nothing is written.
        """
        job_task = self.job_task(task)
        args, kwargs = _normal(job_task.name, args, kwargs)
        handle = job_task.enqueue(*args, **kwargs)
        return self._enqueued(task, str(handle.id), args, kwargs)

    def enqueue_many(
        self, task: Any, calls: Iterable[Any], *, idempotency_keys: Iterable[str] | None = None
    ) -> list[Any]:
        """Write many, all or none."""
        job_task = self.job_task(task)
        pairs = [_pair(job_task.name, n, call) for n, call in enumerate(calls)]
        handles = job_task.enqueue_many(
            [kwargs or tuple(args) for args, kwargs in pairs], idempotency_keys=idempotency_keys
        )
        return [self._enqueued(task, str(handle.id), *pair) for handle, pair in zip(handles, pairs, strict=True)]

    def get_result(self, result_id: str) -> Any:
        """The job of that id as it is now; raises TaskResultDoesNotExist for one that is nowhere, or no Django task."""
        from jobs.backend.look import find

        return find(self, result_id)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """What `manage.py check` says about this alias."""
        from jobs.backend.adopt import unseen

        where = f"TASKS[{self.alias!r}]"
        missing = [app for app in ("outbox", "jobs") if not apps.is_installed(app)]
        if missing:
            hint = f"Add {' and '.join(map(repr, missing))} to INSTALLED_APPS and run `manage.py migrate`."
            return [Error(f"{where} uses JobsBackend, which lives in two apps.", hint=hint, id="jobs.E010")]
        found: list[CheckMessage] = [
            Error(problem, hint=hint, id="jobs.E011") for problem, hint in self.settings.problems()
        ]
        found += [
            CheckWarning(
                f"{where}: the task {name} is declared in {module}, which a worker may never import: its jobs would"
                " wait for a worker that knows it.",
                hint=f"Move it to the tasks.py of an installed app, or name {module!r} in"
                f' TASKS[{self.alias!r}]["OPTIONS"]["MODULES"].',
                id="jobs.W010",
            )
            for name, module in unseen(self)
        ]
        return found

    def job_task(self, task: Any) -> Task[Any, Any]:
        """The task as this system has it, with the options of this copy; kept with the copy while TASKS is the same."""
        kept = getattr(task, "__dict__", {}).get("_as_job")
        if kept is not None and kept[0] is self.params:
            job_task: Task[Any, Any] = kept[1]
            return job_task
        from jobs.backend.adopt import job_task_of

        try:
            made = job_task_of(task, self)
        except InvalidOption as error:
            raise InvalidTask(str(error)) from error
        if hasattr(task, "__dict__"):
            task.__dict__["_as_job"] = (self.params, made)
        return made

    def _enqueued(self, task: Any, result_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        from jobs.backend.results import fresh

        result = fresh(self, task, result_id, args, kwargs)
        if hears(signals.task_enqueued, logging.DEBUG):
            signals.task_enqueued.send(type(self), task_result=result)
        return result


def _normal(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """As Django has it: a tuple becomes a list, bytes become text; what is then no JSON is refused by `enqueue`."""
    try:
        return normalize_json(list(args)), normalize_json(dict(kwargs))
    except (TypeError, ValueError):
        from jobs.envelope import check_json

        problem = check_json(list(args), "args") or check_json(dict(kwargs), "kwargs")
        raise InvalidArguments(f"{name}: {problem}.") from None


def _pair(name: str, n: int, call: Any) -> tuple[list[Any], dict[str, Any]]:
    if isinstance(call, tuple):
        return _normal(name, call, {})
    if isinstance(call, Mapping):
        return _normal(name, (), call)
    raise InvalidArguments(
        f"Call {n} of enqueue_many is a {type(call).__name__}: give a tuple of positional arguments, or a dict of"
        " keyword arguments."
    )


def _check_function(task: Any) -> None:
    function = task.func
    if function.__module__ == "__main__":
        raise InvalidTask(
            f"{task.module_path} is in a script, which workers do not import. Put it into an app's tasks.py."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidTask(f"{task.module_path} is a generator: calling it runs nothing. Write it without yield.")
