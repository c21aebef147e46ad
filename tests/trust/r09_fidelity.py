"""R09. Whatever the nesting of atomic blocks, savepoints and rollbacks: the jobs are those of the blocks that survived.

The tests of the outbox's write, with ATOMIC_REQUESTS, two databases, autocommit and transactions by hand; among them a
model of nested blocks, of which 1,000 are drawn at full size. What other connections can see is what counts.
"""

from __future__ import annotations

from tests.trust.ground import Ground
from tests.trust.report import Report
from tests.trust.suite import play

TESTS = ("tests/outbox/test_write.py", "tests/jobs/test_enqueue.py", "tests/jobs/test_enqueue_many.py")


def row(ground: Ground, report: Report) -> None:
    scaled = max(0.02, 7 * ground.scale)
    seed = f"--hypothesis-seed={ground.rolls.randrange(10**6)}"
    done = play(*TESTS, "--hypothesis-show-statistics", seed, env={"TEST_EXAMPLES": str(scaled)})
    report.figure("tests passed", done.passed)
    report.must("examples", done.examples, ">=", round(1000 * min(1.0, ground.scale)))
    report.must("broken", done.failed, "==", 0)
    for broken in done.names:
        report.note(broken)
