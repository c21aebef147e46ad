"""What a task returned, as the JSON text that is kept: bounded and cleaned.

It takes any value; it leaves the text, or says why there is none. A tuple becomes a list and a subclass of str or of a
number its base, as JSON would spell them; text that no database can store is cleaned. What is not JSON at all is the
task's mistake, and fails its attempt; what is only too large is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.envelope import check_json, dumps
from jobs.errors import InvalidResult
from outbox.text import clean

Packed = tuple[str | None, str]
"""The result as JSON text and an empty note, or None and why it is not kept."""


def pack_result(value: Any, limit: int) -> Packed:
    """The result as it is kept, of at most `limit` bytes; raises InvalidResult where it is not JSON."""
    try:
        problem = check_json(value, "the result")
        if problem is not None:
            value = _cleaned(value)
            problem = check_json(value, "the result")
        text = dumps(value) if problem is None else ""
    except Exception as error:  # an endless or bottomless one, or an object that answers a look with an error
        raise InvalidResult(f"the result cannot be written as JSON: {type(error).__name__}") from None
    if problem is not None:
        raise InvalidResult(clean(problem.replace("; pass ", "; return "), 500))
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        return None, f'its result was not kept: {size:,} bytes of JSON are over JOBS["MAX_RESULT"] ({limit:,})'
    return text, ""


def _cleaned(value: Any) -> Any:
    """The same as JSON spells it, with text that can be stored; what JSON has no word for stays what it is."""
    if isinstance(value, str):
        return clean(str.__str__(value), len(value) + 1)
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    if isinstance(value, Mapping):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return value
