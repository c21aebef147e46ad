"""Check a payload against the schema of its event type: a TypedDict, a dataclass, or a function that raises.

The types are read once, where the event type is declared, so that a schema JSON cannot keep is refused there. A check
answers the path of what is wrong and what it should be, in words; it changes nothing.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from django.core.exceptions import ValidationError

from jobs.errors import InvalidOption
from outbox.text import clean

Check = Callable[[Any, str], "str | None"]
"""Called with a value and the words for its place; answers what is wrong, or None."""

SIMPLE = {str: "str", bool: "bool", int: "int", float: "float", type(None): "None"}

HOW = (
    "give a TypedDict or a dataclass of str, int, float, bool, None, list, dict and the like, or a function that raises"
)


@dataclass
class Structure:
    """An object with known keys."""

    name: str
    required: set[str] = field(default_factory=set)
    checks: dict[str, Check] = field(default_factory=dict)

    def __call__(self, value: Any, where: str) -> str | None:
        if type(value) is not dict:
            return f"{where} is {_shown(value)}; {self.name} wants an object"
        for key in self.required:
            if key not in value:
                return f'{where}["{key}"] is missing; {self.name} wants it'
        for key, item in value.items():
            check = self.checks.get(key)
            if check is None:
                near = get_close_matches(str(key), self.checks, 1)
                return f'{where}["{key}"] is not in {self.name}{f"; did you mean {near[0]!r}?" if near else ""}'
            if (problem := check(item, f'{where}["{key}"]')) is not None:
                return problem
        return None


def read(schema: Any) -> Check:
    """The check that a schema stands for; raises InvalidOption for what is none."""
    if schema is None:
        return lambda value, where: None
    if is_typeddict(schema) or (dataclasses.is_dataclass(schema) and isinstance(schema, type)):
        return _structure(schema, {})
    if callable(schema) and not isinstance(schema, type):
        return lambda value, where: _asked(schema, value, where)
    raise InvalidOption(f"schema={schema!r}: {HOW}.")


def _asked(function: Callable[[Any], Any], value: Any, where: str) -> str | None:
    try:
        answer = function(value)
    except ValidationError as error:
        said = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
        return f"{where}: " + "; ".join(f"{name}: {' '.join(words)}".removeprefix(": ") for name, words in said.items())
    except Exception as error:
        return f"{where}: {clean(' '.join(str(error).split()) or type(error).__name__, 500)}"
    return f"{where} was refused by {getattr(function, '__qualname__', function)}" if answer is False else None


def _structure(schema: type, known: dict[type, Structure]) -> Structure:
    if schema in known:  # it holds one of its own kind
        return known[schema]
    made = known[schema] = Structure(schema.__name__)
    try:
        hints = get_type_hints(schema, include_extras=True)
    except Exception as error:
        raise InvalidOption(f"schema={schema!r}: its types cannot be read: {error}.") from error
    if dataclasses.is_dataclass(schema):
        missing = dataclasses.MISSING
        fields = [f for f in dataclasses.fields(schema) if f.init]
        hints = {f.name: hints[f.name] for f in fields}
        made.required = {f.name for f in fields if f.default is missing and f.default_factory is missing}
    else:
        # Where annotations are strings, only the hints know of Required and NotRequired.
        said = {name: get_origin(kind) for name, kind in hints.items()}
        usual: frozenset[str] = schema.__required_keys__  # type: ignore[attr-defined]
        made.required = {
            name for name, word in said.items() if word is Required or (word is not NotRequired and name in usual)
        }
    made.checks = {name: _check(kind, f"{schema.__name__}.{name}", known) for name, kind in hints.items()}
    return made


def _check(kind: Any, named: str, known: dict[type, Structure]) -> Check:
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Required, NotRequired, Annotated) or getattr(origin, "__name__", "") == "ReadOnly":
        return _check(inside[0], named, known)
    if kind is Any or kind is object:
        return lambda value, where: None
    if kind is None or kind in SIMPLE:
        return _simple(type(None) if kind is None else kind)
    if origin in (Union, types.UnionType):
        return _either([_check(each, named, known) for each in inside], " or ".join(_name(each) for each in inside))
    if origin is Literal:
        return lambda value, where: None if _is_one_of(value, inside) else _wanted(value, where, _name(kind))
    if kind is list or origin is list:
        return _list(_check(inside[0] if inside else Any, named, known), _name(kind))
    if kind is dict or origin is dict:
        if inside and inside[0] is not str:
            raise InvalidOption(f"schema: {named} is {_name(kind)}; the keys of an object in JSON are str.")
        return _dict(_check(inside[1] if inside else Any, named, known), _name(kind))
    if is_typeddict(kind) or (dataclasses.is_dataclass(kind) and isinstance(kind, type)):
        return _structure(kind, known)
    raise InvalidOption(f"schema: {named} is {_name(kind)}, which JSON cannot keep: {HOW}.")


def _simple(kind: type) -> Check:
    fitting = (int, float) if kind is float else (kind,)
    return lambda value, where: None if type(value) in fitting else _wanted(value, where, SIMPLE[kind])


def _either(checks: list[Check], wanted: str) -> Check:
    def check(value: Any, where: str) -> str | None:
        problems = [check(value, where) for check in checks]
        if None in problems:
            return None
        # Where one of them is an object and so is the value, what is wrong inside says more.
        deeper = [problem for problem in problems if problem is not None and not problem.startswith(f"{where} ")]
        return deeper[0] if deeper else _wanted(value, where, wanted)

    return check


def _list(check: Check, wanted: str) -> Check:
    def each(value: Any, where: str) -> str | None:
        if type(value) is not list:
            return _wanted(value, where, wanted)
        found = (check(item, f"{where}[{n}]") for n, item in enumerate(value))
        return next((problem for problem in found if problem is not None), None)

    return each


def _dict(check: Check, wanted: str) -> Check:
    def each(value: Any, where: str) -> str | None:
        if not isinstance(value, Mapping):
            return _wanted(value, where, wanted)
        found = (check(item, f'{where}["{key}"]') for key, item in value.items())
        return next((problem for problem in found if problem is not None), None)

    return each


def _is_one_of(value: Any, allowed: tuple[Any, ...]) -> bool:
    return any(type(value) is type(each) and value == each for each in allowed)


def _wanted(value: Any, where: str, wanted: str) -> str:
    return f"{where} is {_shown(value)}; the schema wants {wanted}"


def _shown(value: Any) -> str:
    """Its kind, and not what it says: that may be nobody's business."""
    return "None" if value is None else f"of type {type(value).__name__}"


def _name(kind: Any) -> str:
    return SIMPLE.get(kind) or (
        kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")
    )
