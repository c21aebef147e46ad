"""S5, S6: from the commit to the task's first line, at 20 and at 300 jobs a second, with workers that are idle.

Through everything: a transaction with a row of its own and an enqueue, the outbox, the relay, the wake-ups, a slot.
The clock starts when the commit is done, before the library's wake-up. The raw loops wait on LISTEN; their writer
notifies inside its transaction.
"""

from __future__ import annotations

from tests.benchmarks import marks, programs, tally
from tests.benchmarks.measures import Figures, compare, percentile, tidy
from tests.benchmarks.plan import Plan, tell
from tests.benchmarks.programs import Program
from tests.benchmarks.server import Database

WARM_UP = 20


def run(plan: Plan) -> Figures:
    slow = plan.choose(full=200, quick=60, smallest=5)
    fast = plan.choose(full=6000, quick=900, smallest=20)
    ours, raw = measured(plan, slow, fast, raw=False), measured(plan, slow, fast, raw=True)
    figures: Figures = {
        **compare([ours.pop("per_second")], [raw.pop("per_second")]),
        **{name: tidy(figure) for name, figure in ours.items()},
        **{f"raw_{name}": tidy(figure) for name, figure in raw.items()},
    }
    # Here the ratio is one of times: what the limit takes of what we take.
    figures["ratio"] = tidy(raw["p50_at_300"] / ours["p50_at_300"])
    figures["ratio_at_20"] = tidy(raw["p50_at_20"] / ours["p50_at_20"])
    tell(f"latency: {figures}")
    return figures


def measured(plan: Plan, slow: int, fast: int, *, raw: bool) -> dict[str, float]:
    """Milliseconds at both rates, and the rate that the faster writer reached."""
    with plan.server.database() as database:
        if raw:
            workers = programs.module(database.url, database.folder, "raw", "drain", "--processes", 2, "--listen")
        else:
            workers = programs.manage(database.url, database.folder, "runworkers", "--slots", "2")
        with workers as program:
            written(database, program, 20, WARM_UP, 1, raw=raw)
            at_20, _ = written(database, program, 20, slow, WARM_UP + 1, raw=raw)
            at_300, reached = written(database, program, 300, fast, WARM_UP + slow + 1, raw=raw)
            if not raw:
                program.terminate()
                tally.ended_once(database, WARM_UP + slow + fast)
            else:
                tally.ran_once(database, WARM_UP + slow + fast)
    found = {"per_second": reached}
    for rate, times in ((20, at_20), (300, at_300)):
        found |= {f"p50_at_{rate}": percentile(times, 0.5), f"p99_at_{rate}": percentile(times, 0.99)}
    return found


def written(
    database: Database, workers: Program, rate: int, jobs: int, first: int, *, raw: bool
) -> tuple[list[float], float]:
    """Milliseconds of each job from its commit to its start, and how many a second were written."""
    arguments = ("rate", rate, jobs, first, *(["--raw"] if raw else []))
    with programs.module(database.url, database.folder, "writer", *arguments) as writer:
        answer = writer.answer()
    expected = first + jobs - 1
    workers.wait_for(lambda: marks.count(database.folder) >= expected, within=60, what=f"job {expected}")
    committed = {int(index): at for index, at in answer["committed"].items()}
    began = {mark.index: mark.at for mark in marks.read(database.folder)}
    return [(began[index] - at) * 1000 for index, at in committed.items()], answer["per_second"]
