"""The soak with numbers of your own: jobs of every kind, an enemy with a seed, and what became of each job.

    uv run python -m tests.chaos --jobs 10000 --kills 100 [--seed 7] [--minutes 10] [--json]

It ends with 1 unless nothing is lost, stuck or stale, atomic effects are there exactly once, nothing that is
at_most_once ran again, and no more started again than was in flight at the faults. Row R01 of the scorecard is the
same with its own numbers.
"""

from __future__ import annotations

import argparse
import json
import random
import sys


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs to commit (default: 10000)")
    parser.add_argument("--kills", type=int, default=100, help="kills of children; other faults by their share")
    parser.add_argument("--seed", type=int, help="repeats what the dice said (default: a new one, printed)")
    parser.add_argument("--minutes", type=float, default=10.0, help="what has not ended by then is stuck")
    parser.add_argument("--json", action="store_true", help="one flat JSON object")
    given = parser.parse_args()
    from tests.trust.ground import ground

    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    if not given.json:
        print(f"seed {seed}", flush=True)
    with ground("chaos", 1.0, seed, own_server={}) as place:
        from tests.trust.soak import Soak

        found = Soak(place).play(max(1, given.jobs), max(1, given.kills), given.minutes)
    found.seed = seed
    if given.json:
        print(json.dumps(found.said()))
    else:
        print("\n".join(f"{name:<22} {value:>10}" for name, value in found.said().items()))
        print("kept" if found.kept else "BROKEN")
    return 0 if found.kept else 1


if __name__ == "__main__":
    sys.exit(main())
