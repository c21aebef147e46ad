"""Python's values as Django's SQLite columns have them, and back as PostgreSQL's driver gives them.

SQLite knows numbers and text only. A UUID is 32 hexadecimal digits, a time is text in UTC without a zone, a truth value
0 or 1, a duration microseconds. What comes back is known by the names of our own columns.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import DataError

UUIDS = {"id", "uid", "job", "parent", "last_job", "event", "last_job_id"}

TIMES = {"at", "run_after", "hold_until", "until", "eldest", "now", "clock_timestamp()", "statement_timestamp()"}

TRUTHS = {"at_most_once", "declared", "holds", "calls_back", "found"}

DURATIONS = {"every", "unseen"}

HEX = re.compile(r"[0-9a-f]{32}\Z")

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?\Z")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# Into the database ----------------------------------------------------------------------------------------------------


def stored(value: Any) -> Any:
    """The value of one parameter. Raises DataError for what PostgreSQL would refuse."""
    if value is None or isinstance(value, float | bytes):
        return value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return _whole(value, 64)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, timedelta):
        return round(value / timedelta(microseconds=1))
    if isinstance(value, list | tuple):
        return array(value, "")
    return value


def time_text(at: datetime) -> str:
    """As Django writes it."""
    return str(at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo is not None else at)


def _text(value: str) -> str:
    if "\x00" in value:
        raise DataError("a text cannot contain NUL characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError("a text cannot contain lone surrogates") from error
    return value


def _whole(value: int, bits: int) -> int:
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise DataError(f"{value} does not fit into {bits} bits")
    return value


def _real(value: float) -> float:
    if not math.isfinite(value):
        raise DataError(f"{value} is no number")
    return value


# What a cast says of the items of an array.
ITEMS: dict[str, Callable[[Any], Any]] = {
    "uuid": lambda item: UUID(str(item)).hex,
    "smallint": lambda item: _whole(int(item), 16),
    "int": lambda item: _whole(int(item), 32),
    "bigint": lambda item: _whole(int(item), 64),
    "float8": lambda item: _real(float(item)),
    "boolean": lambda item: int(item if isinstance(item, bool) else str(item).lower() in ("t", "true")),
    "timestamptz": lambda item: time_text(item if isinstance(item, datetime) else datetime.fromisoformat(str(item))),
    "text": lambda item: _text(str(item)),
    "": stored,
}


def items(value: Any, kind: str) -> list[Any]:
    """The items of an array parameter: a list, or the text in which PostgreSQL reads one."""
    given: Iterable[Any] = parsed(value) if isinstance(value, str) else value
    convert = ITEMS[kind]
    try:
        return [None if item is None else convert(item) for item in given]
    except ValueError as error:
        raise DataError(f"not a {kind}: {error}") from error


def array(value: Any, kind: str) -> str:
    """An array parameter as JSON, for `json_each`."""
    return json.dumps(items(value, kind), ensure_ascii=False)


def table(columns: Sequence[Any], kinds: Sequence[str]) -> str:
    """Arrays side by side as the JSON of their rows."""
    each = [items(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return json.dumps(list(zip(*each, strict=True)), ensure_ascii=False)


def parsed(text: str) -> list[str | None]:
    """What stands in PostgreSQL's text of an array, as `outbox.arrays` writes it."""
    found: list[str | None] = []
    at, end = 1, len(text) - 1
    while at < end:
        if text[at] == '"':
            item, at = _quoted(text, at + 1)
            found.append(item)
        else:
            stop = text.find(",", at)
            stop = end if stop < 0 else stop
            plain = text[at:stop]
            found.append(None if plain == "NULL" else plain)
            at = stop
        at += 1  # the comma
    return found


def _quoted(text: str, at: int) -> tuple[str, int]:
    parts = []
    while (char := text[at]) != '"':
        if char == "\\":
            parts.append(text[at + 1])
            at += 2
            continue
        stop = min(found for mark in '"\\' if (found := text.find(mark, at)) >= 0)
        parts.append(text[at:stop])
        at = stop
    return "".join(parts), at + 1


# Out of the database --------------------------------------------------------------------------------------------------


def read(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """The rows with the types that PostgreSQL's driver gives them."""
    how = [_reader(name) for name in names]
    return [
        tuple([value if value is None else convert(value) for convert, value in zip(how, row, strict=True)])
        for row in rows
    ]


def _reader(name: str) -> Callable[[Any], Any]:
    last = name.rpartition(".")[2]
    if last in UUIDS:
        return _uuid
    if last in TIMES or last.endswith("_at"):
        return at_of
    if last in TRUTHS or name.upper().endswith("IS NOT NULL") or name.upper().startswith(("EXISTS", "NOT EXISTS")):
        return bool
    if last in DURATIONS:
        return _duration
    return _same


def _same(value: Any) -> Any:
    return at_of(value) if isinstance(value, datetime) else value


def _uuid(value: Any) -> Any:
    return UUID(value) if isinstance(value, str) and HEX.match(value) else value


def at_of(value: Any) -> Any:
    """An aware time from a column of them; anything else as it is."""
    if isinstance(value, datetime):  # Django's own converter has been there, by the column's declared type
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) and TIME.match(value) else value


def _duration(value: Any) -> Any:
    return timedelta(microseconds=value) if isinstance(value, int | float) else value


def plain(params: Sequence[Any] | Mapping[str, Any]) -> Any:
    """All parameters of a statement in SQLite's own spelling."""
    if isinstance(params, Mapping):
        return {name: stored(value) for name, value in params.items()}
    return [stored(value) for value in params]
