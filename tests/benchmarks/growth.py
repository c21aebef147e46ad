"""How the cost of a job grows: with the backlog, the history, the slots, the queues, the priorities, its arguments.

Each variation is drained by turns with the plain case; `_of_plain` compares jobs a second. `_cpu_us` is the processor
time for each job, workers and server together, which the neighbours on a machine disturb least, and `_cpu_of_plain`
compares that. The raw loop drains the plain case.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

from tests.benchmarks import fill, meter, programs, tally
from tests.benchmarks.drain import raw_drained
from tests.benchmarks.measures import Figures, compare, rate, spread, tidy
from tests.benchmarks.meter import Cost
from tests.benchmarks.plan import Plan, tell
from tests.benchmarks.server import settle

NEVER = 10**9
K = 1000


class Variation(NamedTuple):
    """What is different from the plain case: one queue, one priority, a small argument, nothing else in the tables."""

    jobs: int = 1
    """Times as many."""
    history: int = 0
    """Finished jobs, times those to run."""
    slots: int = 2
    queues: int = 1
    priorities: int = 1
    every: int = NEVER
    """So many jobs, one with a large argument."""
    letters: int = 0
    """Size of that argument."""


PLAIN = "plain"

VARIATIONS = {
    PLAIN: Variation(),
    "backlog_5_times": Variation(jobs=5),
    "history_50_times": Variation(history=50),
    "slots_1": Variation(slots=1),
    "slots_4": Variation(slots=4),
    "slots_8": Variation(slots=8),
    "queues_10": Variation(queues=10),
    "queues_100": Variation(queues=100),
    "priorities_32": Variation(priorities=32),
    "argument_1_kb": Variation(every=1, letters=K),
    "argument_10_kb": Variation(every=1, letters=10 * K),
    "argument_100_kb_each_100th": Variation(every=100, letters=100 * K),
    "mixed": Variation(queues=100, priorities=32, every=100, letters=100 * K),
}

LARGE = {
    "backlog_50_times": Variation(jobs=50),
    "history_200_times": Variation(history=200),
    "queues_1000": Variation(queues=1000),
}


def run(plan: Plan) -> Figures:
    jobs = plan.choose(full=20_000, quick=5_000, smallest=100)
    few = {name: VARIATIONS[name] for name in (PLAIN, "mixed")}
    variations = plan.choose(full={**VARIATIONS, **(LARGE if plan.large else {})}, quick=VARIATIONS, smallest=few)
    speeds: dict[str, list[float]] = {name: [] for name in variations}
    costs: dict[str, list[Cost]] = {name: [] for name in variations}
    raw = []
    for number in range(plan.rounds):
        raw.append(raw_drained(plan, jobs, "mark")[0])
        for name, variation in variations.items():
            speed, cost = drained(plan, jobs, variation)
            speeds[name].append(speed)
            costs[name].append(cost)
            tell(f"growth {number + 1}: {name} {speed:,.0f}/s, {cost.both:.0f} us of processors a job")
    plain = statistics.median(speeds[PLAIN])
    figures: Figures = {"jobs": jobs, **compare(speeds[PLAIN], raw)}
    for name in variations:
        figures |= spread(f"{name}_per_second", speeds[name])
        figures[f"{name}_of_plain"] = tidy(statistics.median(speeds[name]) / plain)
        figures[f"{name}_cpu_us"] = tidy(statistics.median(cost.both for cost in costs[name]))
    for name in variations:
        cost_of_plain = statistics.median(cost.both for cost in costs[PLAIN])
        figures[f"{name}_cpu_of_plain"] = tidy(
            statistics.median(cost.both for cost in costs[name]) / max(1e-9, cost_of_plain)
        )
    tell(table(figures, list(variations)))
    return figures


def drained(plan: Plan, jobs: int, variation: Variation) -> tuple[float, Cost]:
    """Jobs per second, and what each has cost."""
    jobs, history = jobs * variation.jobs, jobs * variation.history
    queues = ["default", *(f"q{n}" for n in range(1, variation.queues))]
    with plan.server.database() as database:
        if history:
            database.execute(fill.HISTORY, (fill.BALLAST, "succeeded", 10**9, 10**9 + history - 1))
        given = (fill.CARRY, variation.queues, variation.priorities, variation.every, variation.letters, 1, jobs)
        database.execute(fill.MIXED, given)
        settle(database, analyze=True)
        arguments = ("runworkers", "--slots", str(variation.slots), "--burst")
        with programs.manage(database.url, database.folder, *arguments, jobs={"QUEUES": queues}) as workers:
            cost = meter.metered(database, workers, jobs)
            workers.ended()
        return rate(tally.ended_once(database, jobs)), cost


def table(figures: Figures, names: list[str]) -> str:
    """For people, and for the documentation."""
    rows = ["| | jobs a second | of plain | processor time, µs a job |", "| --- | --- | --- | --- |"]
    rows += [
        f"| {name.replace('_', ' ')} | {figures[f'{name}_per_second']:,.0f} | {figures[f'{name}_of_plain']:.2f}"
        f" | {figures[f'{name}_cpu_us']:.0f} |"
        for name in names
    ]
    return "\n".join(rows)
