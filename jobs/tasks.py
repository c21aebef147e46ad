"""Tasks and how to enqueue them: the door an application uses.

`enqueue` checks the call, packs it into an envelope and writes it to the outbox in the caller's transaction. A crash
here is the caller's rollback: there is no job.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar, cast
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction

from jobs import trace
from jobs.callback import Callback
from jobs.conf import jobs_settings
from jobs.context import JobContext
from jobs.draft import Call, draft, draft_many, headers_of
from jobs.envelope import dumps
from jobs.errors import InvalidOption
from jobs.handle import JobHandle
from jobs.ids import new_id
from jobs.keys import Identity, identify, require_key
from jobs.options import (
    UNSET,
    Unset,
    changed,
    check_attempts,
    check_database,
    check_key,
    check_queue,
    check_run_after,
    check_source_name,
    check_timeout,
    check_until,
)
from jobs.signature import checker, wants_context
from outbox.write import Draft, write, write_many

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Task(Generic[P, R]):
    """A function that can be enqueued, and the options its jobs get. Made by `@task`, changed by `using`."""

    func: Callable[..., Any]
    name: str
    """Dotted name: what stands in rows. It must stay the same while jobs with it wait."""
    takes_context: bool = False
    priority: int = 0
    queue_name: str = "default"
    max_attempts: int = 1
    """Total runs. An error or a timeout spends one; a crash, a deploy or a shutdown does not."""
    timeout: float | None = None
    """Seconds one attempt may run; None takes the limit of the priority."""
    backoff: Any = None
    retry_on: tuple[type[BaseException], ...] = (BaseException,)
    """Only these exceptions are retried."""
    never_retry_on: tuple[type[BaseException], ...] = ()
    """These are not, even if `retry_on` has them."""
    source_name: str = ""
    """Label in logs and admin; empty is the task's name."""
    at_most_once: bool = False
    """Never run a second time after a worker was lost."""
    atomic: bool = False
    """Runs in one transaction with its completion, on the queue's database."""
    version: int = 1
    """Of the arguments; a job of a newer version waits for a newer worker."""
    upgrade: Mapping[int, Callable[..., Any]] = field(default_factory=dict)
    """What to make of the arguments of an older version."""
    redact: tuple[str, ...] = ()
    """Names of arguments, and of keys in them, that are shown to nobody."""
    delay: float = 0.0
    """Seconds from the INSERT until the job may start."""
    run_after: datetime | None = None
    database: str | None = None
    idempotency_key: str | None = None
    unique_for: float | None = None
    """Seconds that the idempotency key holds, from when its job is accepted; None is `JOBS["KEEP_KEYS"]`."""
    until: str | None = None
    """"finished": the idempotency key holds as long as its job has not ended."""
    on_success: Callback | None = None
    on_failure: Callback | None = None
    on_complete: Callback | None = None
    only_if: Callable[..., Any] | None = None
    """Asked by the worker just before it would call the function; where it says no, the job is cancelled."""

    def __post_init__(self) -> None:
        check_queue(self.queue_name)
        check_attempts(self.max_attempts)
        check_timeout(self.timeout)
        check_source_name(self.source_name)
        check_run_after(self.run_after)
        check_database(self.database)
        check_key(self.idempotency_key)
        check_until(self.until, self.unique_for)
        if self.atomic and self.database not in (None, jobs_settings().DATABASE):
            raise InvalidOption(
                f"{self.name} is atomic: its jobs cannot be written to database={self.database!r}, since it commits on"
                f" the queue's database ({jobs_settings().DATABASE!r}). Leave database= out, or atomic=True."
            )

    do_not_call_in_templates: ClassVar[bool] = True  # a template would call whatever can be called

    def __hash__(self) -> int:
        return hash(self.name)

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"{self.name} is a task: .enqueue(...) runs it in a worker, .call(...) runs it here and now.")

    @cached_property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.func)

    @cached_property
    def calls_back(self) -> bool:
        return bool(self.on_success or self.on_failure or self.on_complete)

    @property
    def has_window(self) -> bool:
        """Whether its keys hold for a time of their own."""
        return self.unique_for is not None or self.until is not None

    def using(
        self,
        *,
        delay: float | timedelta | Unset = UNSET,
        run_after: datetime | Unset | None = UNSET,
        priority: str | int | Unset = UNSET,
        max_attempts: int | Unset = UNSET,
        queue_name: str | Unset = UNSET,
        source_name: str | Unset = UNSET,
        database: str | Unset | None = UNSET,
        idempotency_key: str | Unset | None = UNSET,
        unique_for: float | timedelta | Unset | None = UNSET,
        until: str | Unset | None = UNSET,
        on_success: Callback | Task[..., Any] | Unset | None = UNSET,
        on_failure: Callback | Task[..., Any] | Unset | None = UNSET,
        on_complete: Callback | Task[..., Any] | Unset | None = UNSET,
    ) -> Task[P, R]:
        """A copy with other options for the jobs enqueued through it; what is not given stays.

        `delay` is minutes or a timedelta, `run_after` an aware datetime; the one replaces the other. `unique_for`
        (seconds or a timedelta) or `until="finished"`: how long the idempotency key holds. `on_success`, `on_failure`,
        `on_complete`: a task, or one with arguments (`task.callback(...)`), None for none.
        Raises InvalidOption for a value that cannot be taken.
        """
        return replace(self, **changed({name: value for name, value in locals().items() if name != "self"}))

    def callback(self, /, *args: Any, **kwargs: Any) -> Callback:
        """This task with fixed arguments, for `on_success=`, `on_failure=` and `on_complete=` of another.

        A function with a parameter `ended` gets what became of that other job there: see `Ended`. Raises
        InvalidArguments or InvalidOption for a callback that could never run.
        """
        return Callback(self, args, kwargs)

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Write one job in the caller's transaction; returns its handle with the id at once.

        Raises InvalidArguments (or its kind PayloadTooLarge), TooDeep, or an OutboxError; then nothing is written.
        """
        if trace.spans is not None:
            with trace.spans.sending("enqueue", self.name, self.queue_name) as span:
                made = draft(self, args, kwargs, self._identity())
                span.set_attribute("messaging.message.id", str(made.uid))
                return JobHandle(made.uid, self, write(made, database=self.database))
        made = draft(self, args, kwargs, self._identity())
        return JobHandle(made.uid, self, write(made, database=self.database))

    async def aenqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """`enqueue` for async code. It runs where Django's async ORM runs, so it shares that thread's transaction."""
        return await sync_to_async(self.enqueue)(*args, **kwargs)

    def enqueue_many(
        self, calls: Iterable[Call], *, idempotency_keys: Iterable[str] | None = None
    ) -> list[JobHandle[R]]:
        """Write many jobs at once, all or none; returns their handles in order.

        Each call is a tuple of positional arguments or a dict of keyword arguments. `idempotency_keys` gives one key
        for each call. Raises as `enqueue` does, naming the call.
        """
        given = list(calls)
        if trace.spans is None or not given:
            return self._enqueue_many(given, idempotency_keys)
        with trace.spans.sending("enqueue", self.name, self.queue_name, len(given)):
            return self._enqueue_many(given, idempotency_keys)

    def _enqueue_many(self, calls: Sequence[Call], keys: Iterable[str] | None) -> list[JobHandle[R]]:
        drafts = draft_many(self, calls, keys)
        if not drafts:
            return []
        alias = write_many(drafts, database=self.database)
        return [JobHandle(each.uid, self, alias) for each in drafts]

    async def aenqueue_many(
        self, calls: Iterable[Call], *, idempotency_keys: Iterable[str] | None = None
    ) -> list[JobHandle[R]]:
        """`enqueue_many` for async code."""
        return await sync_to_async(self.enqueue_many)(calls, idempotency_keys=idempotency_keys)

    def draft(self, args: Sequence[Any], kwargs: Mapping[str, Any], key: str | None = None) -> Draft:
        """What `enqueue` would write, checked and packed, for somebody who writes it otherwise; `key` replaces the
        task's own idempotency key."""
        return draft(self, args, kwargs, self._identity() if key is None else identify(self, [key])[0])

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now: no job, no retry, no limit."""
        return self.run_with(self.context(new_id()), args, kwargs)

    def run_with(self, context: JobContext, args: Sequence[Any], kwargs: Mapping[str, Any]) -> R:
        """`call` as the job that the context describes."""
        given = (context, *args) if self.takes_context else args
        if self.is_async:
            return cast(R, async_to_sync(self.func)(*given, **kwargs))
        with transaction.atomic(using=jobs_settings().DATABASE) if self.atomic else nullcontext():
            return cast(R, self.func(*given, **kwargs))

    async def acall(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """`call` for async code."""
        context = self.context(new_id())
        if not self.is_async:
            return await sync_to_async(self.run_with)(context, args, kwargs)
        given = (context, *args) if self.takes_context else args
        return cast(R, await self.func(*given, **kwargs))

    def get_result(self, job_id: UUID | str) -> JobHandle[R]:
        """The handle of a job enqueued earlier; raises JobDoesNotExist when `refresh` finds none."""
        handle: JobHandle[R] = JobHandle(UUID(str(job_id)), self, self.database)
        handle.refresh()
        return handle

    def context(self, job_id: UUID, attempt: int = 1) -> JobContext:
        """The context of a job that nobody has enqueued."""
        return JobContext(
            job_id,
            self.idempotency_key or "" if not self.has_window else "",
            attempt,
            self.max_attempts,
            self.name,
            self.queue_name,
            self.priority,
            self.source_name or self.name,
            0,
        )

    @cached_property
    def check_call(self) -> Callable[[Sequence[Any], Mapping[str, Any]], None]:
        """Raises InvalidArguments for arguments that the function, or its condition, cannot be called with."""
        check = checker(self.func, self.name, skip_first=self.takes_context)
        if self.only_if is None:
            return check
        condition = checker(self.only_if, f"only_if of {self.name}", skip_first=wants_context(self.only_if))

        def check_both(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
            check(args, kwargs)
            condition(args, kwargs)

        return check_both

    @cached_property
    def fixed_headers(self) -> str:
        """The headers that are the same for every job, as the start of a JSON object."""
        return dumps(headers_of(self))[:-1]

    def _identity(self) -> Identity | None:
        if self.idempotency_key is not None:
            return identify(self, [self.idempotency_key])[0]
        if self.has_window:
            require_key(self)
        return None
