"""R22. A rolling deploy under load: the former release works on while the schema and the code change.

The former release is the code before the newest migration. It is unpacked from the history of this repository, and
migrates a database of its own. Its worker and its producer stay while the new code migrates, starts a worker beside it
and enqueues jobs of a task that the old one does not know; then the old worker is told to end. Full size: 20 s before
and after the migration.
"""

from __future__ import annotations

import json
import time

import psycopg

from tests.trust import checker, release
from tests.trust.ground import Ground, with_name
from tests.trust.report import Report

NEW_TASK = "tests.trust.tasks.plain"
FIRST_OF_NEW = 10_000_000

MIGRATIONS = "SELECT count(*) FROM django_migrations WHERE app IN ('jobs', 'outbox')"


def row(ground: Ground, report: Report) -> None:
    commit = release.before()
    if not commit:
        report.skipped = (
            "there is no history of this repository here: it needs a clone that reaches the newest migration"
        )
        return
    tree = release.unpack(commit, ground.folder / "old")
    name = ground.url.rpartition("/")[2] + "_old"
    with psycopg.connect(with_name(ground.url, "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    former, ground.url = ground.url, with_name(ground.url, name)
    try:
        _play(ground, report, tree)
    finally:
        ground.close()
        with psycopg.connect(with_name(former, "postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]
    report.note(f"the old release is commit {commit[:10]}")


def _play(ground: Ground, report: Report, tree: object) -> None:
    seconds = max(2.0, 20 * ground.scale)
    new = {"DATABASE_URL": ground.url}
    old = {**new, "TEST_UNKNOWN": NEW_TASK} if NEW_TASK.rpartition(".")[2] in _tasks_of(tree) else new
    ground.program("manage.py", "migrate", "--run-syncdb", "--verbosity=0", cwd=tree, env=new).ended(within=60)
    before = ground.value(MIGRATIONS)
    leaving = ground.worker("--slots", "2", cwd=tree, env=old)
    order = {"first": 0, "count": 10**6, "rollbacks": 0.05, "pause": 0.001, "seed": 1, "gap": 0.005}
    producers = [ground.program("-m", "tests.trust.producer", json.dumps(order), cwd=tree, env=old)]
    ground.wait(lambda: ground.evidence.count("ends") > 50, 30, leaving.said)
    time.sleep(seconds / 2)

    began = time.monotonic()
    status = ground.program("manage.py", "migrate", "--verbosity=0", env=new).ended(within=60)
    migrated = time.monotonic() - began
    time.sleep(seconds / 2)
    later = {**order, "first": FIRST_OF_NEW, "task": NEW_TASK.rpartition(".")[2]}
    producers.append(ground.program("-m", "tests.trust.producer", json.dumps(later), env=new))
    ground.wait(lambda: any(line.number >= FIRST_OF_NEW for line in ground.evidence.said("committed")), 30)
    time.sleep(seconds / 4)  # the old worker alone, with jobs that it does not know
    coming = ground.worker("--slots", "2", env=new)
    ground.ready(leaving, coming)
    time.sleep(seconds / 2)
    olds, news = set(leaving.slots()), set(coming.slots())
    left = leaving.terminate(within=40)
    time.sleep(seconds / 4)
    for producer in producers:
        report.must("producers that ended by themselves", int(producer.process.poll() is not None), "==", 0)
        producer.kill()
    ground.settle(90)

    committed = {line.number: line.job for line in ground.evidence.said("committed")}
    of_new = {line.number: line.pid for line in ground.evidence.said("begins") if line.number >= FIRST_OF_NEW}
    by_new = {line.pid for line in ground.evidence.said("begins")} & news
    report.figure("migrations under load", ground.value(MIGRATIONS) - before)
    report.figure("seconds to migrate", migrated)
    report.figure("jobs committed", len(committed))
    report.figure("of a task that the old release does not know", len(of_new))
    report.must("migrate and the old worker ended well", (status, left), "==", (0, 0))
    report.must("producer errors", ground.evidence.count("doubtful"), "==", 0)
    report.must("slots of the new release that worked", len(by_new), ">=", 1)
    report.must("new jobs that the old release began", sum(pid in olds for pid in of_new.values()), "==", 0)
    report.must("lost", checker.missing(ground, committed.values()), "==", 0)
    report.must("without an effect", checker.without_effect(ground, committed), "==", 0)
    report.must("ended badly", checker.not_succeeded(ground), "==", 0)
    charged = "SELECT count(*) FROM jobs_finishedjob WHERE crashes > 0 OR attempts > 1 AND task <> %s"
    report.must("charged for the deploy", ground.value(charged, NEW_TASK), "==", 0)
    report.must("stuck", checker.stuck(ground), "==", 0)


def _tasks_of(tree: object) -> str:
    from pathlib import Path

    return Path(str(tree), "tests/trust/tasks.py").read_text()
