"""`python -m tests.benchmarks NAME [--json] [--quick] [--large]`: run one benchmark, or `all`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable

from tests.benchmarks import (
    async_jobs,
    dashboard,
    drain,
    enqueue,
    growth,
    head_of_line,
    held_snapshot,
    idle,
    latency,
    memory,
    relay,
    targets,
)
from tests.benchmarks.measures import Figures, Wrong
from tests.benchmarks.plan import Plan, tell
from tests.benchmarks.server import serving

BENCHMARKS: dict[str, Callable[[Plan], Figures]] = {
    "drain": drain.run,
    "relay": relay.run,
    "latency": latency.run,
    "enqueue": enqueue.run,
    "held-snapshot": held_snapshot.run,
    "head-of-line": head_of_line.run,
    "idle": idle.run,
    "async": async_jobs.run,
    "dashboard": dashboard.run,
    "memory": memory.run,
    "growth": growth.run,
}

NOT_IN_THE_GATE = ("dashboard", "memory", "growth")
"""Left out of `all --quick`: they take long, and other tests watch over them."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--json", action="store_true", help="Print one flat JSON object.")
    parser.add_argument("--quick", action="store_true", help="One small round; ends with 1 where a ratio has fallen.")
    parser.add_argument("--large", action="store_true", help="Also what takes many minutes and gigabytes.")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that nothing is left running
    names = [given.name]
    if given.name == "all":
        names = [name for name in BENCHMARKS if not (given.quick and name in NOT_IN_THE_GATE)]
    try:
        found = measure(names, quick=given.quick, large=given.large)
        judged = targets.lines(found, quick=given.quick)
        if fallen := {line.target.benchmark for line in judged if line.verdict == targets.FALLEN}:
            tell(f"fallen, so measured again: {', '.join(sorted(fallen))}")
            found |= measure(sorted(fallen), quick=given.quick, large=given.large)
            judged = targets.lines(found, quick=given.quick)
    except Wrong as error:
        print(f"The run is worth nothing: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(flat(found)))
    else:
        print(report(found, judged, whole=given.name == "all"))
    return 1 if targets.closed(judged) else 0


def measure(names: list[str], *, quick: bool, large: bool) -> dict[str, Figures]:
    found = {}
    with serving() as server:
        for name in names:
            began = time.monotonic()
            found[name] = BENCHMARKS[name](Plan(server, "quick" if quick else "full", large))
            tell(f"{name}: {time.monotonic() - began:.0f} s")
    return found


def flat(found: dict[str, Figures]) -> Figures:
    """One benchmark's figures as they are; of several, under their names, and the drain's three as everybody's."""
    if len(found) == 1:
        return next(iter(found.values()))
    everything = {
        f"{name}_{key}".replace("-", "_"): figure for name, figures in found.items() for key, figure in figures.items()
    }
    return {key: found["drain"][key] for key in ("jobs_per_second", "raw_per_second", "ratio")} | everything


def report(found: dict[str, Figures], judged: list[targets.Line], *, whole: bool) -> str:
    if whole:
        return targets.table(judged)
    return "\n".join(
        [
            *(f"{key}: {'-' if figure is None else f'{figure:,}'}" for key, figure in flat(found).items()),
            "",
            targets.table(judged),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
