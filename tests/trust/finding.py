"""What a soak has found, and whether every promise was kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Finding:
    """What became of all jobs. The names are those of the command's answer."""

    jobs: int
    kills: int
    stops: int
    backends_killed: int
    restarts: int
    lost: int
    atomic_duplicated: int
    atomic_missing: int
    at_most_once_repeated: int
    stale_writes: int
    external_duplicates: int
    in_flight_at_kills: int
    stuck: int
    seconds: float
    seed: int = 0

    @property
    def kept(self) -> bool:
        """Whether every promise was."""
        broken = (
            self.lost, self.atomic_duplicated, self.atomic_missing, self.at_most_once_repeated, self.stale_writes,
            self.stuck,
        )  # fmt: skip
        return not any(broken) and self.external_duplicates <= self.in_flight_at_kills

    def said(self) -> dict[str, Any]:
        return asdict(self)
