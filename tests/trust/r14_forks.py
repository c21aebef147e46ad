"""R14. A thousand forks while the database is asked: no answer goes to the wrong process, nothing hangs.

Every slot that is killed is forked anew by a supervisor that works on. The jobs ask what only they would ask and check
each answer and the backend it came from. A second worker recycles its connections for each job.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from tests.support.processes import named
from tests.trust import checker
from tests.trust.ground import Ground
from tests.trust.report import Report
from tests.trust.tasks import asks


def row(ground: Ground, report: Report) -> None:
    forks, jobs = ground.size(1000, 20), ground.size(20_000, 200)
    settings = {"MAX_CRASHES": 100}
    workers = [
        ground.worker("--slots", "2", jobs=settings),
        ground.worker("--slots", "2", jobs={**settings, "CONN_MAX_AGE": 0.0}),
    ]
    ground.ready(*workers)
    born = {pid for worker in workers for pid in named(worker.pid).values()}
    asks.enqueue_many([(n, 20) for n in range(jobs)])
    kills = 0
    while len(born) < forks:
        time.sleep(0.02 + ground.rolls.random() * 0.05)
        slots = [pid for worker in workers for pid in worker.slots()]
        born.update(slots)
        if slots:
            with suppress(ProcessLookupError):
                os.kill(ground.rolls.choice(slots), signal.SIGKILL)
                kills += 1
        if ground.settled():
            asks.enqueue_many([(n, 20) for n in range(200)])
    over = ground.settle(120)
    report.figure("forks", len(born))
    report.figure("slots killed", kills)
    report.figure("answers checked", ground.evidence.count("ends") * 20)
    report.must("wrong answers", ground.evidence.count("wrong"), "==", 0)
    report.must("hung", not over, "==", False)
    report.must("ended badly", checker.not_succeeded(ground), "==", 0)
    ssl = ground.value("SELECT current_setting('ssl')")
    report.note(f"SSL is {ssl} on this server" + ("" if ssl == "on" else ": that half was not run"))
    report.note("psycopg's pool is not a dependency of the project: a pooled half is not run")
