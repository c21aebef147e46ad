"""What was declared before any model could be loaded, and is made up for when the apps are ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

early: list[Callable[[], Any]] = []


def catch_up() -> None:
    """Declare it now."""
    while early:
        early.pop(0)()
