"""R07. Eight producers commit in random order and roll back one in ten; two relays move; relays are killed.

Full size: 200,000 messages, 200 kills. What arrived must be exactly what was committed. Nothing is run here.
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


def row(ground: Ground, report: Report) -> None:
    messages, kills, producers = ground.size(200_000, 800), ground.size(200, 4), 8
    each = messages // producers
    # Workers of a queue nobody writes to: they relay and run nothing.
    relays = [ground.worker("--slots", "1", "--queues", "mail") for _ in range(2)]
    ground.ready(*relays)
    began = time.monotonic()
    writers = [
        ground.program("-m", "tests.trust.producer", json.dumps(order))
        for n in range(producers)
        for order in [
            {"first": n * each, "count": each, "rollbacks": 0.1, "pause": 0.004, "seed": ground.rolls.random()}
        ]
    ]
    done = 0
    while any(writer.process.poll() is None for writer in writers) or done < kills:
        time.sleep(ground.rolls.random() * 0.2)
        if done < kills and ground.evidence.count("committed") * kills >= messages * 0.8 * done:
            relay = named(ground.rolls.choice(relays).pid).get("relay")
            with suppress(ProcessLookupError):
                if relay:
                    os.kill(relay, signal.SIGKILL)
                    done += 1
    with suppress(Exception):
        ground.wait(lambda: not ground.value("SELECT count(*) FROM outbox_message"), 60)
    took = time.monotonic() - began

    committed = {line.job for line in ground.evidence.said("committed")}
    rolled_back = {line.job for line in ground.evidence.said("rolled_back")}
    orders = {str(job) for (job,) in ground.sql("SELECT job FROM trust_order")}
    arrived = {str(job) for (job,) in ground.sql("SELECT id FROM jobs_job")}
    report.figure("committed", len(committed))
    report.figure("rolled back", len(rolled_back))
    report.figure("kills of a relay", done)
    report.figure("messages per second", len(committed) / took)
    report.must("producers ended well", sum(writer.process.poll() == 0 for writer in writers), "==", producers)
    report.must("lost", len(committed - arrived), "==", 0)
    report.must("arrived though never committed", len(arrived - committed), "==", 0)
    report.must("orders without a job, jobs without an order", len(orders ^ arrived), "==", 0)
    report.must("doubled", checker.in_two_homes(ground), "==", 0)
    report.must("set aside", ground.value("SELECT count(*) FROM outbox_setasidemessage"), "==", 0)
    report.must("left in the outbox", ground.value("SELECT count(*) FROM outbox_message"), "==", 0)
