"""Run jobs here and now, on the connection of the test: also in a TestCase, whose transaction never commits.

It takes what stands in the outbox and in the queue; it leaves what the relay and a worker would have left, by the same
statements, in the test's own transaction. What a worker does from outside has no part in it: no time limit, no kill, no
lease that is lost.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

from asgiref.sync import async_to_sync
from django.db import connections, router, transaction

from jobs import claim as claims
from jobs import trace
from jobs.afterwards import afterwards
from jobs.claim import Claimed, Lanes
from jobs.conf import jobs_settings
from jobs.declare import registry
from jobs.errors import JobsError
from jobs.execute import execute, execute_async
from jobs.finish import finish
from jobs.journal import said_in
from jobs.notebook import notebook
from jobs.outcome import Outcome
from jobs.promote import promote
from jobs.tasks import Task
from outbox import relay
from outbox.ask import ask
from outbox.models import Message
from outbox.relay import Written, destination
from outbox.session import Query, Row

BATCH = 500
WORKER = 0
"""No worker has this number."""

EVERYTHING_IS_DUE = """UPDATE jobs_job SET run_after = clock_timestamp() WHERE state IN ('scheduled', 'retrying')
AND run_after > clock_timestamp()"""

MOST = 10_000


@dataclass
class Ran:
    """What `run_jobs` did."""

    outcomes: list[Outcome] = field(default_factory=list)
    """One for each attempt, in the order in which they ran: `.id`, `.task`, `.state`, `.error` and more."""

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def states(self) -> dict[str, int]:
        """How many attempts led to which state: {"succeeded": 3, "retrying": 1}."""
        return dict(Counter(outcome.state for outcome in self.outcomes))


def run_jobs(*, raise_errors: bool = True, later: bool = False, most: int = MOST) -> Ran:
    """Relay what is in the outbox and run every job that may run now, those too that these enqueue.

    `raise_errors`: the exception of a job that failed is raised here, after its outcome was written; with False the
    jobs go on, and the outcomes say what happened. `later`: run what is scheduled or waits for a retry as well, as if
    its time had come. `most`: attempts after which jobs that enqueue jobs without end raise JobsError. A task that
    no `tasks.py` declares raises JobsError, and so does a message that cannot be relayed.
    """
    ran = Ran()
    while True:
        _relay()
        if later:
            _run(Query(EVERYTHING_IS_DUE))
        _run(promote(BATCH)[0])
        claimed = _claim()
        if not claimed:
            return ran
        for job in claimed:
            if len(ran) >= most:
                raise JobsError(f"run_jobs has run {most:,} attempts and there are more: a chain without an end?")
            outcome, error = _attempt(job)
            ran.outcomes.append(outcome)
            if error is not None and raise_errors:
                raise error


def _run(query: Query, alias: str | None = None) -> list[Row]:
    return ask(alias or jobs_settings().DATABASE, query.sql, query.params)


def _relay() -> None:
    outbox = router.db_for_write(Message)
    with transaction.atomic(using=outbox):
        while taken := sorted(map(Written._make, _run(Query(relay.MOVE, (0, BATCH)), outbox))):
            delivery = destination()(taken)
            for query in delivery.queries:
                _run(query)
            if delivery.rejected:
                message, why = delivery.rejected[0]
                raise JobsError(f"message {message.uid} cannot be relayed: {why}")


def _claim() -> list[Claimed]:
    """One job, so that each sees what the one before has done, as with a single slot."""
    lanes = Lanes([])
    lanes.discovered(_run(Query(claims.DISCOVER)))
    if not lanes.queues:
        return []
    turn = lanes.next()
    return claims.read(_run(claims.claim(WORKER, random.getrandbits(62), turn, 1)), turn)


def _attempt(job: Claimed) -> tuple[Outcome, BaseException | None]:
    task = registry.get(job.task)
    if task is None:
        raise JobsError(f"no task {job.task!r} here: declare it in a tasks.py of an installed app.")
    raised: list[BaseException] = []
    settings, started = jobs_settings(), time.monotonic()
    span = None if trace.spans is None else trace.spans.begin(job)
    with _as_one(task.atomic) as undo:
        watched = replace(task, func=_watched(task, raised))
        if task.is_async:
            outcome = async_to_sync(execute_async)(job, watched, settings, started, lambda: False)
        else:
            outcome = execute(job, watched, settings, started)
        if task.atomic and outcome.state != "succeeded":
            undo()
    if span is not None:
        span.end(outcome)
    for query in [*said_in(notebook), *finish([outcome], WORKER)]:
        _run(query)
    if afterwards.waiting:
        afterwards.written([outcome], None)
    if outcome.state not in ("succeeded", "cancelled") and not raised:  # cancelled: its condition said no
        raised.append(JobsError(f"job {job.id} of {job.task} is {outcome.state}: {outcome.error}"))
    return outcome, raised[0] if raised else None


def _watched(task: Task[Any, Any], raised: list[BaseException]) -> Any:
    """The function, whose exception is put down as it passes."""
    if task.is_async:

        @wraps(task.func)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            try:
                return await task.func(*args, **kwargs)
            except BaseException as error:
                raised.append(error)
                raise

        return run_async

    @wraps(task.func)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return task.func(*args, **kwargs)
        except BaseException as error:
            raised.append(error)
            raise

    return run


@contextmanager
def _as_one(atomic: bool) -> Iterator[Any]:
    """Around the task: a transaction where it is atomic or the test has one open. It is undone when asked for, and when
    an error of the database has spoiled it, since the outcome has to be written."""
    connection = connections[jobs_settings().DATABASE]
    undone: list[bool] = []
    if not (atomic or connection.in_atomic_block):
        yield lambda: undone.append(True)
        return
    with transaction.atomic(using=connection.alias):
        yield lambda: undone.append(True)
        if undone or connection.needs_rollback or not _usable(connection):
            transaction.set_rollback(True, using=connection.alias)


def _usable(connection: Any) -> bool:
    raw = connection.connection
    return raw is None or connection.vendor != "postgresql" or raw.info.transaction_status.name != "INERROR"
