"""R11. Every statement there is, in eight threads, over the same 500 rows, with a deadlock timeout of 50 ms.

Full size: 180 s. The server's own count of deadlocks is what is believed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from django.db import connections, transaction

from jobs import claim as claims
from jobs.conf import JobsSettings
from jobs.finish import finish
from jobs.models import FinishedJob, Job
from jobs.outcome import Happened
from jobs.promote import promote
from jobs.prune import prune
from jobs.rescue import Watch, hand_back_left_over
from outbox import relay
from outbox.session import Query, Session, session_on
from tests.support.floor import EVERYTHING, outcome
from tests.trust.ground import Ground
from tests.trust.report import Report
from tests.trust.tasks import works

ROWS = 500
HAPPENED = (Happened.SUCCEEDED, Happened.FAILED, Happened.CRASHED, Happened.HANDED_BACK, Happened.UNREADABLE)
RETENTION = JobsSettings(KEEP_SUCCEEDED=timedelta(0), KEEP_DEAD=timedelta(0), KEEP_KEYS=timedelta(0))
SETTINGS = JobsSettings()

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
# What a person does in bulk locks in the order of the ids and waits for nobody, as each statement of the library.
BACK = """WITH mine AS MATERIALIZED (
  SELECT id FROM jobs_finishedjob WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM jobs_finishedjob WHERE id IN (SELECT id FROM mine) RETURNING id, task, queue, priority,
  source_name, arguments, max_attempts, lease, depth, parent, idempotency_key, enqueued_at)
INSERT INTO jobs_job (id, task, queue, priority, source_name, arguments, max_attempts, lease, depth, parent,
  idempotency_key, enqueued_at, state, ready_at, attempts, crashes, error)
SELECT *, 'ready', clock_timestamp(), 0, 0, '' FROM gone ORDER BY id ON CONFLICT DO NOTHING"""

THROW_AWAY = """DELETE FROM jobs_job WHERE id IN (
  SELECT id FROM jobs_job WHERE state = 'ready' AND lease > 3 ORDER BY id FOR UPDATE SKIP LOCKED)"""


class Crowd:
    """Threads that each do their verb until the time is over."""

    def __init__(self, ground: Ground, seconds: float) -> None:
        self.ground, self.until = ground, time.monotonic() + seconds
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.said: list[str] = []
        self.numbers = iter(range(10**9))

    def run(self, *verbs: Callable[[Session], None]) -> None:
        threads = [threading.Thread(target=self._loop, args=(verb,)) for verb in verbs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _loop(self, verb: Callable[[Session], None]) -> None:
        session = session_on("default", statement_timeout=20)
        while time.monotonic() < self.until:
            try:
                verb(session)
            except Exception as error:
                self.errors[type(error).__name__] += 1
                self.said.append(f"{verb.__name__}: {' '.join(str(error).split())[:900]}")
            self.done[verb.__name__] += 1
        session.close()
        connections.close_all()

    # The verbs ----------------------------------------------------------------------------------------------------

    def enqueues(self, _: Session) -> None:
        with transaction.atomic():
            keys = [f"key {n % 300}" for n in (next(self.numbers) for _ in range(20))]
            works.enqueue_many([(0,)] * 20)
            works.enqueue_many([(0,)] * len(set(keys)), idempotency_keys=sorted(set(keys), reverse=True))
        if Job.objects.count() > ROWS:
            time.sleep(0.02)

    def relays(self, session: Session) -> None:
        relay.step(session, relay.destination(), 50)

    def works_off(self, session: Session) -> None:
        jobs = claims.read(session.run(claims.claim(1, 11, EVERYTHING, 40), durable=False), EVERYTHING)
        ends = [outcome(job, self.ground.rolls.choice(HAPPENED), retry_in=0.0) for job in jobs]
        self.ground.rolls.shuffle(ends)
        session.run_all(finish(ends, 1), durable=False)

    def leaves(self, session: Session) -> None:
        session.run(claims.claim(2, 22, EVERYTHING, 10), durable=False)
        session.run(claims.claim(3, 33, EVERYTHING, 10), durable=False)
        hand_back_left_over(session, [11], [], 2, SETTINGS)

    def rescues(self, session: Session) -> None:
        session.run(
            Query("INSERT INTO jobs_worker (id, name, queues, slots) VALUES (1, 'one', '', 1) ON CONFLICT DO NOTHING")
        )
        Watch().look(session, 1, SETTINGS)

    def promotes(self, session: Session) -> None:
        session.run_all(promote(100), durable=False)

    def prunes(self, session: Session) -> None:
        prune(session, RETENTION)

    def operates(self, session: Session) -> None:
        """What a person may do in bulk: make ready again, and throw away."""
        ended: list[UUID] = list(FinishedJob.objects.values_list("pk", flat=True)[:50])
        session.run(Query(BACK, (ended,)), durable=False)
        session.run(Query(THROW_AWAY), durable=False)


def row(ground: Ground, report: Report) -> None:
    ground.sql("ALTER DATABASE " + ground.value("SELECT current_database()") + " SET deadlock_timeout = '50ms'")
    before = ground.value(DEADLOCKS)
    crowd = Crowd(ground, max(3.0, 180 * ground.scale))
    crowd.run(
        crowd.enqueues, crowd.enqueues, crowd.relays, crowd.relays, crowd.works_off, crowd.works_off, crowd.leaves,
        crowd.rescues, crowd.promotes, crowd.prunes, crowd.operates,
    )  # fmt: skip
    time.sleep(1.1)  # the server's statistics come in once a second
    for verb, count in crowd.done.items():
        report.figure(f"times: {verb}", count)
    for error, count in crowd.errors.items():
        report.figure(f"errors: {error}", count)
    for said in crowd.said[:5]:
        report.note(said)
    report.must("deadlocks", ground.value(DEADLOCKS) - before, "==", 0)
    report.must("errors that nobody handled", sum(crowd.errors.values()), "==", 0)
