"""R26. Two hundred idle slots: how often they ask, and how soon a job begins all the same, with NOTIFY and without.

Full size: 20 workers of 10 slots each, 20 s of idleness, 200 jobs, one at a time. What is judged are questions: each is
one transaction in one round trip, counted by the server. Their statements, four for most of them (BEGIN, settings,
verb, COMMIT), are counted as they go over the wire, by the door of the benchmark `idle`.
"""

from __future__ import annotations

import time

from tests.benchmarks.wire import counted
from tests.trust.ground import Ground
from tests.trust.report import Report, percentile
from tests.trust.tasks import works

SLOTS = 10

TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"


def row(ground: Ground, report: Report) -> None:
    workers, seconds, jobs = ground.size(20, 2), max(3.0, 20 * ground.scale), ground.size(200, 20)
    report.figure("idle slots", workers * SLOTS)
    for name, notify, limit in (("with NOTIFY", True, 50.0), ("without NOTIFY", False, 250.0)):
        asked, said, waits = _idle(ground, workers, seconds, jobs, notify=notify)
        report.figure(f"statements a second, {name}", said)
        report.must(f"questions a second, {name}", asked, "<=", 250.0)
        report.figure(f"ms from the commit to the start, p50, {name}", percentile(waits, 0.5))
        report.must(f"ms from the commit to the start, p99, {name}", percentile(waits, 0.99), "<=", limit)


def _idle(ground: Ground, workers: int, seconds: float, jobs: int, *, notify: bool) -> tuple[float, float, list[float]]:
    with counted(ground.url) as door:
        crowd = []
        for _ in range(workers):  # one after the other: they would all load at once
            crowd.append(
                ground.worker(
                    "--slots", str(SLOTS), env={"DATABASE_URL": door.url}, outbox={"NOTIFY": notify}
                )
            )  # fmt: skip
            ground.wait(lambda: len(crowd[-1].slots()) == SLOTS, 60, crowd[-1].said)
        ground.wait(lambda: ground.value("SELECT count(*) FROM jobs_worker") == workers, 60)
        works.enqueue(-1)
        ground.wait(ground.settled, 30)
        time.sleep(5)  # they may still look around
        asked, said, since = -ground.value(TRANSACTIONS), -door.statements, time.monotonic()
        time.sleep(seconds)
        asked, said, took = asked + ground.value(TRANSACTIONS), said + door.statements, time.monotonic() - since
        waits = []
        for _ in range(jobs):
            number = ground.evidence.count("begins")
            works.enqueue(number)
            committed = time.monotonic()
            ground.wait(lambda number=number: ground.evidence.count("begins") > number, 30, "the job begins")
            waits.append(1000 * (ground.evidence.lines["begins"][-1].at - committed))
            time.sleep(ground.rolls.random() * 0.1)
        for worker in crowd:
            worker.kill()
            ground.started.remove(worker)
        ground.sql("DELETE FROM jobs_worker")
    return asked / took, said / took, waits
