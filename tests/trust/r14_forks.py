"""R14. A thousand forks while the database is asked: no answer goes to the wrong process, nothing hangs.

Every slot that is killed is forked anew by a supervisor that works on. The jobs ask what only they would ask and check
each answer and the backend it came from. A second worker recycles its connections for each job, a third has Django's
own pool of them. Where the server offers SSL every session has it, and that is looked at.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress

from tests.support.processes import named
from tests.trust import checker
from tests.trust.ground import Ground
from tests.trust.report import Report
from tests.trust.tasks import asks

POOL = {"TEST_OPTIONS": json.dumps({"pool": {"min_size": 1, "max_size": 4}})}

ENCRYPTED = """SELECT count(*), count(*) FILTER (WHERE s.ssl)
FROM pg_stat_ssl AS s JOIN pg_stat_activity AS a USING (pid)
WHERE a.datname = current_database() AND a.application_name LIKE 'jobs-%'"""


def row(ground: Ground, report: Report) -> None:
    forks, jobs = ground.size(1000, 24), ground.size(20_000, 200)
    settings = {"MAX_CRASHES": 100}
    workers = [
        ground.worker("--slots", "2", jobs=settings),
        ground.worker("--slots", "2", jobs={**settings, "CONN_MAX_AGE": 0.0}),
        ground.worker("--slots", "2", jobs=settings, env=POOL),
    ]
    ground.ready(*workers)
    born = [set(named(worker.pid).values()) for worker in workers]
    asks.enqueue_many([(n, 20) for n in range(jobs)])
    kills = 0
    while sum(map(len, born)) < forks:
        time.sleep(0.02 + ground.rolls.random() * 0.05)
        for worker, pids in zip(workers, born, strict=True):
            pids.update(worker.slots())
        if slots := [pid for worker in workers for pid in worker.slots()]:
            with suppress(ProcessLookupError):
                os.kill(ground.rolls.choice(slots), signal.SIGKILL)
                kills += 1
        if ground.settled():
            asks.enqueue_many([(n, 20) for n in range(200)])
    ssl = ground.value("SELECT current_setting('ssl')")
    sessions, encrypted = ground.sql(ENCRYPTED)[0]
    over = ground.settle(120)
    pids = {line.pid for line in ground.evidence.said("begins")}
    for name, children in zip(("kept connections", "a connection a job", "Django's pool"), born, strict=True):
        report.figure(f"forks with {name}", len(children))
        report.must(f"of which some have run jobs: {name}", len(children & pids), ">=", 1)
    report.figure("slots killed", kills)
    report.figure("answers checked", ground.evidence.count("ends") * 20)
    report.must("wrong answers", ground.evidence.count("wrong"), "==", 0)
    report.must("hung", not over, "==", False)
    report.must("ended badly", checker.not_succeeded(ground), "==", 0)
    if ssl == "on":
        report.must("sessions without SSL", sessions - encrypted, "==", 0)
    else:
        report.note(f"SSL is {ssl} on this server, so that part was not run: DATABASE_URL may name one that has it")
