"""S1, S2, S3: how fast a backlog of jobs that do nothing is worked off, history kept, by two slots.

As users run it: `manage.py runworkers`, and the jobs stand in the queue. Timed from the first job's start to the last.
The raw loop has two processes as well. It ends a job in its row (`raw_per_second`, the ratio is against that) or moves
it to a history table (`archive_per_second`).
"""

from __future__ import annotations

import statistics

from tests.benchmarks import fill, marks, meter, programs, tally
from tests.benchmarks.measures import Figures, Wrong, compare, rate, spread, tidy
from tests.benchmarks.meter import Cost
from tests.benchmarks.plan import Plan, tell
from tests.benchmarks.server import Database, settle

SLOTS = 2


def run(plan: Plan) -> Figures:
    jobs = plan.choose(full=20_000, quick=20_000, smallest=200)
    ours, unanalyzed, raw, archive, costs, raw_costs = [], [], [], [], [], []
    for number in range(plan.rounds):
        speed, cost = drained(plan, jobs, analyze=True)
        ours.append(speed)
        costs.append(cost)
        speed, cost = raw_drained(plan, jobs, "mark")
        raw.append(speed)
        raw_costs.append(cost)
        unanalyzed.append(drained(plan, jobs, analyze=False)[0])
        archive.append(raw_drained(plan, jobs, "archive")[0])
        tell(f"drain {number + 1}: {ours[-1]:,.0f}/s, never analysed {unanalyzed[-1]:,.0f}, raw {raw[-1]:,.0f}/s")
        tell(f"  microseconds a job: {costs[-1]}, raw {raw_costs[-1]}")
    figures = {
        "jobs": jobs,
        **compare(ours, raw),
        **meter.figures(costs, raw_costs),
        **spread("unanalyzed_per_second", unanalyzed),
        "unanalyzed_of_analyzed": tidy(statistics.median(unanalyzed) / statistics.median(ours)),
        **spread("archive_per_second", archive),
        "archive_ratio": tidy(statistics.median(ours) / statistics.median(archive)),
    }
    if plan.large:
        figures |= large(plan, statistics.median(ours) / statistics.median(raw))
    return figures


def large(plan: Plan, ratio: float) -> Figures:
    """S3: the same in front of a million that wait and behind two million that are done."""
    jobs = plan.choose(full=200_000, quick=20_000, smallest=200)
    behind, history = 5 * jobs, 10 * jobs
    ours, raw = [], []
    for number in range(plan.rounds):
        ours.append(drained(plan, jobs, analyze=True, behind=behind, history=history)[0])
        raw.append(raw_drained(plan, jobs, "mark", behind=behind, history=history)[0])
        tell(f"drain {jobs:,} of {jobs + behind:,}, {number + 1}: {ours[-1]:,.0f}/s, raw {raw[-1]:,.0f}/s")
    figures = {f"large_{name}": figure for name, figure in compare(ours, raw).items()}
    return {
        "large_jobs": jobs,
        **figures,
        "large_of_small": tidy(statistics.median(ours) / statistics.median(raw) / ratio),
        **whole(plan, behind),
    }


def whole(plan: Plan, jobs: int) -> Figures:
    """A backlog of a million to its end, analysed and never analysed."""
    analyzed, never = [], []
    for number in range(plan.rounds):
        analyzed.append(drained(plan, jobs, analyze=True)[0])
        never.append(drained(plan, jobs, analyze=False)[0])
        tell(f"drain all of {jobs:,}, {number + 1}: {analyzed[-1]:,.0f}/s, never analysed {never[-1]:,.0f}/s")
    return {
        "backlog_jobs": jobs,
        **spread("backlog_per_second", analyzed),
        **spread("backlog_unanalyzed_per_second", never),
        "backlog_unanalyzed_of_analyzed": tidy(statistics.median(never) / statistics.median(analyzed)),
    }


def drained(plan: Plan, jobs: int, *, analyze: bool, behind: int = 0, history: int = 0) -> tuple[float, Cost]:
    """Our jobs per second, and what each has cost."""
    with plan.server.database() as database:
        if history:
            database.execute(fill.HISTORY, (fill.BALLAST, "succeeded", 10**9, 10**9 + history - 1))
        database.execute(fill.JOBS, (fill.TASK, "ready", 1, jobs + behind))
        settle(database, analyze=analyze)
        if behind:
            return _drained_in_part(database, jobs)
        arguments = ("runworkers", "--slots", str(SLOTS), "--burst")
        with programs.manage(database.url, database.folder, *arguments) as workers:
            cost = meter.metered(database, workers, jobs)
            workers.ended()
        return rate(tally.ended_once(database, jobs)), cost


def _drained_in_part(database: Database, jobs: int) -> tuple[float, Cost]:
    """Work off the first `jobs`, then stop; whatever began by then has to have ended once."""
    with programs.manage(database.url, database.folder, "runworkers", "--slots", str(SLOTS)) as workers:
        cost = meter.metered(database, workers, jobs)
        workers.terminate()
    found = marks.read(database.folder)
    ((ended, well),) = database.execute(tally.ENDED)
    if not ended == well == len(found) == len({mark.index for mark in found}):
        raise Wrong(f"{len(found)} jobs began, {ended} are in the history, {well} of them succeeded at once")
    return rate(found[:jobs]), cost


def raw_drained(plan: Plan, jobs: int, finish: str, *, behind: int = 0, history: int = 0) -> tuple[float, Cost]:
    """The raw loop's."""
    with plan.server.database() as database:
        if history and finish == "mark":
            database.execute(fill.RAW_JOBS, (2, 10**9, 10**9 + history - 1))
        elif history:
            database.execute(fill.RAW_HISTORY, (1, history))
        database.execute(fill.RAW_JOBS, (0, 1, jobs + behind))
        settle(database, analyze=True)
        most = jobs // SLOTS if behind else 10**9
        arguments = ("drain", finish, "--processes", SLOTS, "--most", most)
        with programs.module(database.url, database.folder, "raw", *arguments) as loop:
            cost = meter.metered(database, loop, jobs)
            loop.ended()
        found = marks.read(database.folder) if behind else tally.raw_ended_once(database, jobs)
        return rate(found[:jobs]), cost
