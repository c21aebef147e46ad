"""Execute an atomic task: its writes, the jobs it enqueues, its result and its completion are one transaction.

It takes a claimed job and Django's connection to the queue's database; it leaves everything committed together, or
nothing. The completion is fenced like every other, so a worker that has lost its lease commits nothing of what the task
has done. A crash before the commit leaves the job running, for the keeper to find; after it the job is in the history.
"""

from __future__ import annotations

import logging
from typing import Any

from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from jobs import trace
from jobs.claim import Claimed
from jobs.conf import JobsSettings
from jobs.errors import TimeLimit
from jobs.execute import context_of, execute, failed
from jobs.finish import finish, tell
from jobs.outcome import Happened, Outcome, Trouble, decide
from jobs.tasks import Task
from outbox.ask import ask, writing
from outbox.text import describe
from outbox.wake import IDLE, IN_TRANSACTION

logger = logging.getLogger("jobs")

# A role with it off would lose what it has acknowledged in a crash of the server; here that is a completed job.
DURABLE = """SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"""

TRIES = 3
"""Times a task is called within one attempt when the database could not serialize its transaction."""


class Undo(Exception):
    """Roll back: the task did not succeed, or the job is no longer ours."""


class Spoiled(Exception):
    """The task has tampered with the transaction it runs in."""


def execute_atomic(
    job: Claimed, task: Task[Any, Any], settings: JobsSettings, started: float, worker: int
) -> Outcome | None:
    """Call the task and write its success in one transaction; None where nothing is left to be written.

    The Outcome that it answers otherwise has still to be written, after the rollback. TimeLimit passes through.
    """
    for left in reversed(range(TRIES)):
        try:
            return _once(job, task, settings, started, worker)
        except OperationalError as error:
            # Nothing of it is left, neither on this side nor on the server: calling it again is the same attempt.
            if left and _sqlstate(error) in ("40001", "40P01"):
                continue
            return failed(job, task, settings, context_of(job), error, started)
    raise AssertionError("the last try returns")


def _once(job: Claimed, task: Task[Any, Any], settings: JobsSettings, started: float, worker: int) -> Outcome | None:
    connection = connections[settings.DATABASE]
    committed: list[bool] = []
    used = Used()
    written = False
    outcome: Outcome | None = None
    raw: Any = None
    try:
        with writing(connection.alias):
            raw = connection.connection
            transaction.on_commit(lambda: committed.append(True), using=connection.alias)  # before any hook of the task
            with connection.execute_wrapper(used):
                outcome = execute(job, task, settings, started)
            if outcome.state != "succeeded":
                raise Undo
            _check(connection, begun=used.at_all)
            written = _write(connection, outcome, worker)
            if not written:
                raise Undo
    except Undo:
        if outcome is not None and outcome.state != "succeeded":
            return outcome
        tell([outcome] if outcome is not None else [], set())
        if trace.spans is not None:
            trace.spans.stale = True
        return None
    except TimeLimit:
        raise
    except BaseException as error:
        if committed:
            logger.error("job %s of %s: a hook after its commit raised", job.id, job.task, exc_info=error)
        elif written and _gone(connection, raw):
            return _in_doubt(job, settings, started, error)
        elif isinstance(error, OperationalError) and raw is not None and not _gone(connection, raw):
            raise  # it may be one to call the task again for
        else:
            return failed(job, task, settings, context_of(job), error, started)
    if committed:
        tell([outcome] if outcome is not None else [], {job.id})
        return None
    spoiled = Spoiled("the task ended the transaction it ran in; nothing of it counts")
    return failed(job, task, settings, context_of(job), spoiled, started)


class Used:
    """Whether a task has used its connection: the transaction begins on the server with the first statement."""

    at_all = False

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        self.at_all = True
        return execute(sql, params, many, context)


def _check(connection: BaseDatabaseWrapper, *, begun: bool) -> None:
    """The transaction that the task was called in must still be the one that is open."""
    if connection.needs_rollback:
        raise Spoiled("the task has marked its transaction for rollback: raise an error instead")
    raw: Any = connection.connection
    if not connection.in_atomic_block or raw is None or not _open(connection.vendor, raw, begun=begun):
        raise Spoiled("the task has ended the transaction it runs in: an atomic task must not commit or roll back")


def _open(vendor: str, raw: Any, *, begun: bool) -> bool:
    """Whether the connection is in a transaction that nothing has spoiled; one that has not begun is as good."""
    if vendor == "sqlite":
        return bool(raw.in_transaction)
    return raw.info.transaction_status in ((IN_TRANSACTION,) if begun else (IN_TRANSACTION, IDLE))


def _gone(connection: BaseDatabaseWrapper, raw: Any) -> bool:
    """Whether the connection was lost. That to SQLite is a file, and is not."""
    return connection.vendor != "sqlite" and bool(raw.closed)


def _write(connection: BaseDatabaseWrapper, outcome: Outcome, worker: int) -> bool:
    (query,) = finish([outcome], worker)
    ask(connection.alias, DURABLE)
    return len(ask(connection.alias, query.sql, query.params)) == 1


def _in_doubt(job: Claimed, settings: JobsSettings, started: float, error: BaseException) -> Outcome:
    """The connection was lost while the transaction committed.

    Never decided by a look: the fenced write of this outcome waits for the end of the old transaction. Where that has
    committed, the job is in the history and nothing is written; where not, nothing of the task is left and it runs
    again, charged as a crash so that it cannot go on for ever.
    """
    trouble = Trouble(f"the connection was lost while it committed: {describe(error)}")
    return decide(job, Happened.CRASHED, settings, trouble=trouble, started=started)


def _sqlstate(error: BaseException) -> str:
    return str(getattr(error.__cause__, "sqlstate", ""))
