"""The settings of the outbox: read once from `settings.OUTBOX` into a frozen dataclass."""

from __future__ import annotations

import difflib
import types
import typing
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

S = TypeVar("S")


@dataclass(frozen=True)
class OutboxSettings:
    """`OUTBOX = {...}`; every key may be left out."""

    REQUIRE_TRANSACTION: bool = False
    """Writing outside a transaction is an error that says what to wrap. Off: such a write commits by itself."""

    NOTIFY: bool = True
    """Wake the relay by NOTIFY after the commit. Turn it off behind PgBouncer: the relay then polls more often."""

    BATCH: int = 1000
    """The most messages the relay moves in one transaction (1 to 10,000)."""

    POLL_INTERVAL: float = 0.5
    """Seconds between two looks at an empty outbox while NOTIFY wakes the relay."""

    POLL_INTERVAL_WITHOUT_NOTIFY: float = 0.1
    """The same with NOTIFY off."""

    @property
    def poll_interval(self) -> float:
        return self.POLL_INTERVAL if self.NOTIFY else self.POLL_INTERVAL_WITHOUT_NOTIFY

    def problems(self) -> list[str]:
        """What `manage.py check` has to say about these values; empty when they are fine."""
        found = []
        if not 1 <= self.BATCH <= 10_000:
            found.append(f'OUTBOX["BATCH"] is {self.BATCH!r}: give a whole number from 1 to 10000.')
        found += [
            f'OUTBOX["{name}"] is {getattr(self, name)!r}: give seconds, above 0 and at most 60.'
            for name in ("POLL_INTERVAL", "POLL_INTERVAL_WITHOUT_NOTIFY")
            if not 0 < getattr(self, name) <= 60
        ]
        return found


def read(name: str, cls: type[S]) -> S:
    """Build the dataclass `cls` from the dict `settings.<name>`; an unknown key or a wrong type is an error."""
    given = getattr(settings, name, {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"settings.{name} must be a dict, not {type(given).__name__}.")
    hints = typing.get_type_hints(cls)
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for key, value in given.items():
        if key not in known:
            near = difflib.get_close_matches(str(key).upper(), known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" The keys are {', '.join(known)}."
            raise ImproperlyConfigured(f"settings.{name} has an unknown key {key!r}.{hint}")
        if not _fits(value, hints[key]):
            raise ImproperlyConfigured(f"settings.{name}[{key!r}] is {value!r}; it must be {_spell(hints[key])}.")
    return cls(**given)


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is not None:
        return isinstance(value, origin)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _spell(hint: Any) -> str:
    parts = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    return " or ".join("None" if part is type(None) else getattr(part, "__name__", str(part)) for part in parts)


@cache
def outbox_settings() -> OutboxSettings:
    return read("OUTBOX", OutboxSettings)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "OUTBOX":
        outbox_settings.cache_clear()


setting_changed.connect(_forget)  # override_settings in tests
