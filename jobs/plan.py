"""Declare schedules: `@every` above `@task` says when a task is to run by itself.

What is declared here stands in this process alone; a relay writes it into the table (`enrol`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar
from uuid import UUID, uuid5

from django.conf import settings

from jobs.envelope import SOURCE_NAME, dumps
from jobs.errors import InvalidArguments, InvalidOption, InvalidSchedule
from jobs.options import UNSET, Unset, delay_seconds
from jobs.recur import LONGEST, SHORTEST, Rhythm
from jobs.tasks import Task
from jobs.timetable import Schedule

T = TypeVar("T", bound=Task[Any, Any])

SCHEDULES = UUID("0d6f4a52-2a44-5a0c-9d43-6b1f1c9f2f0e")

MISSED, OVERLAP = Schedule.Missed.values, Schedule.Overlap.values

MOST_AT_ONCE = 10_000

OPTIONS = ("priority", "queue_name", "max_attempts", "source_name", "delay")
"""What a schedule may give to its task's `using`; a `delay` is in minutes there."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a person decides about a schedule. Checked when it is made; raises InvalidSchedule or what enqueue
    would raise."""

    name: str
    task: Task[Any, Any]
    rhythm: Rhythm
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    tick_as: str = ""
    missed: str = "once"
    missed_limit: int = 100
    overlap: str = "allow"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or not SOURCE_NAME.match(self.name):
            raise InvalidSchedule(f'name={self.name!r}: use 1 to 200 letters, digits, "_", "-", "." or "/".')
        _one_of("missed", self.missed, MISSED)
        _one_of("overlap", self.overlap, OVERLAP)
        if type(self.missed_limit) is not int or not 1 <= self.missed_limit <= MOST_AT_ONCE:
            raise InvalidSchedule(f"missed_limit={self.missed_limit!r}: give a whole number from 1 to {MOST_AT_ONCE}.")
        if self.rhythm.every is not None and self.rhythm.every < SHORTEST:
            raise InvalidSchedule(f"every {self.rhythm.every}: a second is the shortest interval.")
        if self.tick_as and (not self.tick_as.isidentifier() or len(self.tick_as) > 100):
            raise InvalidSchedule(f"tick_as={self.tick_as!r}: give the name of a parameter of the task.")
        if self.tick_as in self.kwargs:
            raise InvalidSchedule(f"tick_as={self.tick_as!r} is among the arguments as well: give one of the two.")
        self.check_call()

    def check_call(self) -> None:
        """Would the task take what a tick gives it? Raises InvalidArguments or InvalidOption."""
        told = {self.tick_as: "2026-01-01T00:00:00+00:00"} if self.tick_as else {}
        try:
            self.task.using(**self.options).draft(self.args, {**self.kwargs, **told})
        except (InvalidArguments, InvalidOption) as error:
            raise type(error)(f"The schedule {self.name!r}: {error}") from error

    @property
    def id(self) -> UUID:
        """The same in every process whose code has it."""
        return uuid5(SCHEDULES, self.name)

    @property
    def arguments(self) -> str:
        """JSON text, as a job's row has it."""
        return dumps({"args": list(self.args), "kwargs": dict(self.kwargs)})

    @property
    def digest(self) -> str:
        """Changes with anything that is said about the schedule."""
        said = [
            self.task.name, self.rhythm.cron, str(self.rhythm.every), self.rhythm.timezone, self.arguments,
            dumps(dict(sorted(self.options.items()))), self.tick_as, self.missed, self.missed_limit, self.overlap,
        ]  # fmt: skip
        return hashlib.sha256(dumps(said).encode()).hexdigest()[:16]


declared: dict[str, Plan] = {}
"""Every schedule that the code of this process has, by name."""


def every(
    cron: str | timedelta | None = None,
    /,
    *,
    weeks: float = 0,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
    timezone: str | None = None,
    name: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    tick_as: str = "",
    missed: Literal["once", "skip", "all"] = "once",
    missed_limit: int = 100,
    overlap: Literal["allow", "skip", "queue"] = "allow",
    priority: str | int | Unset = UNSET,
    queue_name: str | Unset = UNSET,
    max_attempts: int | Unset = UNSET,
    source_name: str | Unset = UNSET,
    delay: float | timedelta | Unset = UNSET,
) -> Callable[[T], T]:
    """Have a task run by itself: `@every("0 2 * * *", timezone="Europe/Paris")` or `@every(minutes=15)` above `@task`.

    `cron`: five fields (or a nickname such as "@daily") on the clocks of `timezone`, by default TIME_ZONE; or a
    timedelta. `weeks`, `days`, `hours`, `minutes`, `seconds`: an interval instead, at least a second.
    `name`: what it is known by; default the task's name. A second schedule of one task needs one of its own.
    `args`, `kwargs`: what the task is called with, as `enqueue` would take it. `tick_as`: the name of a parameter
    that is given the time of the tick, as ISO text in UTC.
    `missed`: ticks that came while nothing ran become one job ("once"), none ("skip"), or a job each ("all", at most
    `missed_limit`, the last ones). `overlap`: while the last job has not ended, a tick makes a job all the same
    ("allow"), is skipped ("skip"), or waits for the end ("queue").
    `priority`, `queue_name`, `max_attempts`, `source_name`, `delay` (minutes or a timedelta): as in the task's `using`.

    Raises InvalidSchedule, InvalidArguments or InvalidOption at import.
    """
    rhythm = _rhythm(cron, timedelta_of(weeks, days, hours, minutes, seconds), timezone)
    given = (
        ("priority", priority), ("queue_name", queue_name), ("max_attempts", max_attempts),
        ("source_name", source_name),
        ("delay", delay if isinstance(delay, Unset) else delay_seconds(delay) / 60),
    )  # fmt: skip
    options = {option: value for option, value in given if not isinstance(value, Unset)}

    def declare(task: T) -> T:
        if not isinstance(task, Task):
            raise InvalidSchedule(f"@every: {task!r} is not a task. Put @every above @task.")
        plan = Plan(
            name=task.name if name is None else name, task=task, rhythm=rhythm, args=args, kwargs=kwargs or {},
            options=options, tick_as=tick_as, missed=missed, missed_limit=missed_limit, overlap=overlap,
        )  # fmt: skip
        known = declared.get(plan.name)
        # A module that is loaded again declares the same ones again.
        if known is not None and (known.task.name != task.name or known.task is task):
            raise InvalidSchedule(
                f"@every: two schedules are named {plan.name!r}. Give one a name of its own: @every(..., name=...)."
            )
        declared[plan.name] = plan
        return task

    return declare


def timedelta_of(weeks: float, days: float, hours: float, minutes: float, seconds: float) -> timedelta:
    try:
        return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    except (TypeError, ValueError, OverflowError):
        raise InvalidSchedule("An interval is made of numbers, ten years at most: @every(minutes=15).") from None


def _rhythm(cron: Any, span: timedelta, timezone: str | None) -> Rhythm:
    if isinstance(cron, timedelta):
        cron, span = None, cron + span
        if not span:
            raise InvalidSchedule("@every(timedelta(0)): give an interval of at least a second.")
    zone = settings.TIME_ZONE if timezone is None else timezone
    if cron is None and not span:
        raise InvalidSchedule('@every needs a cron expression, as in @every("0 2 * * *"), or @every(minutes=15).')
    if cron is not None and span:
        raise InvalidSchedule("@every: a cron expression and an interval were both given: give one of the two.")
    if cron is not None:
        if not isinstance(cron, str) or not cron.strip():
            raise InvalidSchedule(f"@every({cron!r}): give a cron expression as text, or a timedelta.")
        return Rhythm(cron=" ".join(cron.split()), timezone=zone)
    if not SHORTEST <= span <= LONGEST:
        raise InvalidSchedule(f"@every: an interval of {span} is too short or too long: a second to ten years.")
    return Rhythm(every=span, timezone=zone)


def _one_of(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise InvalidSchedule(f"{name}={value!r}: give one of {', '.join(map(repr, known))}.")
