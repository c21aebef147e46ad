"""S11, S12: what workers cost that have nothing to do, and what one more slot costs in memory.

Eight slots first run some jobs, so that everything is loaded, then nothing for a while: processor time of the whole
process tree, statements as they go over the wire. At the end a batch of jobs comes, for them and for as many raw loops.
"""

from __future__ import annotations

import statistics
import time

from tests.benchmarks import programs, tally
from tests.benchmarks.held_snapshot import began
from tests.benchmarks.measures import Figures, compare, tidy
from tests.benchmarks.plan import Plan, tell
from tests.benchmarks.wire import counted

SLOTS = 8


def run(plan: Plan) -> Figures:
    seconds = plan.choose(full=60.0, quick=8.0, smallest=1.0)
    calm = plan.choose(full=3.0, quick=2.0, smallest=0.2)  # the workers may still look around
    jobs = plan.choose(full=20_000, quick=5_000, smallest=100)
    figures, ours = rested(plan, calm, seconds, jobs)
    figures = {"slots": SLOTS, "seconds": seconds, **compare([ours], [raw_rested(plan, jobs)]), **figures}
    tell(f"idle: {figures}")
    return figures


def rested(plan: Plan, calm: float, seconds: float, jobs: int) -> tuple[Figures, float]:
    with plan.server.database() as database, counted(database.url) as door:
        arguments = ("runworkers", "--slots", str(SLOTS))
        with programs.manage(door.url, database.folder, *arguments) as workers:
            began(database, workers, 1, jobs, raw=False)
            time.sleep(calm)
            tree = workers.tree()
            statements, used, since = door.statements, programs.cpu_seconds(tree), time.monotonic()
            time.sleep(seconds)
            took = time.monotonic() - since
            statements, used = door.statements - statements, programs.cpu_seconds(tree) - used
            slots = [pid for title, pid in programs.titles(workers).items() if title.startswith("slot")]
            memory = [programs.private_megabytes(pid) for pid in slots]
            ours = began(database, workers, jobs + 1, jobs, raw=False)
            workers.terminate()
        tally.ended_once(database, 2 * jobs)
    return {
        "cpu_percent": tidy(100 * used / took),
        "statements_per_second": tidy(statements / took),
        "slot_megabytes": tidy(statistics.median(memory)),
        "slot_megabytes_max": tidy(max(memory)),
    }, ours


def raw_rested(plan: Plan, jobs: int) -> float:
    with plan.server.database() as database:
        arguments = ("drain", "--processes", SLOTS, "--listen")
        with programs.module(database.url, database.folder, "raw", *arguments) as loop:
            began(database, loop, 1, 100, raw=True)
            rate = began(database, loop, 101, jobs, raw=True)
        tally.ran_once(database, 100 + jobs)
    return rate
