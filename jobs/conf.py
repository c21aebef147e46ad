"""The settings of the jobs: read once from `settings.JOBS` into a frozen dataclass."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from django.core.signals import setting_changed

from outbox.conf import read

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
TRACINGS = ("parent", "link", "off")
TIMEOUTS = {"high": 60, "default": 300, "low": 14_400}
BANDS = tuple(TIMEOUTS)
PRIORITIES = {"low": -50, "default": 0, "normal": 0, "high": 50}
MIN_PRIORITY, MAX_PRIORITY = -100, 100

QUEUE_NAME = re.compile(r"[A-Za-z0-9_\-./]{1,64}\Z")


def band_of(priority: int) -> str:
    """The timeout band of a priority: 50 and above high, -50 and below low, the rest default."""
    return "high" if priority >= 50 else "low" if priority <= -50 else "default"


@dataclass(frozen=True)
class JobsSettings:
    """`JOBS = {...}`; every key may be left out. Bare numbers are seconds."""

    DATABASE: str = "default"
    """Alias of the database that holds the queue and the history."""

    QUEUES: list[str] | tuple[str, ...] = ("default",)
    """Declared queue names. Enqueueing to another name is refused; an empty list allows any."""

    TIMEOUTS: dict[str, float] = field(default_factory=dict)
    """Seconds an attempt may run, by priority band. Left out: high 60, default 300, low 14400."""

    MAX_ATTEMPTS_LIMIT: int = 5
    """The most attempts a job may be given."""

    BACKOFF: list[float] | tuple[float, ...] = (5, 30, 120, 600)
    """Seconds before the second, third ... attempt; the last doubles from there on, up to an hour."""

    BACKOFF_JITTER: float = 0.2
    """How far a wait may be off, as a share of itself: 0.2 is 20 % in both directions."""

    MAX_CRASHES: int = 3
    """A job that was running this often when its worker died is dead."""

    MAX_DEPTH: int = 100
    """How long a chain of jobs that enqueue jobs may get."""

    MAX_PAYLOAD: int = 1_000_000
    """Bytes of arguments, as JSON, that are refused above."""

    WARN_PAYLOAD: int = 100_000
    """Bytes of arguments above which a warning is logged."""

    MAX_RESULT: int = 1_000_000
    """Bytes of a return value, as JSON, above which it is not kept."""

    SLOTS: int | None = None
    """Slots of `runworkers`; None is one for each CPU."""

    ASYNC_CONCURRENCY: int = 100
    """Most `async def` jobs that run at once on the event loop of one slot."""

    DRAIN_TIMEOUT: float = 25.0
    """Seconds that running jobs get to finish after SIGTERM before they are handed back."""

    KILL_GRACE: float = 1.0
    """Seconds between the TimeLimit raised in a task at its limit and the kill (0 to 1)."""

    HEARTBEAT: float = 3.0
    """Seconds between two signs of life of a worker."""

    DEAD_AFTER: float = 10.0
    """Seconds without one after which a worker is watched, and buried if it stays silent for two heartbeats more."""

    POLL_INTERVAL: float = 1.0
    """Seconds between two looks of an idle worker at the queue; wake-ups make it faster, this is the floor."""

    CONN_MAX_AGE: float = 60.0
    """Seconds a task's database connection is kept for the next job where the database's own CONN_MAX_AGE is 0."""

    VERSION: str = ""
    """Version of your code, such as a commit: workers report it, and the plots mark when it changed."""

    LOG_LEVEL: str = "INFO"
    """What tasks log at this level or above is kept with their attempt."""

    SCHEDULES: bool = True
    """Whether the relays of this site run schedules. Off for a copy that must do nothing by itself."""

    TRACING: str = "parent"
    """Spans for OpenTelemetry, where it is installed: "parent" has the attempts of a job in the trace it was enqueued
    in, "link" has each in a trace of its own that links there, "off" makes none."""

    TRACE_URL: str = ""
    """Where your traces are looked at, with {trace_id} in it: the page of a job links there."""

    TICK_GRACE: float = 60.0
    """Seconds a tick of a schedule may be late before `missed="skip"` gives it up."""

    LAG_LIMIT: float = 60.0
    """Seconds the eldest ready job of a queue may have waited before the dashboard calls for a person."""

    REDACT: list[str] | tuple[str, ...] = ("password", "passwd", "secret", "token", "api_key", "authorization", "card")
    """An argument, or a key anywhere in one, whose name contains one of these is never shown to anybody."""

    KEEP_STATS: timedelta | None = timedelta(days=90)
    """How long the counts behind the plots are kept; None keeps them for ever."""

    KEEP_SUCCEEDED: timedelta | None = timedelta(days=7)
    """How long succeeded jobs stay in the history; None keeps them for ever."""

    KEEP_DEAD: timedelta | None = timedelta(days=90)
    """How long dead and cancelled jobs stay; None keeps them for ever."""

    KEEP_EVENTS: timedelta | None = timedelta(days=90)
    """How long events stay in their log, to be looked at and replayed; None keeps them for ever."""

    KEEP_KEYS: timedelta | None = timedelta(days=365)
    """How long an idempotency key is remembered at least; None remembers it for ever."""

    def timeout(self, band: str) -> float:
        return float(self.TIMEOUTS.get(band, TIMEOUTS[band]))

    def problems(self) -> list[str]:
        """What `manage.py check` has to say about these values; empty when they are fine."""
        found = [
            f'JOBS["QUEUES"] has {name!r}: a queue name is 1 to 64 letters, digits, "_", "-", "." or "/".'
            for name in self.QUEUES
            if not isinstance(name, str) or not QUEUE_NAME.match(name)
        ]
        for band, seconds in self.TIMEOUTS.items():
            if band not in BANDS:
                found.append(f'JOBS["TIMEOUTS"] has {band!r}: the bands are high, default and low.')
            elif not isinstance(seconds, int | float) or not 0 < seconds <= 30 * 86_400:
                found.append(f'JOBS["TIMEOUTS"][{band!r}] is {seconds!r}: give seconds, above 0, at most 30 days.')
        for name, low, high in RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                found.append(f'JOBS["{name}"] is {value!r}: give a number from {low:g} to {high:g}.')
        if self.LOG_LEVEL not in LEVELS:
            found.append(f'JOBS["LOG_LEVEL"] is {self.LOG_LEVEL!r}: give one of {", ".join(LEVELS)}.')
        if self.TRACING not in TRACINGS:
            found.append(f'JOBS["TRACING"] is {self.TRACING!r}: give one of {", ".join(TRACINGS)}.')
        if self.TRACE_URL and not re.match(r"https?://.*\{trace_id\}", self.TRACE_URL):
            found.append(
                f'JOBS["TRACE_URL"] is {self.TRACE_URL!r}: give an address with {{trace_id}} in it, such as'
                ' "https://traces.example.com/trace/{trace_id}".'
            )
        if len(self.VERSION) > 64 or "\x00" in self.VERSION:
            found.append(f'JOBS["VERSION"] is {self.VERSION[:80]!r}: give at most 64 characters.')
        if not all(isinstance(pattern, str) and pattern for pattern in self.REDACT):
            found.append(f'JOBS["REDACT"] is {self.REDACT!r}: give parts of names, such as "password".')
        for name in ("KEEP_SUCCEEDED", "KEEP_DEAD", "KEEP_EVENTS", "KEEP_KEYS", "KEEP_STATS"):
            keep = getattr(self, name)
            if keep is not None and not timedelta(0) <= keep <= timedelta(days=36_600):
                found.append(f'JOBS["{name}"] is {keep!r}: give 0 or more, at most a hundred years, or None for ever.')
        keys, events = self.KEEP_KEYS, self.KEEP_EVENTS
        if keys is not None and keys >= timedelta(0) and (events is None or events > keys):
            found.append(
                'JOBS["KEEP_EVENTS"] is longer than JOBS["KEEP_KEYS"]: an event whose keys are forgotten would be given'
                " to its consumers twice. Keep keys at least as long as events."
            )
        if not self.BACKOFF or not all(isinstance(n, int | float) and n >= 0 for n in self.BACKOFF):
            found.append(f'JOBS["BACKOFF"] is {self.BACKOFF!r}: give one or more numbers of seconds, 0 or more.')
        if self.DEAD_AFTER < 3 * self.HEARTBEAT:
            found.append(
                f'JOBS["DEAD_AFTER"] ({self.DEAD_AFTER:g}) is less than three times JOBS["HEARTBEAT"]'
                f" ({self.HEARTBEAT:g}): one late heartbeat would take a living worker's jobs away."
            )
        if self.WARN_PAYLOAD > self.MAX_PAYLOAD:
            found.append('JOBS["WARN_PAYLOAD"] is above JOBS["MAX_PAYLOAD"]: the warning would never be seen.')
        return found


RANGES: tuple[tuple[str, float, float], ...] = (
    ("MAX_ATTEMPTS_LIMIT", 1, 1000),
    ("BACKOFF_JITTER", 0, 1),
    ("MAX_CRASHES", 1, 100),
    ("MAX_DEPTH", 1, 10_000),
    ("MAX_PAYLOAD", 100, 100_000_000),
    ("MAX_RESULT", 0, 100_000_000),
    ("SLOTS", 1, 512),
    ("ASYNC_CONCURRENCY", 1, 10_000),
    ("DRAIN_TIMEOUT", 0, 86_400),
    ("KILL_GRACE", 0, 1),
    ("HEARTBEAT", 0.1, 60),
    ("DEAD_AFTER", 0.5, 3600),
    ("POLL_INTERVAL", 0.01, 60),
    ("CONN_MAX_AGE", 0, 86_400),
    ("TICK_GRACE", 1, 86_400),
    ("LAG_LIMIT", 0, 30 * 86_400),
)


@cache
def jobs_settings() -> JobsSettings:
    return read("JOBS", JobsSettings)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "JOBS":
        jobs_settings.cache_clear()


setting_changed.connect(_forget)  # override_settings in tests
