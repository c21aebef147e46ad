"""The JSON contract between the two houses: data only, so that a writer or a worker may be other code.

A message's headers say which task, where and under which conditions; its body holds the arguments and is passed on
byte for byte. Headers (optional ones left out when they say nothing):

    {"v": 1, "task": "shop.tasks.send_receipt", "version": 2, "queue": "default", "priority": 0, "max_attempts": 1,
     "at_most_once": true, "source_name": "checkout", "delay": 300.0, "run_after": "2026-01-01T00:00:00+00:00",
     "key": "order-42", "generation": 3, "unique_for": 3600.0, "until": "finished", "parent": "0192...", "depth": 1,
     "origin": "GET /checkout by 12",
     "callbacks": [{"on": "success", "headers": {...}, "body": {...}, "ended": true, "uid": "0192..."}],
     "trace": {"traceparent": "00-0af7...-b7ad...-01"}}

Body: {"args": [...], "kwargs": {...}}. `delay` is seconds from the INSERT by the database's clock; `run_after` is an
absolute time; at most one of the two. A `key` with a `generation` holds for `unique_for` seconds or `until` its job has
finished. A callback is a message by itself, written when the job ends: `on` is success, failure or complete, `ended`
says that it wants to be told what became of the job, `uid` stands where it has a key. `trace` is what OpenTelemetry's
propagators say, and stands last: what comes before it is then the same for every job of a task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from jobs.conf import MAX_PRIORITY, MIN_PRIORITY, QUEUE_NAME
from outbox.errors import Undeliverable

VERSION = 1
"""Of this contract, not of a task."""
MAX_VERSION = 32_000
MAX_NESTING = 64
MAX_VALUES = 1_000_000
"""Items of all lists and dicts together. A list that holds another twice counts it twice, as JSON would."""
MAX_CALLBACKS = 10
MAX_TRACE = 4000
"""Characters of a trace context, as JSON."""
MAX_DIGITS = 4000
TOO_LONG = 10**MAX_DIGITS

TASK_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
SOURCE_NAME = re.compile(r"[A-Za-z0-9_\-./]{0,200}\Z")

dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""The one spelling of JSON that is stored: compact, real UTF-8, no NaN or Infinity."""

dumps_ascii = json.JSONEncoder(separators=(",", ":")).encode
"""For text of which we know nothing: whatever is in it, PostgreSQL can store this."""


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_json)


def loads(text: str) -> Any:
    """Read what `dumps` wrote, and none of the words that Python's own reader takes besides."""
    if text.startswith("{"):  # what was written by us: no look for blanks around it
        value, end = _decoder.raw_decode(text)
        if end == len(text):
            return value
    return _decoder.decode(text)


class Headers(NamedTuple):
    """The headers of a message, read back and checked."""

    task: str
    queue: str
    priority: int
    max_attempts: int
    source_name: str
    delay: timedelta | None
    run_after: datetime | None
    key: str
    parent: UUID | None
    depth: int
    version: int
    at_most_once: bool
    origin: str = ""
    generation: int = 0
    """0 for a plain key."""
    unique_for: float | None = None
    until: str = ""
    callbacks: str | None = None
    """JSON text."""
    trace: str | None = None
    """JSON text."""


def check_json(value: Any, where: str) -> str | None:
    """Why `value` would not come back from JSON exactly as it is, naming the place; None when it would.

    Only the exact types count: a subclass (an enum member, Django's SafeString) would come back as its base.
    """
    problem = _problem(value, 0, [MAX_VALUES])
    return None if problem is None else where + problem


def _problem(value: Any, depth: int, left: list[int]) -> str | None:
    """The path from here to what is wrong, and what it is. The path is put together only where there is one."""
    kind = type(value)
    if kind is str:
        return _text_problem(value)
    if value is None or kind is bool:
        return None
    if kind is int:
        return f" is a whole number of over {MAX_DIGITS} digits" if abs(value) >= TOO_LONG else None
    if kind is float:
        return None if value - value == 0 else f" is {value!r}, which JSON cannot say"
    if kind is not list and kind is not dict:
        return f" is {_describe(kind)}{_hint(value)}"
    if depth >= MAX_NESTING:
        return f" is nested deeper than {MAX_NESTING} levels"
    left[0] -= len(value)
    if left[0] < 0:
        return f" holds more than {MAX_VALUES:,} values"
    if kind is list:
        for index, item in enumerate(value):
            if (problem := _problem(item, depth + 1, left)) is not None:
                return f"[{index}]{problem}"
        return None
    for key, item in value.items():
        if type(key) is not str:
            return f" has the key {_shown(key)}; keys must be str"
        if (problem := _text_problem(key)) is not None:
            return f": a key{problem}"
        if (problem := _problem(item, depth + 1, left)) is not None:
            return f"[{key!r}]{problem}"
    return None


def _text_problem(text: str) -> str | None:
    if "\x00" in text:
        return " contains a NUL character, which PostgreSQL cannot store"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return " contains a lone surrogate, which is not text"
    return None


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"of type {type(value).__qualname__}"


def _describe(kind: type) -> str:
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"of type {name}, which would not come back as it is"


def _hint(value: Any) -> str:
    try:
        return _what_to_pass(value)
    except Exception:  # what an object answers to a look is its own affair
        return ""


def _what_to_pass(value: Any) -> str:
    if isinstance(value, str | int | float):
        base = next(kind for kind in (bool, str, int, float) if isinstance(value, kind)).__name__
        return f"; pass {base}(...) of it"
    if isinstance(value, tuple | set | frozenset):
        return "; pass list(...) of it"
    if isinstance(value, Mapping):
        return "; pass dict(...) of it"
    if hasattr(value, "isoformat"):
        return "; pass .isoformat() and parse it in the task"
    if hasattr(value, "pk"):
        return "; pass its primary key and load it in the task"
    return "; pass None, bool, int, float, str, list or dict"


def pack_body(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The body for arguments that `check_json` has passed."""
    return dumps({"args": list(args), "kwargs": dict(kwargs)})


def unpack_body(body: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in a body; raises ValueError for anything that is not one."""
    try:
        content = loads(body)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if type(content) is not dict or type(content.get("args")) is not list or type(content.get("kwargs")) is not dict:
        raise ValueError('not an object with a list "args" and an object "kwargs"')
    return content["args"], content["kwargs"]


def unpack_headers(text: str) -> Headers:
    """The headers of a message; raises Undeliverable with the reason for anything that is not right."""
    try:
        given = loads(text)
    except (ValueError, RecursionError) as error:
        raise Undeliverable(f"the headers are not JSON: {error}") from None
    if type(given) is not dict:
        raise Undeliverable("the headers are not a JSON object")
    if given.get("v") != VERSION:
        raise Undeliverable(f"the headers are of version {given.get('v')!r}; this code reads version {VERSION}")
    try:
        return _checked(given)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Undeliverable(f"the headers are not right: {type(error).__name__}: {error}") from None


def _checked(given: dict[str, Any]) -> Headers:
    task, queue = given["task"], given["queue"]
    priority, attempts = given.get("priority", 0), given.get("max_attempts", 1)
    source_name, key, depth = given.get("source_name", ""), given.get("key", ""), given.get("depth", 0)
    delay, run_after, parent = given.get("delay"), given.get("run_after"), given.get("parent")
    version, at_most_once = given.get("version", 1), given.get("at_most_once", False)
    origin = given.get("origin", "")
    if len(task) > 200 or not TASK_NAME.match(task):
        raise ValueError(f"task {task[:220]!r}")
    if not QUEUE_NAME.match(queue):
        raise ValueError(f"queue {queue[:80]!r}")
    if type(priority) is not int or not MIN_PRIORITY <= priority <= MAX_PRIORITY:
        raise ValueError(f"priority {priority!r}")
    if type(attempts) is not int or not 1 <= attempts <= 1000:
        raise ValueError(f"max_attempts {attempts!r}")
    if not SOURCE_NAME.match(source_name):
        raise ValueError(f"source_name {source_name[:220]!r}")
    if type(key) is not str or len(key) > 200:
        raise ValueError(f"key {key!r}")
    if parent is not None and type(parent) is not str:
        raise ValueError(f"parent {parent!r}")
    if type(depth) is not int or not 0 <= depth <= 32_000:
        raise ValueError(f"depth {depth!r}")
    if type(version) is not int or not 1 <= version <= MAX_VERSION:
        raise ValueError(f"version {version!r}")
    if type(at_most_once) is not bool:
        raise ValueError(f"at_most_once {at_most_once!r}")
    if type(origin) is not str or len(origin) > 300:
        raise ValueError(f"origin {origin!r}")
    generation, unique_for, until = given.get("generation", 0), given.get("unique_for"), given.get("until", "")
    if type(generation) is not int or not 0 <= generation < 2**31 or (generation and not key):
        raise ValueError(f"generation {generation!r}")
    if until not in ("", "finished") or (until != "") + (unique_for is not None) != (generation > 0):
        raise ValueError(f"generation {generation!r} of a key that holds for {unique_for!r} or until {until!r}")
    if unique_for is not None and not timedelta(0) < timedelta(seconds=unique_for) <= timedelta(days=3660):
        raise ValueError(f"unique_for {unique_for!r}")
    callbacks = given.get("callbacks")
    due = None if run_after is None else datetime.fromisoformat(run_after)
    if due is not None:
        if due.tzinfo is None:
            raise ValueError(f"run_after {run_after!r} has no time zone")
        due = due.astimezone(UTC)  # so that a time no calendar has is found here
    return Headers(
        task,
        queue,
        priority,
        attempts,
        source_name,
        None if delay is None else timedelta(seconds=delay),
        due,
        key,
        None if parent is None else UUID(parent),
        depth,
        version,
        at_most_once,
        origin,
        generation,
        unique_for,
        until,
        None if callbacks is None else _callbacks(callbacks),
        None if (trace := given.get("trace")) is None else trace_text(trace),
    )


def trace_text(given: Any) -> str | None:
    """A trace context as it is kept with the job; None for one that cannot be right: no job is refused for that."""
    if type(given) is not dict or not given or not all(type(value) is str for value in given.values()):
        return None
    text = dumps_ascii(given)
    return text if len(text) <= MAX_TRACE else None


def _callbacks(given: Any) -> str:
    """The callbacks as they are kept with the job. Each is a message that the gate would take."""
    if type(given) is not list or not 0 < len(given) <= MAX_CALLBACKS:
        raise ValueError(f"callbacks: give a list of 1 to {MAX_CALLBACKS}")
    for each in given:
        if each["on"] not in ("success", "failure", "complete"):
            raise ValueError(f"a callback on {each['on']!r}")
        if _checked(each["headers"]).generation:
            raise ValueError("a callback whose key has a generation")
        unpack_body(dumps(each["body"]))
        if type(each.get("ended", True)) is not bool:
            raise ValueError(f"ended {each['ended']!r}")
        if (uid := each.get("uid")) is not None:
            UUID(str(uid))
    return dumps(given)
