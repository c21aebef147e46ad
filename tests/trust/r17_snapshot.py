"""R17. A snapshot is held open behind which nothing can be vacuumed, at 200 jobs a second: the claim stays quick.

It is the benchmark `held-snapshot`, judged. Full size: 180 s, with 20,000 jobs drained before and under the snapshot.
"""

from __future__ import annotations

from tests.benchmarks.held_snapshot import PER_SECOND, held
from tests.benchmarks.plan import Plan
from tests.benchmarks.server import serving
from tests.trust.ground import Ground
from tests.trust.report import Report, percentile


def row(ground: Ground, report: Report) -> None:
    seconds, batch = max(8.0, 180 * ground.scale), ground.size(20_000, 2000)
    with serving() as server:
        found = held(Plan(server), seconds, batch, raw=False)
    took = [1000 * second for second in found["took"]]
    report.figure("seconds under the snapshot", seconds)
    report.figure("jobs a second meanwhile", PER_SECOND)
    report.figure("claim p50 in ms", percentile(took, 0.5))
    report.must("claim p99 in ms", percentile(took, 0.99), "<=", 50.0)
    report.must("seconds until the backlog is gone", found["gone"], "<=", 60.0)
    report.figure("a batch drained, jobs a second: before", found["before"])
    report.figure("a batch drained, jobs a second: under it", found["under"])
    report.must("hot table, times its size before", found["grown"], "<=", 5.0)
