"""Which statement is done how on SQLite: by a room of its own, or as `spell` writes it.

A room says which constants it stands for. The rooms are imported when SQLite is first used, so PostgreSQL pays nothing
for them; the house above adds its own with `also`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, NamedTuple, Protocol

Row = tuple[Any, ...]


class Answer(NamedTuple):
    """Rows with the names of their columns."""

    names: Sequence[str]
    rows: list[Row]


class Do(Protocol):
    """What a verb runs plain statements with: SQLite's words or PostgreSQL's, as far as `spell` goes."""

    def __call__(self, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]: ...

    def answer(self, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> Answer:
        """The same with the names of the columns."""
        ...

    def as_said(self, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """Another of our statements, in its own room if it has one."""
        ...


Verb = Callable[..., "list[Row] | Answer"]
"""Called with `do` and the parameters as one sequence; with the parts of a template by name."""


class Room(NamedTuple):
    """How a statement is done: by a verb, or as another text."""

    verb: Verb | None
    text: str
    reads: bool


class Found(NamedTuple):
    """The same for one statement, with what stood in the places of its template."""

    room: Room
    parts: dict[str, str]


_exact: dict[str, Room] = {}
_templates: list[tuple[re.Pattern[str], Room]] = []
_modules = ["outbox.lite.verbs"]


def also(module: str) -> None:
    """Another module with rooms, imported when SQLite is first used."""
    _modules.append(module)
    _open.cache_clear()


@cache
def _open() -> None:
    for module in _modules:
        import_module(module)


def verb(*statements: str, template: bool = False, reads: bool = False) -> Callable[[Verb], Verb]:
    """Register a function for these statements. A template has `{name}` where something may stand."""

    def register(function: Verb) -> Verb:
        for statement in statements:
            _put(statement, Room(function, "", reads), template)
        return function

    return register


def said(statement: str, text: str, *, template: bool = False) -> None:
    """Register another text for a statement; what stands in the places of a template goes into those of the text."""
    _put(statement, Room(None, text, False), template)


def nothing(*statements: str) -> None:
    """These have no meaning on SQLite: nothing is done, and no rows come back."""
    for statement in statements:
        _put(statement, Room(lambda do, params: [], "", True), False)


def _put(statement: str, room: Room, template: bool) -> None:
    if template:
        _templates.append((_pattern(statement), room))
    else:
        _exact[statement] = room
    find.cache_clear()


def _pattern(template: str) -> re.Pattern[str]:
    """Matches what `template.format(...)` gives."""
    parts = re.split(r"(?<!\{)\{(\w*)\}(?!\})", template)
    seen, text = 0, ""
    for number, part in enumerate(parts):
        if number % 2:
            text += f"(?P<{part or f'part{seen}'}>.*?)"
            seen += 1
        else:
            text += re.escape(part.replace("{{", "{").replace("}}", "}"))
    return re.compile(text, re.DOTALL)


@lru_cache(maxsize=4096)
def find(sql: str) -> Found | None:
    """The room for a statement; None where it is spelled by rule."""
    _open()
    if (room := _exact.get(sql)) is not None:
        return Found(room, {})
    if sql.startswith("NOTIFY "):  # nobody listens: see `LiteSession.wait`
        return Found(NOBODY, {})
    for pattern, room in _templates:
        if (match := pattern.fullmatch(sql)) is not None:
            return Found(room, match.groupdict())
    return None


NOBODY = Room(lambda do, params: [], "", True)
