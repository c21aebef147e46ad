"""R28. The primary dies under load and its standby is promoted: nothing acknowledged is lost where it is synchronous.

The standby streams over loopback; a proxy stands for the name of the database and points to the standby after the
promotion. Full size: the synchronous and the asynchronous standby, 20 s of load each.
"""

from __future__ import annotations

import json
import time

from tests.support.processes import named
from tests.trust import checker
from tests.trust.ground import Ground
from tests.trust.proxy import Proxy
from tests.trust.report import Report
from tests.trust.server import Server


def row(ground: Ground, report: Report) -> None:
    assert ground.server is not None
    standby = Server(copy_of=ground.server)
    proxy = Proxy(ground.server.port)
    try:
        _play(ground, report, standby, proxy)
    finally:
        proxy.close()
        ground.close()
        standby.close()


def _play(ground: Ground, report: Report, standby: Server, proxy: Proxy) -> None:
    assert ground.server is not None
    ground.wait(
        lambda: ground.sql("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"), 20, "the standby follows"
    )
    ground.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    ground.sql("SELECT pg_reload_conf()")
    ground.wait(
        lambda: ground.sql("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"), 20, "it is synchronous"
    )
    name = ground.url.rpartition("/")[2]
    env = {"DATABASE_URL": ground.server.url(name, proxy.port)}
    worker = ground.worker("--slots", "2", env=env)
    ground.ready(worker)
    family = {worker.pid, *worker.slots()}
    order = {"first": 0, "count": 900_000, "rollbacks": 0.05, "pause": 0.001, "seed": 1, "work": 0.005, "gap": 0.01}
    producer = ground.program("-m", "tests.trust.producer", json.dumps(order), env=env)
    ground.wait(lambda: ground.evidence.count("ends") > 50, 30, worker.said)
    time.sleep(max(2.0, 20 * ground.scale))

    ground.server.crash()
    died = time.monotonic()
    standby.promote()
    # A standby that is promoted waits for a standby of its own, unless told that there is none.
    ground.url = standby.url(name)
    ground._connection = None
    ground.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
    ground.sql("SELECT pg_reload_conf()")
    proxy.target = standby.port
    proxy.cut()
    promoted = time.monotonic()
    before = ground.evidence.count("ends")
    ground.wait(lambda: ground.evidence.count("ends") > before + 20, 60, worker.said)
    back = time.monotonic()
    ground.wait(lambda: ground.evidence.said("committed")[-1].at > promoted, 30, producer.said)
    time.sleep(1)
    producer.kill()
    ground.settle(60)

    committed = {line.number: line.job for line in ground.evidence.said("committed")}
    report.figure("acknowledged", len(committed))
    report.figure("doubtful commits", ground.evidence.count("doubtful"))
    report.figure("seconds to promote", promoted - died)
    report.figure("effects repeated", checker.extra_effects(ground))
    report.must("seconds from the promotion to work", back - promoted, "<=", 15.0)
    report.must("acknowledged and lost (synchronous)", checker.missing(ground, committed.values()), "==", 0)
    report.must("acknowledged and never run", checker.without_effect(ground, committed), "==", 0)
    report.must("in two homes", checker.in_two_homes(ground), "==", 0)
    report.must("stuck", checker.stuck(ground), "==", 0)
    report.must("supervisors and slots that exited", len(family - {worker.pid, *named(worker.pid).values()}), "==", 0)
    report.note("the asynchronous standby, whose loss is its lag, is not played yet")
