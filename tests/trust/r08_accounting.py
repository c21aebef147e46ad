"""R08. Any sequence of outcomes: no more starts than the caps allow, and an end is always reached.

The property tests of the ordinary suite with twenty times their examples: over what follows from what happened, which
is pure (2,000 examples each at full size), and over sequences of verbs by honest workers and zombies on real rows.
"""

from __future__ import annotations

from tests.support.examples import many
from tests.trust.ground import Ground
from tests.trust.report import Report
from tests.trust.suite import play

PURE = ("tests/jobs/test_outcome.py", "-k", "sequence or end_is_always or spend_nothing or counts_never")
ON_ROWS = ("tests/test_invariants.py", "tests/test_model.py")


def row(ground: Ground, report: Report) -> None:
    seed = f"--hypothesis-seed={ground.rolls.randrange(10**6)}"
    for name, tests, times in (("pure", PURE, 20), ("on rows", ON_ROWS, 4)):
        scaled = max(0.02, times * ground.scale)
        done = play(*tests, "--hypothesis-show-statistics", seed, env={"TEST_EXAMPLES": str(scaled)})
        if tests is PURE:
            report.must(f"examples of four properties, {name}", done.examples, ">=", round(8000 * ground.scale))
        else:
            report.figure(f"sequences of 30 verbs, {name}", many(50, scaled))
        report.must(f"broken, {name}", done.failed, "==", 0)
        report.must(f"properties, {name}", done.passed, ">=", 1)
        for broken in done.names:
            report.note(broken)
