"""Wait for a state that can be observed, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, within: float = 15.0, what: str = "") -> T:
    """Ask again until `condition()` is true, and return what it said; AssertionError after `within` seconds."""
    until = time.monotonic() + within
    while not (answer := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {within:g} s: {what or condition}")
        time.sleep(0.01)
    return answer
