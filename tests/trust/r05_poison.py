"""R05. Jobs that kill their process among good ones: each is dead after exactly three crashes, the good ones run once.

Full size: 5,000 good jobs and five pills of each kind. One more kind eats memory up to a limit that was set on the
whole worker: that is an error like any other, and the process lives.
"""

from __future__ import annotations

import time
from collections import Counter

from tests.trust import checker
from tests.trust.ground import Ground
from tests.trust.report import Report
from tests.trust.tasks import eats_memory, poison, works

KINDS = ("kill", "segfault", "exit", "abort", "memory", "fork bomb")
LIMIT = 4 << 30


def row(ground: Ground, report: Report) -> None:
    good, pills = ground.size(5000, 200), ground.size(5)
    kinds = ground.rolls.sample(KINDS, 3) if ground.scale < 0.1 else KINDS
    began = time.monotonic()
    calls = [(n, ground.rolls.random() * 0.002) for n in range(good)]
    works.enqueue_many(calls[: good // 2])
    bad = {str(poison.enqueue(10_000 + n, kinds[n % len(kinds)]).id): n for n in range(len(kinds) * pills)}
    eaters = [str(eats_memory.enqueue(20_000 + n).id) for n in range(pills)]
    works.enqueue_many(calls[good // 2 :])
    limited = ("prlimit", f"--as={LIMIT}", "--core=0")
    ground.worker("--slots", "2", prefix=limited)
    ground.settle(60 + 120 * ground.scale)

    starts = ground.evidence.numbers("begins")
    ends = {
        str(job): rest for job, *rest in ground.sql("SELECT id, state, attempts, crashes, lease FROM jobs_finishedjob")
    }
    three = sum(ends.get(job, [""])[0] == "dead" and ends[job][2] == 3 for job in bad)
    report.figure("good jobs", good)
    report.figure("pills", len(bad))
    report.figure("seconds for all", time.monotonic() - began)
    report.must("pills dead of exactly three crashes", three, "==", len(bad))
    report.must(
        "pills started exactly three times", sum(starts.get(10_000 + n) == 3 for n in range(len(bad))), "==", len(bad)
    )
    report.must("pills that spent an attempt", sum(ends.get(job, ["", 0])[1] for job in bad), "==", 0)
    report.must(
        "memory eaters dead of errors alone",
        sum(ends.get(job, [])[:3] == ["dead", 3, 0] for job in eaters),
        "==",
        pills,
    )
    report.must(
        "good jobs succeeded",
        ground.value("SELECT count(*) FROM jobs_finishedjob WHERE state = 'succeeded'"),
        "==",
        good,
    )
    report.must(
        "good jobs charged a crash",
        ground.value("SELECT count(*) FROM jobs_finishedjob WHERE state = 'succeeded' AND crashes > 0"),
        "==",
        0,
    )
    again = Counter(count for number, count in starts.items() if number < good)
    report.must("good jobs started more than once", good - again[1], "==", 0)
    report.must("stuck", checker.stuck(ground), "==", 0)
