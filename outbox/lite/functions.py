"""The functions of PostgreSQL that our statements use, for SQLite. Times are text, as Django has them."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

from outbox.lite.values import EPOCH, at_of, time_text

FIRST, LAST = "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"

_last = EPOCH
_lock = Lock()
_TICK = timedelta(microseconds=1)


def clock_timestamp() -> str:
    """Now, by the machine's clock. Each call of a process is later than the one before: rows that are written one
    after the other keep their order."""
    global _last
    with _lock:
        now = datetime.now(UTC)
        if timedelta(0) <= _last - now < timedelta(milliseconds=50):
            now = _last + _TICK
        _last = now
    return time_text(now)


def midnight() -> str:
    """The start of today, in UTC."""
    return time_text(datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0))


def at(text: str | None) -> str | None:
    """A time as we write it: SQLite's own default for a column has fewer digits, and times are compared as text."""
    return None if text is None else time_text(_time(text))


def later(text: str | None, seconds: float | None) -> str | None:
    """That time, so many seconds on."""
    if text is None or seconds is None:
        return None
    try:
        return time_text(_time(text) + timedelta(seconds=seconds))
    except OverflowError:
        return LAST if seconds > 0 else FIRST


def seconds(text: str | None) -> float | None:
    """Since 1970."""
    return None if text is None else (_time(text) - EPOCH).total_seconds()


def to_timestamp(since: float | None) -> str | None:
    return None if since is None else time_text(EPOCH + timedelta(seconds=since))


def _time(text: str) -> datetime:
    found: datetime = at_of(text)
    return found


def greatest(*values: Any) -> Any:
    return max((value for value in values if value is not None), default=None)


def least(*values: Any) -> Any:
    return min((value for value in values if value is not None), default=None)


def strpos(text: str | None, part: str | None) -> int | None:
    return None if text is None or part is None else text.find(part) + 1


def starts_with(text: str | None, part: str | None) -> bool | None:
    return None if text is None or part is None else text.startswith(part)


def lowered(text: str | None) -> str | None:
    return None if text is None else str(text).lower()


def first(text: str | None, count: int) -> str | None:
    return None if text is None else text[:count]


def found_in(text: str | None, pattern: str) -> str | None:
    """The first group of a regular expression."""
    match = None if text is None else re.search(pattern, text)
    return match[1] if match else None


def dashed(value: Any) -> str | None:
    """A value as PostgreSQL's text of it: UUIDs have dashes there."""
    with suppress(ValueError, AttributeError, TypeError):
        return str(uuid.UUID(value)) if len(value) == 32 else str(value)
    return None if value is None else str(value)


def pg_sleep(length: float) -> str:
    time.sleep(length)
    return ""


FUNCTIONS: tuple[tuple[str, int, Callable[..., Any], bool], ...] = (
    ("clock_timestamp", 0, clock_timestamp, False),
    ("statement_timestamp", 0, clock_timestamp, False),
    ("now", 0, clock_timestamp, False),
    ("midnight", 0, midnight, False),
    ("at", 1, at, True),
    ("later", 2, later, True),
    ("seconds", 1, seconds, True),
    ("to_timestamp", 1, to_timestamp, True),
    ("greatest", -1, greatest, True),
    ("least", -1, least, True),
    ("strpos", 2, strpos, True),
    ("starts_with", 2, starts_with, True),
    ("lowered", 1, lowered, True),
    ("first", 2, first, True),
    ("found_in", 2, found_in, True),
    ("dashed", 1, dashed, True),
    ("gen_random_uuid", 0, lambda: uuid.uuid4().hex, False),
    ("pg_sleep", 1, pg_sleep, False),
)


def teach(raw: Any) -> None:
    """Give them to one connection of sqlite3."""
    for name, arguments, function, steady in FUNCTIONS:
        raw.create_function(name, arguments, function, deterministic=steady)
