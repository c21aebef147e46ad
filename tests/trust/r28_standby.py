"""R28. The primary dies under load and its standby is promoted, once a synchronous one and once an asynchronous.

Nothing acknowledged is lost where it is synchronous. Where not, what was acknowledged just before the end may be, and
no effect in the database is there twice all the same. The standby streams over loopback; a proxy stands for the name of
the database and points to the standby after the promotion. Full size: 20 s of load for each.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.processes import named
from tests.trust import checker
from tests.trust.ground import Ground, make_database
from tests.trust.proxy import Proxy
from tests.trust.report import Report
from tests.trust.server import Server

DOUBLED = "SELECT count(*) - count(DISTINCT number) FROM trust_effect"
BEHIND = "SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))::float8 FROM pg_stat_replication"

LAG = 1.0
"""Seconds before the end within which an asynchronous standby may have missed something."""


def row(ground: Ground, report: Report) -> None:
    assert ground.server is not None
    name = ground.url.rpartition("/")[2]
    with followed(ground, ground.server) as (standby, proxy):
        _play(ground, report, "synchronous", ground.server, standby, proxy, name, first=0)
    second = Server(settings={"wal_level": "replica"})
    try:
        make_database(second.url(), name)
        ground.url, ground._connection = second.url(name), None
        with followed(ground, second) as (standby, proxy):
            _play(ground, report, "asynchronous", second, standby, proxy, name, first=10_000_000)
    finally:
        second.close()


@contextmanager
def followed(ground: Ground, primary: Server) -> Iterator[tuple[Server, Proxy]]:
    standby = Server(copy_of=primary)
    proxy = Proxy(primary.port)
    try:
        yield standby, proxy
    finally:
        proxy.close()
        ground.close()
        standby.close()


def _play(
    ground: Ground, report: Report, kind: str, primary: Server, standby: Server, proxy: Proxy, name: str, *, first: int
) -> None:
    follows = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"
    ground.wait(lambda: ground.sql(follows), 20, "the standby follows")
    if kind == "synchronous":
        ground.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        ground.sql("SELECT pg_reload_conf()")
        waits = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        ground.wait(lambda: ground.sql(waits), 20, "it is synchronous")
    env = {"DATABASE_URL": primary.url(name, proxy.port)}
    worker = ground.worker("--slots", "2", env=env)
    ground.ready(worker)
    family = {worker.pid, *worker.slots()}
    order = {
        "first": first, "count": 900_000, "rollbacks": 0.05, "pause": 0.001, "seed": 1, "work": 0.005, "gap": 0.01,
        "task": "exactly",
    }  # fmt: skip
    producer = ground.program("-m", "tests.trust.producer", json.dumps(order), env=env)
    enough = ground.evidence.count("ends") + 50
    ground.wait(lambda: ground.evidence.count("ends") > enough, 30, worker.said)
    time.sleep(max(2.0, 20 * ground.scale))
    behind = ground.value(BEHIND)

    primary.crash()
    died = time.monotonic()
    standby.promote()
    ground.url, ground._connection = standby.url(name), None
    # A standby that is promoted waits for a standby of its own, unless told that there is none.
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

    committed = {line.number: line for line in ground.evidence.said("committed") if line.number >= first}
    known = checker.homes(ground)
    lost = [line for line in committed.values() if line.job not in known]
    stays = [number for number, line in committed.items() if line.job in known]
    report.figure(f"{kind}: acknowledged", len(committed))
    report.figure(f"{kind}: bytes behind just before", behind)
    report.figure(f"{kind}: seconds to promote", promoted - died)
    report.must(f"{kind}: seconds from the promotion to work", back - promoted, "<=", 15.0)
    if kind == "synchronous":
        report.must(f"{kind}: acknowledged and lost", len(lost), "==", 0)
    else:
        report.figure(f"{kind}: acknowledged and lost", len(lost))
        early = sum(line.at < died - LAG for line in lost)
        report.must(f"{kind}: lost though acknowledged {LAG:g} s before", early, "==", 0)
    report.must(f"{kind}: effects in the database doubled", ground.value(DOUBLED), "==", 0)
    report.must(f"{kind}: there and never run", checker.without_effect(ground, stays), "==", 0)
    report.must(f"{kind}: in two homes", checker.in_two_homes(ground), "==", 0)
    report.must(f"{kind}: stuck", checker.stuck(ground), "==", 0)
    alive = {worker.pid, *named(worker.pid).values()}
    report.must(f"{kind}: supervisors and slots that exited", len(family - alive), "==", 0)
