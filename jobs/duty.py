"""What a worker is there for: said once on the command line, true for all of its children; and when its turn is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Duty:
    """What this worker was started for."""

    queues: tuple[str, ...] | None
    """Queue names it serves; None is any."""
    described: str
    slots: int
    relays: bool
    burst: bool


TURN, LAST_TURN = 0.003, 0.05
"""Seconds for each elder worker, and at most."""


def turn(elders: int) -> float:
    """Seconds to wait after a call that every worker has heard: one is to come, not all at once.

    Whoever has been there longest comes at once, the others where he has left something. A worker that stands still
    costs the next one 3 ms.
    """
    return min(elders * TURN, LAST_TURN)
