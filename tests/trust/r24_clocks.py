"""R24. Workers whose clock is an hour ahead or two days behind, beside one that is right: nothing early, nobody buried.

Full size: 200 jobs due within 20 s and 200 that run meanwhile. Debian's faketime stands around the whole worker.
"""

from __future__ import annotations

import time
from datetime import timedelta

from tests.trust import checker
from tests.trust.ground import QUICK, Ground
from tests.trust.report import Report
from tests.trust.rows import find
from tests.trust.tasks import works

CLOCKS = ("+1h", "-2d")


def row(ground: Ground, report: Report) -> None:
    later, now, span = ground.size(200, 20), ground.size(200, 20), max(3.0, 20 * ground.scale)
    # With the monotonic clock as it is, which is what a host with a wrong clock has.
    fake = [(find("faketime") or "faketime", "--exclude-monotonic", "-f", clock) for clock in CLOCKS]
    workers = [ground.worker("--slots", "2", jobs=QUICK, prefix=prefix) for prefix in fake]
    workers.append(ground.worker("--slots", "1", jobs=QUICK))
    ground.wait(
        lambda: ground.value("SELECT count(*) FROM jobs_worker") == 3, 30, lambda: "".join(w.said() for w in workers)
    )
    names = {number for (number,) in ground.sql("SELECT id FROM jobs_worker")}
    due: dict[int, float] = {}
    for number in range(later):
        wait = ground.rolls.uniform(1, span)
        works.using(delay=timedelta(seconds=wait)).enqueue(number)
        due[number] = time.monotonic() + wait
    length = 0.0
    for number in range(now):
        seconds = ground.rolls.uniform(0.5, 2) * (1 if ground.scale < 0.5 else 3)
        works.enqueue(10_000 + number, seconds)
        length += seconds
    ground.settle(60 + span + length / 2)  # there are five slots

    starts = {line.number: line.at for line in ground.evidence.said("begins")}
    early = [due[number] - starts[number] for number in due if number in starts]
    late = [starts[number] - due[number] for number in due if number in starts]
    pids = {line.pid for line in ground.evidence.said("begins")}
    hours = "SELECT max(abs(extract(epoch FROM ended_at - clock_timestamp())))::float8 FROM jobs_finishedjob"
    report.figure("jobs due later", later)
    report.figure("jobs beside them", now)
    report.figure("processes that ran some", len(pids))
    report.must("started", len(starts), "==", later + now)
    report.must("early by more than 50 ms", sum(seconds > 0.05 for seconds in early), "==", 0)
    report.figure("late: seconds max", max(late, default=0.0))
    report.must("second starts", checker.extra_effects(ground), "==", 0)
    report.must("workers declared dead", len(names - {n for (n,) in ground.sql("SELECT id FROM jobs_worker")}), "==", 0)
    report.must("seconds that a time in the history is off", ground.value(hours), "<=", 120.0 + span + length / 2)
    report.must("ended badly", checker.not_succeeded(ground), "==", 0)
