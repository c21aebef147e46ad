"""How numbers and durations are said: short, and the same on every page and in every command."""

from __future__ import annotations

from typing import Any

NOTHING = "\N{EN DASH}"

UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def duration(seconds: Any) -> str:
    """Seconds as a person says them: 340 ms, 4.2 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    if not isinstance(seconds, int | float):
        return NOTHING
    if seconds < 0:
        return "0 s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    left = round(seconds)
    for n, (size, name) in enumerate(UNITS):
        if left >= size:
            smaller, unit = UNITS[n + 1] if n + 1 < len(UNITS) else (1, "s")
            rest = left % size // smaller
            return f"{left // size} {name}{f' {rest} {unit}' if rest else ''}"
    return f"{left} s"


def rough(seconds: float) -> str:
    """To the unit a person would say."""
    for size, name in UNITS:
        if seconds >= (2 if name != "min" else 1) * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def number(value: Any) -> str:
    """Thousands apart."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}".removesuffix(".0")
    return f"{value:,}" if isinstance(value, int) else str(value)


def rate(value: Any) -> str:
    """Jobs a second, or a minute where they are few."""
    if not isinstance(value, int | float) or not value:
        return NOTHING
    return f"{number(float(value))}/s" if value >= 1 else f"{number(float(value) * 60)}/min"
