"""Whether the processes of a worker grow while they work: private memory of each over 200,000 jobs, relayed and run.

The first part is not looked at: until then caches fill and code is loaded. It times memory, not jobs, and has no raw
limit beside it: the two rates of the limit are null.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks import fill, marks, programs, tally
from tests.benchmarks.measures import NO_RATE, Figures, rate, tidy
from tests.benchmarks.plan import Plan, tell
from tests.benchmarks.programs import Program
from tests.benchmarks.server import Database

PARTS = 10
WARM = 2
"""Parts before the first look."""


def run(plan: Plan) -> Figures:
    jobs = plan.choose(full=200_000, quick=20_000, smallest=200)
    with plan.server.database() as database:
        with programs.manage(database.url, database.folder, "runworkers", "--slots", "2") as workers:
            looks = list(worked(database, workers, jobs // PARTS))
            workers.terminate()
        speed = rate(tally.ended_once(database, PARTS * (jobs // PARTS)))
    first, last = looks[WARM - 1], looks[-1]
    grown = {name: last[name] - first[name] for name in first}
    figures: Figures = {**NO_RATE, "jobs_per_second": tidy(speed), "jobs": jobs}
    for name in sorted(first):
        key = name.replace("-", "_")
        figures |= {f"{key}_megabytes": tidy(last[name]), f"{key}_grown_megabytes": tidy(max(0.0, grown[name]))}
    figures["grown_megabytes"] = tidy(max(0.0, *grown.values()))
    tell(f"memory: {figures}")
    return figures


def worked(database: Database, workers: Program, part: int) -> Iterator[dict[str, float]]:
    """One part after the other; the megabytes of each process after it."""
    for number in range(PARTS):
        database.execute(fill.MESSAGES, (fill.TASK, number * part + 1, (number + 1) * part))
        done = (number + 1) * part
        workers.wait_for(lambda done=done: marks.count(database.folder) >= done, within=120, what=f"{done} jobs")
        workers.wait_for(lambda: database.execute(tally.LEFT)[0] == (0, 0, 0), within=30, what="their outcomes")
        known = {"supervisor": workers.pid, **programs.titles(workers)}
        yield {name: programs.private_megabytes(pid) for name, pid in known.items()}
