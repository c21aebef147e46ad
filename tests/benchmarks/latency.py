"""S5, S6: from the commit to the task's first line, at 20 and at 300 jobs a second, with workers that are idle.

Through everything: a transaction with a row of its own and an enqueue, the outbox, the relay, the wake-ups, a slot.
The clock starts when the commit is done, before the library's wake-up. The raw loops wait on LISTEN; their writer
notifies inside its transaction.
"""

from __future__ import annotations

from tests.benchmarks import marks, programs, tally
from tests.benchmarks.measures import Figures, compare, percentile, tidy
from tests.benchmarks.plan import Plan, tell


def run(plan: Plan) -> Figures:
    warm_up = plan.choose(full=20, quick=20, smallest=2)
    slow = plan.choose(full=200, quick=60, smallest=5)
    fast = plan.choose(full=6000, quick=900, smallest=20)
    ours, raw = measured(plan, warm_up, slow, fast, raw=False), measured(plan, warm_up, slow, fast, raw=True)
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


def measured(plan: Plan, warm_up: int, slow: int, fast: int, *, raw: bool) -> dict[str, float]:
    """Milliseconds at both rates, and the rate that the faster writer reached."""
    jobs = warm_up + slow + fast
    phases = (20, warm_up, 20, slow, 300, fast)
    with plan.server.database() as database:
        if raw:
            workers = programs.module(database.url, database.folder, "raw", "drain", "--processes", 2, "--listen")
        else:
            workers = programs.manage(database.url, database.folder, "runworkers", "--slots", "2")
        arguments = ("rate", *phases, *(["--raw"] if raw else []))
        with workers as program:
            with programs.module(database.url, database.folder, "writer", *arguments) as writer:
                answer = writer.answer()
            program.wait_for(lambda: marks.count(database.folder) >= jobs, within=60, what=f"{jobs} jobs")
            if not raw:
                program.terminate()
        began = tally.ran_once(database, jobs) if raw else tally.ended_once(database, jobs)
    waited = {mark.index: 1000 * (mark.at - answer["committed"][str(mark.index)]) for mark in began}
    found = {"per_second": answer["per_second"]}
    for rate, first, number in ((20, warm_up + 1, slow), (300, warm_up + slow + 1, fast)):
        times = [waited[index] for index in range(first, first + number)]
        found |= {f"p50_at_{rate}": percentile(times, 0.5), f"p99_at_{rate}": percentile(times, 0.99)}
    return found
