"""Check what is given to @task and using(): a wrong value is refused where it is written, with what to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from django.db import connections

from jobs.callback import as_callback
from jobs.conf import MAX_PRIORITY, MIN_PRIORITY, PRIORITIES, QUEUE_NAME, jobs_settings
from jobs.context import JobContext
from jobs.envelope import MAX_VERSION, SOURCE_NAME, check_json
from jobs.errors import LONGEST_WAIT, InvalidOption

BackoffFunction: TypeAlias = Callable[[BaseException, JobContext], "float | timedelta | None"]
Upgrade: TypeAlias = Callable[..., "tuple[Any, ...] | dict[str, Any]"]
Backoff: TypeAlias = "float | timedelta | Sequence[float | timedelta] | BackoffFunction"

LONGEST = 30 * 86_400.0


class Unset:
    """The default of an option that was not given; None is a value."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


def priority_number(value: str | int) -> int:
    """-100 to 100, larger first; "low" is -50, "default" and "normal" 0, "high" 50."""
    if isinstance(value, str):
        if value not in PRIORITIES:
            raise InvalidOption(f'priority={value!r}: give "low", "default", "high" or a whole number -100 to 100.')
        return PRIORITIES[value]
    if type(value) is not int or not MIN_PRIORITY <= value <= MAX_PRIORITY:
        raise InvalidOption(f'priority={value!r}: give "low", "default", "high" or a whole number -100 to 100.')
    return value


def delay_seconds(value: float | timedelta) -> float:
    """A timedelta, or a number of minutes (fractions allowed), as seconds; not negative."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = min(value, LONGEST_WAIT) * 60.0
    else:
        raise InvalidOption(f"delay={value!r}: give a number of minutes or a timedelta.")
    if not 0 <= seconds <= LONGEST_WAIT:
        raise InvalidOption(f"delay={value!r}: give 0 or more minutes (or a timedelta), at most ten years.")
    return seconds


def check_run_after(value: datetime | None) -> None:
    if value is None:
        return
    if not isinstance(value, datetime):
        raise InvalidOption(f"run_after={value!r}: give an aware datetime (for a wait from now, use delay=).")
    try:
        value.astimezone(UTC)
    except OverflowError:
        raise InvalidOption(f"run_after={value!r} is before the first or after the last year there is.") from None
    if value.utcoffset() is None:
        raise InvalidOption(f"run_after={value!r} has no time zone: give an aware datetime, e.g. timezone.now() + ….")


def check_queue(name: str) -> None:
    if not isinstance(name, str) or not QUEUE_NAME.match(name):
        raise InvalidOption(f'queue_name={name!r}: use 1 to 64 letters, digits, "_", "-", "." or "/".')
    declared = jobs_settings().QUEUES
    if declared and name not in declared:
        raise InvalidOption(
            f'queue_name={name!r} is not declared. JOBS["QUEUES"] has {", ".join(map(repr, declared))}: add it there.'
        )


def check_attempts(value: int) -> None:
    limit = jobs_settings().MAX_ATTEMPTS_LIMIT
    if type(value) is not int or not 1 <= value <= limit:
        raise InvalidOption(
            f'max_attempts={value!r}: give a whole number from 1 to {limit} (JOBS["MAX_ATTEMPTS_LIMIT"]'
            " raises the cap)."
        )


def check_source_name(value: str) -> None:
    if not isinstance(value, str) or not SOURCE_NAME.match(value):
        raise InvalidOption(f'source_name={value!r}: use at most 200 letters, digits, "_", "-", "." or "/".')


def check_timeout(value: float | None) -> None:
    if value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= LONGEST:
        raise InvalidOption(f"timeout={value!r}: give seconds, above 0 and at most 30 days; None is the priority's.")


def check_key(value: str | None) -> None:
    if value is None:
        return
    if type(value) is not str or not 1 <= len(value) <= 200:
        raise InvalidOption(f"idempotency_key={value!r}: give 1 to 200 characters.")
    if (problem := check_json(value, "idempotency_key")) is not None:
        raise InvalidOption(f"{problem}.")


def window_seconds(value: float | timedelta | None) -> float | None:
    """How long an idempotency key holds, as seconds."""
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds <= LONGEST_WAIT:
        raise InvalidOption(f"unique_for={value!r}: give seconds or a timedelta, above 0 and at most ten years.")
    return float(seconds)


def check_until(value: str | None, unique_for: float | None) -> None:
    if value is None:
        return
    if value != "finished":
        raise InvalidOption(f'until={value!r}: give "finished" (the key holds until its job has ended), or None.')
    if unique_for is not None:
        raise InvalidOption(
            "unique_for= and until= were both given: a key holds for a time or until its job has ended."
        )


def check_version(value: int) -> int:
    if type(value) is not int or not 1 <= value <= MAX_VERSION:
        raise InvalidOption(f"version={value!r}: give a whole number from 1 to {MAX_VERSION}.")
    return value


def check_upgrade(value: Mapping[int, Upgrade] | None, version: int) -> Mapping[int, Upgrade]:
    """Functions by the version whose arguments they take, each older than the task's."""
    given = {} if value is None else value
    if not isinstance(given, Mapping) or not all(callable(function) for function in given.values()):
        raise InvalidOption(f"upgrade={value!r}: give a dict of functions, such as {{1: from_version_1}}.")
    if wrong := [older for older in given if type(older) is not int or not 1 <= older < version]:
        raise InvalidOption(
            f"upgrade has {wrong[0]!r}: its keys are versions from 1 to {version - 1}, before version=."
        )
    return dict(given)


def check_redact(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(name, str) and name for name in value):
        raise InvalidOption(f'redact={value!r}: give a list of names, such as ["card"].')
    return tuple(value)


def check_database(value: str | None) -> None:
    if value is not None and (not isinstance(value, str) or value not in connections.settings):
        raise InvalidOption(f"database={value!r}: settings.DATABASES has {', '.join(map(repr, connections.settings))}.")


def check_exceptions(name: str, value: Any) -> tuple[type[BaseException], ...]:
    """One exception class or several, as a tuple."""
    given = value if isinstance(value, tuple | list) else (value,)
    for item in given:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise InvalidOption(f"{name}={value!r}: give exception classes.")
    return tuple(given)


def check_backoff(value: Any) -> Any:
    """Seconds, a timedelta, a sequence of either (one for each retry), or a function; sequences become tuples."""
    if value is None or callable(value):
        return value
    waits = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    for wait in waits:
        seconds = wait.total_seconds() if isinstance(wait, timedelta) else wait
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= LONGEST:
            raise InvalidOption(
                f"backoff={value!r}: give seconds (0 or more), a timedelta, a list of them (one for each retry),"
                " or a function (exception, context) -> seconds or None for no retry."
            )
    if not waits:
        raise InvalidOption("backoff=[]: give at least one wait.")
    return waits


def changed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given to `using`, as Task has them."""
    options = {name: value for name, value in given.items() if not isinstance(value, Unset)}
    if "priority" in options:
        options["priority"] = priority_number(options["priority"])
    if "unique_for" in options:
        options["unique_for"] = window_seconds(options["unique_for"])
    for name in ("on_success", "on_failure", "on_complete"):
        if name in options:
            options[name] = as_callback(name, options[name])
    if "delay" in options:
        if options.get("run_after") is not None:
            raise InvalidOption("delay= and run_after= were both given: give one of the two.")
        options |= {"delay": delay_seconds(options["delay"]), "run_after": None}
    elif "run_after" in options:
        options["delay"] = 0.0
    return options
