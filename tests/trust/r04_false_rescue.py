"""R04. Jobs of three to ten leases on a machine that is fully busy, some of which hold the GIL: each starts once.

Full size: 1,000 jobs. Two workers watch each other all the while, with leases of 1.6 s; as many processes as there are
processors do nothing but burn.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from tests.trust import checker
from tests.trust.ground import QUICK, Ground
from tests.trust.report import Report
from tests.trust.tasks import holds_the_gil, spins, works, works_async

LEASE = QUICK["DEAD_AFTER"] + 2 * QUICK["HEARTBEAT"]


def row(ground: Ground, report: Report) -> None:
    jobs = ground.size(1000, 18)
    slots = min(30, -(-jobs // 2))
    workers = [ground.worker("--slots", str(slots), jobs=QUICK) for _ in range(2)]
    ground.ready(*workers)
    names = dict(ground.sql("SELECT id, name FROM jobs_worker"))
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        began = time.monotonic()
        longest = 0.0
        for number in range(jobs):
            task = (works, holds_the_gil, works_async, works, holds_the_gil, spins if number % 60 == 5 else works)[
                number % 6
            ]
            seconds = LEASE * ground.rolls.uniform(3, 10 if ground.scale > 0.5 else 4)
            longest = max(longest, seconds)
            task.enqueue(number, seconds)
        ground.settle(60 + longest * (jobs / slots + 2))
        took = time.monotonic() - began
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    starts = ground.evidence.numbers("begins")
    report.figure("jobs", jobs)
    report.figure("lease in seconds", LEASE)
    report.figure("longest job in seconds", longest)
    report.figure("seconds under load", took)
    report.must("started", len(starts), "==", jobs)
    report.must("second starts", checker.extra_effects(ground), "==", 0)
    report.must(
        "workers declared dead",
        len(names.items() - dict(ground.sql("SELECT id, name FROM jobs_worker")).items()),
        "==",
        0,
    )
    report.must("ended badly", checker.not_succeeded(ground), "==", 0)
    report.must("stuck", checker.stuck(ground), "==", 0)
