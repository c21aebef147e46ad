"""Event types and who consumes them: `event` declares a type, `consumer` makes a function a task that gets its events.

A consumer is a task of its own: one job for each event and consumer, each with its own attempts, delay, limit and end.
Like tasks they are known by what this code declares; a row can name a type, but not bring one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Protocol, TypedDict, TypeVar, Unpack

from django.core import checks
from django.core.checks import CheckMessage, register

from jobs.conf import jobs_settings
from jobs.declare import Exceptions, task
from jobs.delivery import EVENT_TYPE
from jobs.envelope import check_json, dumps
from jobs.errors import InvalidEvent, InvalidOption, InvalidTask, PayloadTooLarge, UnknownEvent
from jobs.options import Backoff, Upgrade, check_redact, delay_seconds
from jobs.schema import Check, read
from jobs.tasks import Task

R = TypeVar("R")

Payload = dict[str, Any]
"""What an event says: an object of JSON."""


class Options(TypedDict, total=False):
    """Those of `@task`."""

    takes_context: bool
    name: str | None
    priority: str | int
    queue_name: str
    max_attempts: int
    timeout: float | timedelta | None
    backoff: Backoff | None
    retry_on: Exceptions
    never_retry_on: Exceptions
    source_name: str
    at_most_once: bool
    atomic: bool
    version: int
    upgrade: Mapping[int, Upgrade] | None
    redact: Sequence[str]


class Decorator(Protocol):
    """What `@consumer(...)` is before it meets its function."""

    def __call__(self, func: Callable[..., Any], /) -> Task[..., Any]: ...


@dataclass(frozen=True)
class EventType:
    """A kind of event, by its name."""

    name: str
    schema: Any = None
    check: Check | None = None
    redact: tuple[str, ...] = ()
    """Keys in the payload whose values are shown to nobody."""

    def __str__(self) -> str:
        return self.name

    def packed(self, payload: Any) -> tuple[Payload, str]:
        """The payload as an object and as JSON text; raises InvalidEvent or PayloadTooLarge."""
        if is_dataclass(payload) and not isinstance(payload, type):
            payload = asdict(payload)
        if type(payload) is not dict:
            raise InvalidEvent(
                f"{self.name}: the payload is a {type(payload).__name__}: give a dict, an object of JSON."
            )
        problem = check_json(payload, "payload")
        if problem is None and self.check is not None:
            problem = self.check(payload, "payload")
        if problem is not None:
            raise InvalidEvent(f"{self.name}: {problem}.")
        text = dumps(payload)
        if (size := len(text.encode())) > (most := jobs_settings().MAX_PAYLOAD):
            raise PayloadTooLarge(
                f'{self.name}: the payload is {size:,} bytes of JSON; JOBS["MAX_PAYLOAD"] is {most:,}. Put an id or a'
                " file name into it instead of the data."
            )
        return payload, text


declared: dict[str, EventType] = {}
"""Every event type that this code has declared, by name."""

consumers: dict[str, dict[str, Task[..., Any]]] = {}
"""Who gets the events of a type: the consumers' tasks by their names, in the order of their declaration."""


def event(name: str, *, schema: Any = None, redact: Sequence[str] = ()) -> EventType:
    """Declare an event type; what it returns may be given to `publish` in place of the name.

    `schema`: what a payload must be, checked at `publish`: a TypedDict or a dataclass (an unknown, a missing and a
    wrong key are refused), or a function that is called with the payload and raises what is wrong with it.
    `redact`: keys in the payload, at any depth, whose values no page shows.

    Raises InvalidOption at import.
    """
    made = EventType(_named(name), schema, read(schema), check_redact(redact))
    known = declared.get(name)
    if known is not None and (_place(known.schema), known.redact) != (_place(schema), made.redact):
        raise InvalidOption(f"event({name!r}) is declared twice and differently. Declare it once and import it.")
    declared[name] = made
    return made


def consumer(
    *types: str | EventType, delay: float | timedelta = 0, **options: Unpack[Options]
) -> Callable[[Callable[..., R] | Callable[..., Coroutine[Any, Any, R]]], Task[..., R]]:
    """Make a module-level function, sync or `async def`, a consumer of one or more event types.

    The function is called with the payload, a dict; with `takes_context=True` with the context before it, whose
    `event_id` and `event_type` say which event it is. `delay`: minutes or a timedelta, counted from the event. The
    other options are those of `@task`, and mean the same.

    Raises InvalidTask or InvalidOption at import.
    """
    if not types or callable(types[0]):
        raise InvalidTask('@consumer needs the name of an event type: @consumer("order.created").')
    names = [_named(str(each)) for each in types]
    wait = delay_seconds(delay)

    def declare(function: Callable[..., Any]) -> Task[..., Any]:
        made: Task[..., Any] = task(**options)(function)  # type: ignore[call-overload]
        _check_signature(made)
        made = replace(made, delay=wait) if wait else made
        for name in names:
            consumers.setdefault(name, {})[made.name] = made
        return made

    return declare


def event_type(given: str | EventType) -> EventType:
    """The type that is known by that name, declared or at least consumed; raises UnknownEvent."""
    name = given.name if isinstance(given, EventType) else given
    if (known := declared.get(name)) is not None:
        return known
    if name in consumers:
        return EventType(name)
    raise UnknownEvent(
        f"There is no event type {name!r}{nearest(name, {*declared, *consumers})} Declare it with event({name!r}), or"
        " write a consumer of it."
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not known."""
    near = get_close_matches(str(name), list(known), 1)
    return f": did you mean {near[0]!r}?" if near else "."


def consumers_of(name: str) -> dict[str, Task[..., Any]]:
    return consumers.get(name, {})


def redacted_for(task_name: str) -> tuple[str, ...]:
    """The keys that the event types of a consumer hide; empty for any other task."""
    return tuple(
        key
        for name, theirs in consumers.items()
        if task_name in theirs and name in declared
        for key in declared[name].redact
    )


@register("jobs")
def check_consumers(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """Consumers of an event type that is declared nowhere: a letter wrong in the name, and it never gets one."""
    return [
        checks.Warning(
            f"{', '.join(theirs)} consumes {name!r}, which is declared nowhere{nearest(name, declared)}",
            hint=f"Declare it with event({name!r}) where it is published, and import that.",
            id="jobs.W006",
        )
        for name, theirs in consumers.items()
        if name not in declared
    ]


def _named(name: str) -> str:
    if not isinstance(name, str) or not EVENT_TYPE.match(name):
        raise InvalidOption(
            f'event type {name!r}: use 1 to 100 letters, digits, "_", "-" and ".", such as "order.created".'
        )
    return name


def _check_signature(made: Task[..., Any]) -> None:
    try:
        made.check_call(({},), {})
    except ValueError:
        raise InvalidTask(
            f"@consumer: {made.name}{inspect.signature(made.func)} cannot be called with an event: it must take the"
            f" payload, a dict, as its {'second' if made.takes_context else 'first'} argument, and nothing else."
        ) from None


def _place(schema: Any) -> str:
    return f"{getattr(schema, '__module__', '')}.{getattr(schema, '__qualname__', schema)}"
