"""Whether this SQLite, and the way an alias uses it, will do: each problem with what to do about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from django.db import connections

NEEDED = (3, 35, 0)
"""The first with RETURNING."""

MENDED = (3, 51, 3)
MENDED_BEFORE = ((3, 44, 6), (3, 50, 7))
"""Older lines that had it mended: each with the first release that has."""


class Problem(NamedTuple):
    """What is wrong and what to do."""

    text: str
    hint: str


def too_old(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Problem | None:
    """Why this SQLite cannot be used at all."""
    if version >= NEEDED:
        return None
    return Problem(
        f"SQLite {_dotted(version)} is too old for the queue, which needs {_dotted(NEEDED)} (RETURNING).",
        "Use a Python that comes with a newer SQLite, or PostgreSQL.",
    )


def may_corrupt(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Problem | None:
    """Why this SQLite should not be trusted with data that matters."""
    if version >= MENDED or any(version[:2] == mended[:2] and version >= mended for mended in MENDED_BEFORE):
        return None
    return Problem(
        f"SQLite {_dotted(version)} can, very rarely, corrupt a database in WAL mode when a connection resets the log"
        " while another checkpoints it (the WAL-reset bug, in all releases from 3.7.0 to 3.51.2).",
        "For data that matters use SQLite 3.51.3 or later (or 3.50.7, 3.44.6), or PostgreSQL. For development it does.",
    )


def in_memory(alias: str) -> bool:
    """Whether the alias is a database that no other process can see."""
    name = str(connections.settings[alias].get("NAME", ""))
    return not name or ":memory:" in name or "mode=memory" in name


def not_for_workers(alias: str) -> str | None:
    """Why workers in processes of their own cannot use the alias."""
    if connections[alias].vendor != "sqlite" or not in_memory(alias):
        return None
    return (
        f"The database {alias!r} is in memory: no other process can see it. Give DATABASES[{alias!r}] a file as NAME;"
        " in tests use jobs.testing."
    )


def habits(alias: str) -> Iterator[Problem]:
    """Options of the alias under which the application's own transactions fail beside others."""
    options = connections.settings[alias].get("OPTIONS", {})
    mode = options.get("transaction_mode")
    if str(mode).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield Problem(
            f'Transactions on {alias!r} are deferred: one that reads before it writes fails at once with "database is'
            ' locked" where another process has written in between.',
            f'Set DATABASES[{alias!r}]["OPTIONS"] = {{"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command":'
            ' "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"}.',
        )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
