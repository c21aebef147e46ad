"""S13: `async def` jobs that sleep 10 ms, a hundred at once on one slot. The ideal is 10,000 a second.

The raw loop is one process with one event loop that sleeps beside its claims.
"""

from __future__ import annotations

from tests.benchmarks import fill, marks, programs, tally
from tests.benchmarks.measures import Figures, compare, rate, tidy
from tests.benchmarks.plan import Plan, tell
from tests.benchmarks.server import settle

PLACES = 100
IDEAL = PLACES / marks.NAP


def run(plan: Plan) -> Figures:
    jobs = plan.choose(full=10_000, quick=5_000, smallest=200)
    ours, raw = [], []
    for number in range(plan.rounds):
        ours.append(napped(plan, jobs))
        raw.append(raw_napped(plan, jobs))
        tell(f"async {number + 1}: {ours[-1]:,.0f}/s, raw {raw[-1]:,.0f}/s, ideal {IDEAL:,.0f}/s")
    figures = compare(ours, raw)
    return {"jobs": jobs, **figures, "ratio_of_ideal": tidy(float(figures["jobs_per_second"]) / IDEAL)}


def napped(plan: Plan, jobs: int) -> float:
    with plan.server.database() as database:
        database.execute(fill.JOBS, (fill.NAP, "ready", 1, jobs))
        settle(database, analyze=True)
        settings = {"ASYNC_CONCURRENCY": PLACES}
        arguments = ("runworkers", "--slots", "1", "--burst")
        with programs.manage(database.url, database.folder, *arguments, jobs=settings) as workers:
            workers.ended()
        return rate(tally.ended_once(database, jobs))


def raw_napped(plan: Plan, jobs: int) -> float:
    with plan.server.database() as database:
        database.execute(fill.RAW_JOBS, (0, 1, jobs))
        settle(database, analyze=True)
        with programs.module(database.url, database.folder, "raw", "nap") as loop:
            loop.ended()
        return rate(tally.raw_ended_once(database, jobs))
