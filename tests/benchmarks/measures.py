"""Numbers out of samples."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tests.benchmarks.marks import Mark

Figures = dict[str, float | int | None]
"""What a benchmark found: one flat object. None where a figure makes no sense."""

NO_RATE: Figures = {"jobs_per_second": None, "raw_per_second": None, "ratio": None}
"""The three that every benchmark has, of one that times no jobs or has no limit beside it."""


class Wrong(Exception):
    """A run did not complete, or jobs were lost or ran twice: its times mean nothing."""


def percentile(samples: Sequence[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def rate(marks: Sequence[Mark]) -> float:
    """Jobs per second from the first start to the last."""
    if len(marks) < 2:
        raise Wrong(f"{len(marks)} jobs began: too few to time")
    return (len(marks) - 1) / max(1e-9, marks[-1].at - marks[0].at)


def spread(name: str, samples: Sequence[float]) -> Figures:
    """The median under `name`, the extremes beside it."""
    return {
        name: tidy(statistics.median(samples)),
        f"{name}_min": tidy(min(samples)),
        f"{name}_max": tidy(max(samples)),
    }


def compare(ours: Sequence[float], raw: Sequence[float]) -> Figures:
    """The three figures that every benchmark has, from rates."""
    ratio = statistics.median(ours) / statistics.median(raw)
    return {**spread("jobs_per_second", ours), **spread("raw_per_second", raw), "ratio": tidy(ratio)}


def tidy(number: float) -> float:
    """Four digits that count; more would be noise."""
    return float(f"{number:.4g}")
