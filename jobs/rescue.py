"""Take back the jobs of whoever is gone: a dead slot of this worker, or a whole other worker.

It takes running rows whose claimer will never finish them; it leaves them ready, retrying or dead, as `decide` says.
Every write is fenced by the row's own lease and claimer, so a worker that was only slow loses nothing it has already
finished and overwrites nothing later. A crash here leaves the rows for the next look.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from typing import NamedTuple
from uuid import UUID

from jobs import trace
from jobs.conf import JobsSettings
from jobs.context import JobContext
from jobs.declare import registry
from jobs.errors import TimedOut
from jobs.finish import finish, tell, written
from jobs.intake import CHANNEL
from jobs.outcome import Happened, Outcome, Trouble, decide, jittered, retry_wait, wait_of
from jobs.verdict import Fated
from outbox import faults
from outbox.session import Query, Row, Session
from outbox.text import clean

logger = logging.getLogger("jobs")

BATCH = 500

STRAYS_EVERY = 5
"""Looks between two for jobs whose worker was buried by somebody who then died himself."""

FACTS = """id, task, lease, claimer, attempts, crashes, max_attempts, at_most_once, queue, priority, source_name,
  idempotency_key, depth, ready_at, callbacks IS NOT NULL, trace"""

OF_VERDICT = f"SELECT {FACTS} FROM jobs_job WHERE id = ANY(%s::uuid[]) AND state = 'running' AND worker = %s"

# No lock is kept between reading and writing: what counts is the fence of the write.
LEFT_OVER = f"""SELECT {FACTS} FROM jobs_job
WHERE state = 'running' AND worker = %s AND NOT claimer = ANY(%s::bigint[]) AND NOT id = ANY(%s::uuid[])
LIMIT {BATCH}"""

OF_WORKER = f"SELECT {FACTS} FROM jobs_job WHERE state = 'running' AND worker = %s LIMIT {BATCH}"

# The database's clock says which heartbeat is old.
SILENT = """SELECT id, heartbeat_at, name FROM jobs_worker
WHERE heartbeat_at < statement_timestamp() - %s * interval '1 second' AND id <> %s"""

# The value that was read is the guard: a worker that has beaten since stays.
BURY = "DELETE FROM jobs_worker WHERE id = %s AND heartbeat_at = %s RETURNING id"

# Workers that have running jobs and no row: buried before their jobs were all taken back.
STRAY = """SELECT DISTINCT job.worker FROM jobs_job AS job
WHERE job.state = 'running' AND NOT EXISTS (SELECT 1 FROM jobs_worker AS w WHERE w.id = job.worker)"""

# A pooler lends the sessions it has named for a slot to others who name none, and would have these ended. It is known
# by the pid it makes up for us; then nobody is ended, and the server has to notice by itself that a client is gone.
END_SESSIONS = """SELECT count(pg_terminate_backend(pid, 1000)) FROM pg_stat_activity
WHERE application_name = %s AND pid <> pg_backend_pid() AND pg_backend_pid() = %s"""


class Held(NamedTuple):
    """A running row."""

    id: UUID
    task: str
    lease: int
    claimer: int
    attempts: int
    crashes: int
    max_attempts: int
    at_most_once: bool
    queue: str
    priority: int
    source_name: str
    idempotency_key: str
    depth: int
    ready_at: datetime | None
    calls_back: bool
    trace: str | None


def carry_out(session: Session, fated: Sequence[Fated], worker: int, settings: JobsSettings) -> None:
    """Write what the supervisor saw happen to the jobs of a dead slot."""
    if not fated:
        return
    fates = {(UUID(one.job), one.lease, one.claimer): one for one in fated}
    held = read(session.run(Query(OF_VERDICT, ([key[0] for key in fates], worker))))
    _write(
        session,
        held,
        [_sentence(job, one, settings) for job in held if (one := fates.get((job.id, job.lease, job.claimer)))],
        worker,
    )


def hand_back_left_over(
    session: Session, claimers: Sequence[int], running: Sequence[UUID], worker: int, settings: JobsSettings
) -> int:
    """Hand back this worker's rows that no slot on the board has: claims whose answer was lost, jobs of the dead."""
    held = read(session.run(left_over(worker, claimers, running)))
    hand_back(session, held, worker, settings)
    return len(held)


def left_over(worker: int, claimers: Sequence[int], running: Sequence[UUID]) -> Query:
    """The query for those rows; read its rows with `read`."""
    return Query(LEFT_OVER, (worker, list(claimers), list(running)))


def hand_back(session: Session, held: Sequence[Held], worker: int, settings: JobsSettings) -> None:
    """Give them to other slots, nothing charged."""
    _write(session, held, [decide(job, Happened.HANDED_BACK, settings) for job in held], worker)


def silent(worker: int, settings: JobsSettings) -> Query:
    """The query for the other workers whose heartbeat is old."""
    return Query(SILENT, (settings.DEAD_AFTER, worker))


class Watch:
    """Finds other workers that have died, and takes their jobs back.

    A heartbeat counts as the last one when the database's clock calls it old and this process has seen it unchanged
    for a while by its own monotonic clock: a clock that jumps kills nobody.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[object, float]] = {}
        self._looks = count()

    def look(self, session: Session, worker: int, settings: JobsSettings) -> list[str]:
        """One look; returns the names of the workers buried now."""
        return self.judge(session, session.run(silent(worker, settings)), settings)

    def judge(self, session: Session, quiet: list[Row], settings: JobsSettings) -> list[str]:
        """The same with the rows of `silent` at hand."""
        now = time.monotonic()
        seen = {number: (beat, name) for number, beat, name in quiet}
        self._seen = {
            number: self._seen[number] if self._seen.get(number, (None,))[0] == beat else (beat, now)
            for number, (beat, _) in seen.items()
        }
        buried = []
        for number, (beat, since) in self._seen.items():
            if now - since >= 2 * settings.HEARTBEAT and session.run(Query(BURY, (number, beat))):
                buried.append(str(seen[number][1]))
                logger.warning("worker %s (%s) is gone; taking its jobs back", number, seen[number][1])
        if buried or next(self._looks) % STRAYS_EVERY == 0:
            for (gone,) in session.run(Query(STRAY)):
                self._take_back(session, gone, settings)
        return buried

    def _take_back(self, session: Session, gone: int, settings: JobsSettings) -> None:
        trouble = Trouble(f"its worker ({gone}) was lost")
        while held := read(session.run(Query(OF_WORKER, (gone,)))):
            _write(session, held, [decide(job, Happened.LOST, settings, trouble=trouble) for job in held], gone)


def end_sessions(session: Session, name: str) -> None:
    """End every database session of that name: SIGKILL of a client does not stop what the server does for it.

    SQLite is in the client, and has died with it."""
    if session.vendor != "postgresql":
        return
    try:
        session.run(Query(END_SESSIONS, (name, session.connection.info.backend_pid)), durable=False)
    except faults.ANY as error:
        if not session.connected:
            raise
        logger.warning("could not end the database sessions of %s: %s", name, str(error).strip())


def read(rows: list[Row]) -> list[Held]:
    return [Held._make(row) for row in rows]


def _write(session: Session, held: Sequence[Held], outcomes: Sequence[Outcome], worker: int) -> None:
    if outcomes:
        queries = finish(outcomes, worker)
        if any(outcome.state == "ready" for outcome in outcomes):
            queries.insert(0, Query(f"NOTIFY {CHANNEL}"))
        ids = written(session.run_all(queries))
        tell(outcomes, ids)
        if trace.spans is not None:
            trace.spans.taken_back(held, outcomes, ids)


def _sentence(job: Held, one: Fated, settings: JobsSettings) -> Outcome:
    happened = Happened(one.happened)
    trouble = Trouble(clean(one.error, 2000), clean(one.stack, 20_000))
    started = time.monotonic() - one.ran
    wait = _wait_after_timeout(job, one.error, settings) if happened is Happened.TIMED_OUT else None
    return decide(job, happened, settings, trouble=trouble, result="null", started=started, retry_in=wait)


def _wait_after_timeout(job: Held, error: str, settings: JobsSettings) -> float | None:
    """The task's policy for a timeout. Its backoff function is the application's code and may hang: it gets 1 s."""
    task = registry.get(job.task)
    default = jittered(wait_of(settings.BACKOFF, job.attempts + 1), settings.BACKOFF_JITTER)
    if task is None:
        return default
    answer: list[float | None] = [default]
    context = JobContext(
        job.id,
        job.idempotency_key,
        job.attempts + 1,
        job.max_attempts,
        job.task,
        job.queue,
        job.priority,
        job.source_name or job.task,
        job.depth,
        job.lease,
        job.claimer,
    )

    def ask() -> None:
        try:
            answer[0] = retry_wait(task, TimedOut(error), context, settings)
        except Exception:
            logger.warning("the backoff function of %s raised", job.task, exc_info=True)

    if not callable(task.backoff):
        ask()
        return answer[0]
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(1.0)
    return answer[0]
