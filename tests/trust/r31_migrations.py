"""R31. Migrations under load: each one on tables of a million rows, and nobody waits for a lock for over two seconds.

The database begins with the first migration of both apps. Four sessions go on writing, relaying, claiming and
finishing with statements that any release could say, while each further migration is applied; a fifth asks how long
anybody has been waiting for a lock. Then the same with the migration that meets a transaction which stays open: with
the `lock_timeout` of docs/upgrade.md it gives up in time, and the next try succeeds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.utils import OperationalError

from tests.trust.ground import Ground, with_name
from tests.trust.report import Report

LONGEST = 2.0
"""Seconds anybody may wait for a lock because of a migration."""

BOTH = "0003_callbacks_and_keys"
"""It locks the queue and the history in one transaction, as whoever ends jobs does, in either order: a deadlock, in
which the server ends one of the two. No other may: tests/test_migrations.py."""

MEETS = ("0006_events", "0007_trace")
"""The schema before and after the part with a transaction that stays open."""

ROWS = """
INSERT INTO jobs_job (id, task, queue, priority, state, source_name, arguments, max_attempts, attempts, crashes, lease,
  depth, idempotency_key, enqueued_at, run_after, ready_at, error)
SELECT gen_random_uuid(), 'shop.tasks.ship', 'default', 0, CASE WHEN n %% 2 = 0 THEN 'ready' ELSE 'scheduled' END, '',
  '{"args":[1],"kwargs":{}}', 1, 0, 0, 0, 0, '', now(), now() + interval '1 day', now(), ''
FROM generate_series(1, %(n)s) AS n;
INSERT INTO jobs_finishedjob (id, task, queue, priority, state, source_name, arguments, max_attempts, attempts, crashes,
  lease, depth, idempotency_key, enqueued_at, error)
SELECT gen_random_uuid(), 'shop.tasks.ship', 'default', 0, CASE WHEN n %% 20 = 0 THEN 'dead' ELSE 'succeeded' END, '',
  '{"args":[1],"kwargs":{}}', 1, 1, 0, 1, 0, '', now(), '' FROM generate_series(1, %(n)s) AS n;
INSERT INTO outbox_message (uid, headers, body)
SELECT gen_random_uuid(), '{"v":1,"task":"shop.tasks.ship","queue":"default"}', '{"args":[1],"kwargs":{}}'
FROM generate_series(1, %(n)s) AS n;
INSERT INTO jobs_key (id, task, key)
SELECT gen_random_uuid(), 'shop.tasks.ship', CASE WHEN n %% 10 = 0 THEN 'event:a:' ELSE 'order-' END || n
FROM generate_series(1, %(n)s) AS n;
INSERT INTO jobs_attempt (job, lease, number, kind, error, traceback)
SELECT gen_random_uuid(), 1, 1, 'failed', 'ValueError: no', repeat('a line of a traceback', 20)
FROM generate_series(1, %(n)s) AS n;
INSERT INTO jobs_log (job, lease, number, at, level, logger, text, task, source_name)
SELECT gen_random_uuid(), 1, 1, now(), 20, '', 'a line', 'shop.tasks.ship', '' FROM generate_series(1, %(n)s) AS n
"""

WRITE = """INSERT INTO outbox_message (uid, headers, body)
VALUES (gen_random_uuid(), '{"v":1,"task":"shop.tasks.ship","queue":"default"}', '{"args":[1],"kwargs":{}}')"""
RELAY = """WITH taken AS (DELETE FROM outbox_message WHERE id = ANY(ARRAY(
  SELECT id FROM outbox_message ORDER BY id LIMIT 5 FOR UPDATE SKIP LOCKED)) RETURNING uid, body)
INSERT INTO jobs_job (id, task, queue, priority, state, source_name, arguments, max_attempts, attempts, crashes, lease,
  depth, idempotency_key, enqueued_at, ready_at, error)
SELECT uid, 'shop.tasks.ship', 'default', 0, 'ready', '', body, 1, 0, 0, 0, 0, '', now(), now(), '' FROM taken"""
RUN = """WITH mine AS (UPDATE jobs_job SET state = 'running', worker = 1, claimer = 1, lease = lease + 1
  WHERE ctid = ANY(ARRAY(SELECT ctid FROM jobs_job WHERE state = 'ready' AND queue = 'default'
  ORDER BY priority DESC, ready_at LIMIT 5 FOR UPDATE SKIP LOCKED)) RETURNING id) SELECT id FROM mine"""
END = """WITH gone AS (DELETE FROM jobs_job WHERE id = ANY(%s::uuid[]) RETURNING *)
INSERT INTO jobs_finishedjob (id, task, queue, priority, state, source_name, arguments, max_attempts, attempts, crashes,
  lease, depth, idempotency_key, enqueued_at, error)
SELECT id, task, queue, priority, 'succeeded', '', arguments, 1, 1, 0, lease, 0, '', enqueued_at, '' FROM gone"""
KEY = """INSERT INTO jobs_key (id, task, key) VALUES (gen_random_uuid(), 'shop.tasks.ship', 'once')"""

WAITING = """SELECT coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)
FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = 'the load')"""


def row(ground: Ground, report: Report) -> None:
    name = ground.url.rpartition("/")[2] + "_bare"
    with psycopg.connect(with_name(ground.url, "postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        former, connection.settings_dict["NAME"] = connection.settings_dict["NAME"], name
        connection.close()
        try:
            _play(ground, report, with_name(ground.url, name))
        finally:
            connection.close()
            connection.settings_dict["NAME"] = former
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


def _play(ground: Ground, report: Report, url: str) -> None:
    nodes = sorted(node for node in MigrationLoader(None).graph.nodes if node[0] in ("outbox", "jobs"))
    for app in ("contenttypes", "auth"):
        migrate(app)
    for app in ("outbox", "jobs"):
        migrate(app, "0001_initial")
    size, patience = ground.size(1_000_000, 1000), 2.0 if ground.scale >= 0.5 else 0.5
    with psycopg.connect(url, autocommit=True) as filling, psycopg.ClientCursor(filling) as cursor:
        cursor.execute(ROWS, {"n": size})  # type: ignore[arg-type]
        cursor.execute("VACUUM ANALYZE")
    report.figure("rows in each table", size)

    worst, failed, deadlocks = 0.0, 0, 0
    with load(url) as load_:
        for app, name in (node for node in nodes if not node[1].startswith("0001")):
            load_.begin()
            began = time.monotonic()
            if name == BOTH:
                migrate_both(app, name)
            else:
                migrate(app, name)
            took = time.monotonic() - began
            waited, slowest = load_.end()
            worst = max(worst, waited)
            deadlocks += load_.deadlocks * (name != BOTH)
            report.figure(f"{app} {name}: seconds, of them a lock waited for", f"{took:.2f}, {waited:.3f}")
            report.figure(f"{app} {name}: slowest statement of the load", slowest)

        migrate("jobs", MEETS[0])
        load_.begin()
        with psycopg.connect(url) as reader:
            reader.execute("SELECT 1 FROM jobs_job LIMIT 1")  # a report or a dump: its transaction stays open
            try:
                with lock_timeout(patience):
                    migrate("jobs", MEETS[1])
            except OperationalError:
                failed = 1
        behind, _ = load_.end()
        deadlocks += load_.deadlocks
        load_.begin()
        with lock_timeout(patience):
            migrate("jobs", MEETS[1])
        again, _ = load_.end()
        deadlocks += load_.deadlocks
    report.figure("statements of the load", load_.count)
    report.must("errors of the load", load_.errors, "==", 0)
    report.must(f"deadlocks, but for {BOTH}", deadlocks, "==", 0)
    report.must("longest wait for a lock, s", worst, "<=", LONGEST)
    report.must("behind an open transaction: gave up", failed, "==", 1)
    report.must("behind an open transaction: longest wait, s", behind, "<=", patience + 0.5)
    report.must("the next try: longest wait, s", again, "<=", LONGEST)


def migrate(app: str, name: str = "") -> None:
    call_command("migrate", app, *([name] if name else []), verbosity=0)


def migrate_both(app: str, name: str) -> None:
    """The one that may be the one that the server ends: then it is tried again, as docs/upgrade.md says."""
    for _ in range(20):
        try:
            return migrate(app, name)
        except OperationalError as error:
            if not isinstance(error.__cause__, psycopg.errors.DeadlockDetected):
                raise
    raise AssertionError(f"{name}: a deadlock each time")


@contextmanager
def lock_timeout(seconds: float) -> Iterator[None]:
    """As docs/upgrade.md says it to the shell."""
    connection.close()
    os.environ["PGOPTIONS"] = f"-c lock_timeout={round(1000 * seconds)}"
    try:
        yield
    finally:
        del os.environ["PGOPTIONS"]
        connection.close()


class Load:
    """Threads that each say the same again and again, and one that looks who waits."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._waited = self._slowest = 0.0
        self.count = self.errors = self.deadlocks = 0
        kinds = (self._write, self._relay, self._run, self._key)
        self._threads = [threading.Thread(target=self._again, args=(kind,)) for kind in kinds]
        self._threads.append(threading.Thread(target=self._watch))
        for thread in self._threads:
            thread.start()

    def begin(self) -> None:
        self._waited = self._slowest = 0.0
        self.deadlocks = 0

    def end(self) -> tuple[float, float]:
        """The longest wait for a lock and the slowest statement since `begin`."""
        time.sleep(0.05)
        return self._waited, round(self._slowest, 3)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _again(self, say: Callable[[psycopg.Connection], None]) -> None:
        with psycopg.connect(self._url, application_name="the load") as here:
            while not self._over.wait(0.002):
                began = time.monotonic()
                try:
                    say(here)
                    here.commit()
                except psycopg.errors.DeadlockDetected:
                    self.deadlocks += 1
                    here.rollback()
                except psycopg.Error:
                    self.errors += 1
                    here.rollback()
                self._slowest = max(self._slowest, time.monotonic() - began)
                self.count += 1

    def _watch(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as here:
            while not self._over.wait(0.005):
                answer = here.execute(WAITING).fetchone()
                self._waited = max(self._waited, float(answer[0]) if answer else 0.0)

    @staticmethod
    def _write(here: psycopg.Connection) -> None:
        here.execute(WRITE)

    @staticmethod
    def _relay(here: psycopg.Connection) -> None:
        here.execute(RELAY)

    @staticmethod
    def _run(here: psycopg.Connection) -> None:
        mine = [row[0] for row in here.execute(RUN).fetchall()]
        here.commit()
        here.execute(END, (mine,))

    @staticmethod
    def _key(here: psycopg.Connection) -> None:
        here.execute(KEY)


@contextmanager
def load(url: str) -> Iterator[Load]:
    made = Load(url)
    try:
        yield made
    finally:
        made.stop()
