"""What happened over time, from `jobs_stat`: throughput, failures, waits and run times, and when versions changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jobs.dashboard.look import Found, rows
from jobs.histogram import merged, percentile, total

RANGES: dict[str, tuple[int, int]] = {
    "1h": (3600, 60),
    "6h": (6 * 3600, 300),
    "24h": (86_400, 900),
    "7d": (7 * 86_400, 7200),
    "30d": (30 * 86_400, 21_600),
}
"""Seconds back from now, and seconds that one point of a plot stands for."""

FAILED = ("retrying", "dead", "crashed")

# Summed here as far as SQL can; histograms are text and are added in Python, which is why rows are grouped no further.
COUNTS = """SELECT floor(extract(epoch FROM at) / %(step)s)::bigint * %(step)s AS t, task, outcome, version,
  sum(count)::bigint AS n, sum(ran)::float8 AS ran, string_agg(waits, ' ') AS waits, string_agg(runs, ' ') AS runs
FROM jobs_stat WHERE at > clock_timestamp() - %(back)s * interval '1 second'
  AND (%(queue)s = '' OR queue = %(queue)s) AND (%(task)s = '' OR task = %(task)s)
GROUP BY 1, 2, 3, 4 ORDER BY 1 LIMIT 40000"""

NOW = "SELECT extract(epoch FROM clock_timestamp())::float8 AS t"

RATES = """SELECT queue, (sum(count) / 300.0)::float8 AS rate,
  sum(count) FILTER (WHERE outcome IN ('retrying', 'dead', 'crashed'))::bigint AS failed, sum(count)::bigint AS n
FROM jobs_stat WHERE at > clock_timestamp() - interval '5 minutes' AND outcome <> 'stale' GROUP BY queue"""


@dataclass
class Sums:
    """Counts and histograms of some rows."""

    succeeded: int = 0
    failed: int = 0
    dead: int = 0
    ran: float = 0.0
    texts: list[tuple[str, str]] = field(default_factory=list)
    """Packed histograms of the waits and the run times."""

    def take(self, row: Found) -> None:
        # By key and not by attribute: this runs tens of thousands of times for one page.
        outcome, n = row["outcome"], row["n"]
        if outcome == "succeeded":
            self.succeeded += n
        elif outcome in FAILED:
            self.failed += n
            self.dead += n if outcome == "dead" else 0
        self.ran += row["ran"]
        self.texts.append((row["waits"], row["runs"]))

    @cached_property
    def waits(self) -> list[int]:
        return merged(text for text, _ in self.texts)

    @cached_property
    def runs(self) -> list[int]:
        return merged(text for _, text in self.texts)

    @property
    def total(self) -> int:
        return self.succeeded + self.failed

    @property
    def failure_share(self) -> float:
        return self.failed / self.total if self.total else 0.0

    @property
    def wait_half(self) -> float | None:
        return percentile(self.waits, 0.5)

    @property
    def wait_most(self) -> float | None:
        return percentile(self.waits, 0.95)

    @property
    def run_half(self) -> float | None:
        return percentile(self.runs, 0.5)

    @property
    def run_most(self) -> float | None:
        return percentile(self.runs, 0.95)


@dataclass(frozen=True)
class Trends:
    """A range of time."""

    step: int
    whole: Sums
    tasks: list[tuple[str, Sums]]
    """The busiest first."""
    plots: dict[str, Any]
    """What the two plots are drawn from."""


def trends(span: str, queue: str = "", task: str = "") -> Trends:
    """Everything about a range such as "1h", of one queue or one task if given."""
    back, step = RANGES[span]
    found = rows(COUNTS, {"step": step, "back": back, "queue": queue, "task": task})
    (now,) = rows(NOW)
    last = int(now.t // step) * step
    points = {t: Sums() for t in range(last - back, last + 1, step)}
    whole = Sums()
    tasks: dict[str, Sums] = {}
    for row in found:
        if (of_task := tasks.get(row["task"])) is None:
            of_task = tasks[row["task"]] = Sums()
        for sums in (whole, of_task, points.get(row["t"])):
            if sums is not None:
                sums.take(row)
    whole.waits = total(each.waits for each in points.values())
    whole.runs = total(each.runs for each in points.values())
    busiest = sorted(tasks.items(), key=lambda entry: (-entry[1].total, entry[0]))
    return Trends(step, whole, busiest, _plots(points, step, _marks(found)))


def _plots(points: dict[int, Sums], step: int, marks: list[tuple[int, str]]) -> dict[str, Any]:
    times, sums = list(points)[1:], list(points.values())[1:]  # the first began before the range
    return {
        "t": times,
        "step": step,
        "succeeded": [each.succeeded for each in sums],
        "failed": [each.failed for each in sums],
        "wait50": [_rounded(each.wait_half) for each in sums],
        "wait95": [_rounded(each.wait_most) for each in sums],
        "run50": [_rounded(each.run_half) for each in sums],
        "run95": [_rounded(each.run_most) for each in sums],
        "marks": marks,
    }


def _marks(found: list[Found]) -> list[tuple[int, str]]:
    """When each version was first seen, but for the one that was there from the start."""
    first: dict[str, int] = {}
    for row in found:
        if row["version"]:
            first.setdefault(row["version"], row["t"])
    return [(t, version) for version, t in list(first.items())[1:]]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else float(f"{seconds:.3g}")


def rates() -> dict[str, Found]:
    """Jobs a second of the last five minutes, by queue."""
    return {row.queue: row for row in rows(RATES)}
