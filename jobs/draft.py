"""Draft a message: from a task and the arguments of one call to what the outbox stores.

It takes a call that nobody has looked at; it leaves headers and a body that will be read back exactly, or an error at
the caller. It writes nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs import trace
from jobs.callback import callbacks_of, levels
from jobs.conf import jobs_settings
from jobs.context import current
from jobs.envelope import VERSION, dumps
from jobs.errors import InvalidArguments, InvalidOption, TooDeep
from jobs.ids import new_id
from jobs.keys import Identity, identify, require_key
from jobs.options import check_key
from jobs.origin import origin, request
from jobs.pack import pack
from outbox.write import Draft

if TYPE_CHECKING:
    from jobs.tasks import Task

Call = tuple[Any, ...] | Mapping[str, Any]
"""One call for `enqueue_many`: a tuple of positional arguments, or a dict of keyword arguments."""


def headers_of(task: Task[Any, Any]) -> dict[str, Any]:
    """The headers that are the same for every job of a task."""
    same: dict[str, Any] = {
        "v": VERSION,
        "task": task.name,
        "queue": task.queue_name,
        "priority": task.priority,
        "max_attempts": task.max_attempts,
    }
    if task.version != 1:
        same["version"] = task.version
    if task.at_most_once:
        same["at_most_once"] = True
    if task.source_name:
        same["source_name"] = task.source_name
    if task.delay:
        same["delay"] = task.delay
    if task.run_after is not None:
        same["run_after"] = task.run_after.isoformat()
    if task.calls_back:
        same["callbacks"] = [
            {"on": event, "headers": headers_of(each.task) | each.headers, "body": each.body, **each.marks}
            for event, each in callbacks_of(task)
        ]
    return same


def draft(
    task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any], identity: Identity | None = None
) -> Draft:
    """The message of one call; `identity` is what its idempotency key comes to."""
    task.check_call(args, kwargs)
    body = pack(task.name, args, kwargs)
    headers = task.fixed_headers
    if identity is None:
        uid = new_id()
    else:
        uid = identity.uid
        headers += identity.header
    parent = current.get()
    if parent is not None:
        depth = parent.depth + 1
        check_depth(task, depth)
        headers += f',"parent":"{parent.job_id}","depth":{depth}'
    elif task.calls_back:
        check_depth(task, 0)
    if request.get() is not None:
        headers += f',"origin":{dumps(origin())}'
    if trace.spans is not None:
        headers += trace.spans.header()  # the last one: the gate keeps what stands before it
    return Draft(uid, headers + "}", body)


def draft_many(task: Task[Any, Any], calls: Sequence[Call], keys: Iterable[str | None] | None) -> list[Draft]:
    """The messages of many calls, each with its own key where `keys` are given; errors name the call."""
    if task.idempotency_key is not None:
        raise InvalidOption("One idempotency_key for many calls is one job: give idempotency_keys=[...] instead.")
    if isinstance(keys, str):
        raise InvalidOption("idempotency_keys= is one str: give a list with one key for each call.")
    if keys is None:
        if task.has_window and calls:
            require_key(task)
        return [_nth(n, task, call, None) for n, call in enumerate(calls)]
    given = list(keys)
    if len(given) != len(calls):
        raise InvalidOption(f"idempotency_keys has {len(given)} keys for {len(calls)} calls: give one for each.")
    for n, key in enumerate(given):
        try:
            check_key(key)
            if key is None and task.has_window:
                require_key(task)
        except InvalidOption as error:
            raise InvalidOption(f"Call {n} of enqueue_many: {error}") from error
    named = iter(identify(task, [key for key in given if key is not None]))
    pairs = zip(calls, given, strict=True)
    return [_nth(n, task, call, None if key is None else next(named)) for n, (call, key) in enumerate(pairs)]


def _nth(n: int, task: Task[Any, Any], call: Call, identity: Identity | None) -> Draft:
    try:
        if isinstance(call, tuple):
            return draft(task, call, {}, identity)
        if isinstance(call, Mapping):
            return draft(task, (), call, identity)
    except InvalidArguments as error:
        raise type(error)(f"Call {n} of enqueue_many: {error}") from error
    raise InvalidArguments(
        f"Call {n} of enqueue_many is a {type(call).__name__}: give a tuple of positional arguments,"
        " such as (order.id,), or a dict of keyword arguments."
    )


def check_depth(task: Task[Any, Any], depth: int) -> None:
    """Raise TooDeep where the job, or what it is to call back, would be too far down a chain of jobs."""
    deepest, limit = depth + (levels(task) if task.calls_back else 0), jobs_settings().MAX_DEPTH
    if deepest > limit:
        raise TooDeep(
            f"{task.name}{' would have a callback that' if deepest > depth else ''} would be job {deepest} in a chain"
            f' of jobs that enqueue jobs; JOBS["MAX_DEPTH"] is {limit}. A chain without an end? Else raise the limit.'
        )
