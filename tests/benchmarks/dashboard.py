"""S14: how fast the dashboard's pages are with 2,000,000 finished, 200,000 ready and 5,000 dead jobs.

The work is done by `tests/benchmarks_dashboard.py`, in a database of this run. It times pages, not jobs, and has no raw
limit beside it, so the three rates are null.
"""

from __future__ import annotations

import re
import statistics

from tests.benchmarks import programs
from tests.benchmarks.measures import NO_RATE, Figures
from tests.benchmarks.plan import Plan, tell

SIZES = ("finished", "ready", "dead", "times")


def run(plan: Plan) -> Figures:
    sizes = plan.choose(full=(2_000_000, 200_000, 5_000, 30), quick=(50_000, 5_000, 200, 5), smallest=(60, 30, 5, 2))
    options = [word for name, size in zip(SIZES, sizes, strict=True) for word in (f"--{name}", size)]
    with plan.server.database() as database:
        arguments = ("tests.benchmarks_dashboard", "--here", "--json", *options)
        with programs.module(database.url, database.folder, *arguments) as program:
            pages: dict[str, dict[str, float]] = program.answer(within=1200)
    figures: Figures = {
        **NO_RATE,
        "pages": len(pages),
        "p50_ms": statistics.median(page["p50"] for page in pages.values()),
        "p95_ms": max(page["p95"] for page in pages.values()),
        "slowest_query_ms": max(page["slowest_query"] for page in pages.values()),
        **{f"p95_ms_{re.sub('[^a-z0-9]+', '_', name.lower())}": page["p95"] for name, page in pages.items()},
    }
    tell(f"dashboard: {figures}")
    return figures
