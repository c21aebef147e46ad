"""Tasks and how to enqueue them: the door an application uses.

`enqueue` checks the call, packs it into an envelope and writes it to the outbox in the caller's transaction. A crash
here is the caller's rollback: there is no job.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar, cast
from uuid import UUID

from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction

from jobs.conf import jobs_settings
from jobs.context import JobContext, current
from jobs.envelope import VERSION, check_json, dumps, pack_body
from jobs.errors import InvalidArguments, InvalidOption, PayloadTooLarge, TooDeep
from jobs.handle import JobHandle
from jobs.ids import id_for_key, new_id
from jobs.options import (
    UNSET,
    Unset,
    check_attempts,
    check_database,
    check_key,
    check_queue,
    check_run_after,
    check_source_name,
    check_timeout,
    delay_seconds,
    priority_number,
)
from jobs.origin import origin, request
from jobs.signature import checker
from outbox.write import Draft, write, write_many

logger = logging.getLogger("jobs")

P = ParamSpec("P")
R = TypeVar("R")

Call = tuple[Any, ...] | Mapping[str, Any]
"""One call for `enqueue_many`: a tuple of positional arguments, or a dict of keyword arguments."""


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

    def __post_init__(self) -> None:
        check_queue(self.queue_name)
        check_attempts(self.max_attempts)
        check_timeout(self.timeout)
        check_source_name(self.source_name)
        check_run_after(self.run_after)
        check_database(self.database)
        check_key(self.idempotency_key)
        if self.atomic and self.database not in (None, jobs_settings().DATABASE):
            raise InvalidOption(
                f"{self.name} is atomic: its jobs cannot be written to database={self.database!r}, since it commits on"
                f" the queue's database ({jobs_settings().DATABASE!r}). Leave database= out, or atomic=True."
            )

    do_not_call_in_templates: ClassVar[bool] = True  # a template would call whatever can be called

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"{self.name} is a task: .enqueue(...) runs it in a worker, .call(...) runs it here and now.")

    @cached_property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.func)

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
    ) -> Task[P, R]:
        """A copy with other options for the jobs enqueued through it; what is not given stays.

        `delay` is minutes or a timedelta, `run_after` an aware datetime; the one replaces the other.
        Raises InvalidOption for a value that cannot be taken.
        """
        changed: dict[str, Any] = {
            name: value
            for name, value in (
                ("max_attempts", max_attempts),
                ("queue_name", queue_name),
                ("source_name", source_name),
                ("database", database),
                ("idempotency_key", idempotency_key),
            )
            if value is not UNSET
        }
        if not isinstance(priority, Unset):
            changed["priority"] = priority_number(priority)
        if not isinstance(delay, Unset):
            changed |= {"delay": delay_seconds(delay), "run_after": None}
        if not isinstance(run_after, Unset):
            if run_after is not None and not isinstance(delay, Unset):
                raise InvalidOption("delay= and run_after= were both given: give one of the two.")
            changed |= {"run_after": run_after, "delay": 0.0}
        return replace(self, **changed)

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Write one job in the caller's transaction; returns its handle with the id at once.

        Raises InvalidArguments (or its kind PayloadTooLarge), TooDeep, or an OutboxError; then nothing is written.
        """
        draft = self._draft(args, kwargs, self.idempotency_key)
        return JobHandle(draft.uid, self, write(draft, database=self.database))

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
        calls = list(calls)
        if self.idempotency_key is not None:
            raise InvalidOption("One idempotency_key for many calls is one job: give idempotency_keys=[...] instead.")
        if isinstance(idempotency_keys, str):
            raise InvalidOption("idempotency_keys= is one str: give a list with one key for each call.")
        keys = [None] * len(calls) if idempotency_keys is None else list(idempotency_keys)
        if len(keys) != len(calls):
            raise InvalidOption(f"idempotency_keys has {len(keys)} keys for {len(calls)} calls: give one for each.")
        drafts = [self._nth_draft(n, call, key) for n, (call, key) in enumerate(zip(calls, keys, strict=True))]
        if not drafts:
            return []
        alias = write_many(drafts, database=self.database)
        return [JobHandle(draft.uid, self, alias) for draft in drafts]

    async def aenqueue_many(
        self, calls: Iterable[Call], *, idempotency_keys: Iterable[str] | None = None
    ) -> list[JobHandle[R]]:
        """`enqueue_many` for async code."""
        return await sync_to_async(self.enqueue_many)(calls, idempotency_keys=idempotency_keys)

    def draft(self, args: Sequence[Any], kwargs: Mapping[str, Any], key: str | None = None) -> Draft:
        """What `enqueue` would write under that key, checked and packed; nothing is written."""
        return self._draft(args, kwargs, key)

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now: no job, no retry, no limit."""
        return self.run_with(self._context(new_id(), 1), args, kwargs)

    def run_with(self, context: JobContext, args: Sequence[Any], kwargs: Mapping[str, Any]) -> R:
        """`call` as the job that the context describes."""
        given = (context, *args) if self.takes_context else args
        if self.is_async:
            return cast(R, async_to_sync(self.func)(*given, **kwargs))
        with transaction.atomic(using=jobs_settings().DATABASE) if self.atomic else nullcontext():
            return cast(R, self.func(*given, **kwargs))

    async def acall(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """`call` for async code."""
        context = self._context(new_id(), 1)
        if not self.is_async:
            return await sync_to_async(self.run_with)(context, args, kwargs)
        given = (context, *args) if self.takes_context else args
        return cast(R, await self.func(*given, **kwargs))

    def get_result(self, job_id: UUID | str) -> JobHandle[R]:
        """The handle of a job enqueued earlier; raises JobDoesNotExist when `refresh` finds none."""
        handle: JobHandle[R] = JobHandle(UUID(str(job_id)), self, self.database)
        handle.refresh()
        return handle

    def _context(self, job_id: UUID, attempt: int) -> JobContext:
        return JobContext(
            job_id,
            self.idempotency_key or "",
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
        return checker(self.func, self.name, skip_first=self.takes_context)

    @cached_property
    def _headers(self) -> str:
        """The headers that are the same for every job, as the start of a JSON object."""
        same: dict[str, Any] = {
            "v": VERSION,
            "task": self.name,
            "queue": self.queue_name,
            "priority": self.priority,
            "max_attempts": self.max_attempts,
        }
        if self.version != 1:
            same["version"] = self.version
        if self.at_most_once:
            same["at_most_once"] = True
        if self.source_name:
            same["source_name"] = self.source_name
        if self.delay:
            same["delay"] = self.delay
        if self.run_after is not None:
            same["run_after"] = self.run_after.isoformat()
        return dumps(same)[:-1]

    def _nth_draft(self, n: int, call: Call, key: str | None) -> Draft:
        try:
            check_key(key)
            if isinstance(call, tuple):
                return self._draft(call, {}, key)
            if isinstance(call, Mapping):
                return self._draft((), call, key)
        except (InvalidArguments, InvalidOption) as error:
            raise type(error)(f"Call {n} of enqueue_many: {error}") from error
        raise InvalidArguments(
            f"Call {n} of enqueue_many is a {type(call).__name__}: give a tuple of positional arguments,"
            " such as (order.id,), or a dict of keyword arguments."
        )

    def _draft(self, args: Sequence[Any], kwargs: Mapping[str, Any], key: str | None) -> Draft:
        self.check_call(args, kwargs)
        problem = check_json(list(args), "args") or (check_json(dict(kwargs), "kwargs") if kwargs else None)
        if problem is not None:
            raise InvalidArguments(f"{self.name}: {problem}.")
        body = pack_body(args, kwargs)
        self._check_size(len(body) if body.isascii() else len(body.encode()))
        headers = self._headers
        uid = new_id()
        if key is not None:
            uid = id_for_key(self.name, key)
            headers += f',"key":{dumps(key)}'
        parent = current.get()
        if parent is not None:
            depth = parent.depth + 1
            if depth > jobs_settings().MAX_DEPTH:
                raise TooDeep(
                    f"{self.name} would be job {depth} in a chain of jobs that enqueue jobs;"
                    f' JOBS["MAX_DEPTH"] is {jobs_settings().MAX_DEPTH}. A chain without an end? Else raise the limit.'
                )
            headers += f',"parent":"{parent.job_id}","depth":{depth}'
        if request.get() is not None:
            headers += f',"origin":{dumps(origin())}'
        return Draft(uid, headers + "}", body)

    def _check_size(self, size: int) -> None:
        settings = jobs_settings()
        if size > settings.MAX_PAYLOAD:
            raise PayloadTooLarge(
                f'{self.name}: the arguments are {size:,} bytes of JSON; JOBS["MAX_PAYLOAD"] is'
                f" {settings.MAX_PAYLOAD:,}. Pass an id or a file name instead of the data."
            )
        if size > settings.WARN_PAYLOAD:
            logger.warning("%s: the arguments are %s bytes of JSON; pass an id or a file name", self.name, f"{size:,}")
