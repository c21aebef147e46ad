"""S10: whether rows that cannot run yet stand in the way of those that can.

The claim is timed on a queue with nothing else in it, and on one behind rows that are scheduled or wait for a retry,
with dead ones in the history; the tables are bulk-filled and never analysed. Then the ready jobs are drained, ours and
by the raw loop past as many rows of its own.
"""

from __future__ import annotations

from tests.benchmarks import fill, programs, tally
from tests.benchmarks.drain import SLOTS
from tests.benchmarks.measures import Figures, compare, percentile, rate, tidy
from tests.benchmarks.plan import Plan, tell
from tests.benchmarks.server import Database, settle

CLAIMED_AT_ONCE = 10


def run(plan: Plan) -> Figures:
    rows = plan.choose(full=10_000_000 if plan.large else 1_000_000, quick=200_000, smallest=200)
    jobs = plan.choose(full=20_000, quick=5_000, smallest=200)
    seconds = plan.choose(full=10.0, quick=3.0, smallest=0.2)
    empty = probed_alone(plan, jobs, seconds)
    ours, behind = drained(plan, jobs, rows, seconds)
    raw = raw_drained(plan, jobs, rows)
    figures: Figures = {
        "jobs": jobs,
        "rows_in_front": rows,
        **compare([ours], [raw]),
        **percentiles("claim", behind),
        **percentiles("empty_claim", empty),
        "claim_times_empty": tidy(percentile(behind, 0.99) / percentile(empty, 0.99)),
        "claim_p50_times_empty": tidy(percentile(behind, 0.5) / percentile(empty, 0.5)),
    }
    tell(f"head-of-line: {figures}")
    return figures


def probed_alone(plan: Plan, jobs: int, seconds: float) -> list[float]:
    """Seconds of each claim where nothing else is."""
    with plan.server.database() as database:
        database.execute(fill.JOBS, (fill.TASK, "ready", 1, jobs))
        settle(database, analyze=False)
        return probed(database, seconds)


def probed(database: Database, seconds: float) -> list[float]:
    with programs.module(database.url, database.folder, "prober", seconds, 100, CLAIMED_AT_ONCE) as prober:
        took: list[float] = prober.answer()
    return took


def drained(plan: Plan, jobs: int, rows: int, seconds: float) -> tuple[float, list[float]]:
    """Jobs per second, and the seconds of each claim before."""
    with plan.server.database() as database:
        third = rows // 3
        database.execute(fill.JOBS, (fill.BALLAST, "scheduled", 10**9, 10**9 + third - 1))
        database.execute(fill.JOBS, (fill.BALLAST, "retrying", 2 * 10**9, 2 * 10**9 + third - 1))
        database.execute(fill.HISTORY, (fill.BALLAST, "dead", 3 * 10**9, 3 * 10**9 + rows - 2 * third - 1))
        database.execute(fill.JOBS, (fill.TASK, "ready", 1, jobs))
        settle(database, analyze=False)
        took = probed(database, seconds)
        arguments = ("runworkers", "--slots", str(SLOTS), "--burst")
        with programs.manage(database.url, database.folder, *arguments) as workers:
            workers.ended()
        return rate(tally.ended_once(database, jobs)), took


def raw_drained(plan: Plan, jobs: int, rows: int) -> float:
    with plan.server.database() as database:
        database.execute(fill.RAW_JOBS, (3, 10**9, 10**9 + rows - 1))
        database.execute(fill.RAW_JOBS, (0, 1, jobs))
        settle(database, analyze=False)
        with programs.module(database.url, database.folder, "raw", "drain", "--processes", SLOTS) as loop:
            loop.ended()
        return rate(tally.raw_ended_once(database, jobs))


def percentiles(name: str, took: list[float]) -> Figures:
    return {f"{name}_p50_ms": tidy(1000 * percentile(took, 0.5)), f"{name}_p99_ms": tidy(1000 * percentile(took, 0.99))}
