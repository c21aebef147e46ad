"""Lists as PostgreSQL reads arrays, in one piece of text each.

psycopg dumps a list element by element in Python, some microseconds each, which for a batch of jobs is more than
everything else a worker does with them. Text keeps what the statement casts it to: `%s::uuid[]`.
"""

from __future__ import annotations

from collections.abc import Iterable


def plain(values: Iterable[object]) -> str:
    """Of numbers, truth values, UUIDs, times, or names without any character that would need quotes; None is NULL."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def quoted(values: Iterable[object]) -> str:
    """Of anything that is text, or whose text PostgreSQL reads; None is NULL."""
    return "{" + ",".join(["NULL" if value is None else _quoted(str(value)) for value in values]) + "}"


def _quoted(text: str) -> str:
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
