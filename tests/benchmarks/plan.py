"""How large a run is to be, and where."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TypeVar

from tests.benchmarks.server import Server

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """`full` is what figures are published from, `quick` the gate, `smallest` a test of the benchmark itself."""

    server: Server
    size: str = "full"
    large: bool = False
    """Also the sizes that take many minutes and gigabytes."""

    @property
    def rounds(self) -> int:
        return 3 if self.size == "full" else 1

    def choose(self, *, full: T, quick: T, smallest: T) -> T:
        return {"full": full, "quick": quick, "smallest": smallest}[self.size]


def tell(line: str) -> None:
    """Progress, beside the answer."""
    print(line, file=sys.stderr, flush=True)
