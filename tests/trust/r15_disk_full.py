"""R15. The disk under the tables of outbox and jobs is full: the caller is told, nothing is lost, the worker lives.

The tables stand in a tablespace on a small file system of their own; the WAL does not, or the whole server would stop.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from django.db import DatabaseError, transaction

from project import postgres
from tests.trust import checker
from tests.trust.ground import Ground
from tests.trust.models import Order
from tests.trust.report import Report
from tests.trust.tasks import works

ROOM = 2 << 20

TABLES = ("outbox_message", "jobs_job", "jobs_finishedjob", "jobs_attempt")


def row(ground: Ground, report: Report) -> None:
    assert ground.server is not None
    place = ground.server.folder / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        report.skipped = f"a small file system could not be mounted ({mounted.stderr.strip()}): run it as root"
        return
    try:
        os.chown(place, *postgres._account())
        place.chmod(0o700)
        _play(ground, report, str(place))
    finally:
        ground.close()
        ground.server.close()
        subprocess.run(["umount", "-l", str(place)], check=False)


def _play(ground: Ground, report: Report, place: str) -> None:
    ground.sql(f"CREATE TABLESPACE small LOCATION '{place}'")
    for table in TABLES:
        ground.sql(f"ALTER TABLE {table} SET TABLESPACE small")
    worker = ground.worker("--slots", "2")
    ground.ready(worker)
    family = {worker.pid, *worker.slots()}
    filler = Path(place, "filler")
    with filler.open("wb") as file:
        while (free := os.statvfs(place).f_bavail * os.statvfs(place).f_frsize) > ROOM:
            file.write(bytes(min(free - ROOM, 1 << 20)))
            file.flush()
    told, committed = 0, {}
    for number in range(100_000):
        try:
            with transaction.atomic():
                Order.objects.create(number=number, job=(job := works.enqueue_many([(number,)] * 20))[0].id)
        except DatabaseError:
            told += 1
            if told >= 5:
                break
        else:
            committed |= {str(handle.id): number for handle in job}
    time.sleep(2)  # what the worker makes of it, meanwhile
    alive = {worker.pid, *worker.slots()}
    orders = ground.value("SELECT count(*) FROM trust_order")
    report.figure("jobs committed", len(committed))
    report.must("callers told", told, ">=", 5)
    report.must("business rows without their jobs", orders - len(set(committed.values())), "==", 0)
    report.must("supervisors and slots that exited", len(family - alive), "==", 0)
    filler.unlink()
    freed = time.monotonic()
    ground.wait(lambda: ground.evidence.count("ends") > 0, 30, worker.said)
    with suppress(Exception):
        ground.settle(90)
    report.figure("seconds to drain once there is room", time.monotonic() - freed)
    report.must("lost", checker.missing(ground, committed), "==", 0)
    report.must("stuck", checker.stuck(ground), "==", 0)
    report.must("ended badly", checker.not_succeeded(ground), "==", 0)
