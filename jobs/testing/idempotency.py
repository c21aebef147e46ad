"""Prove that a task may be run twice: kill it at each point where it commits, run it again, compare the database.

A worker that dies between a commit and the record of its job runs the task a second time. What such a second run may
find is exactly what the commits before the kill have left, so these are the points to try. Each run is a process of
its own, and the kill is real.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from jobs.context import current
from jobs.ids import new_id
from jobs.tasks import Task
from jobs.testing import snapshot
from jobs.testing.given import AnyTask, as_job_task

READS = ("SELECT", "SHOW", "SET", "SAVEPOINT", "RELEASE", "ROLLBACK", "EXPLAIN", "PRAGMA")


class Ran(NamedTuple):
    """How one run of the task ended."""

    points: int
    """Commits it came to."""
    error: str
    killed: bool


def assert_idempotent(
    task: AnyTask, *args: Any, using: str = "default", ignore: Collection[str] = (), **kwargs: Any
) -> int:
    """Raise AssertionError unless a second run of `task(*args, **kwargs)` after a kill at any of its commits leaves the
    database as one undisturbed run does; returns the number of points at which it was killed.

    It needs a database that commits (TransactionTestCase, pytest-django's `transactional_db`) and an operating system
    that forks. Rows of all apps on the alias `using` are compared, and the jobs that were enqueued; numbers from
    sequences and the current time may differ, and so may `ignore`: names such as "shop.Order.token". Effects outside
    the database are not seen: give them `context.idempotency_key`.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        raise AssertionError(
            "assert_idempotent needs a database that commits: use TransactionTestCase, or transactional_db in pytest."
        )
    since = timezone.now()
    task = as_job_task(task)
    call = Call(task, args, kwargs, new_id(), using)
    before = snapshot.take(using)
    try:
        whole = call.run(kill_at=None)
        if whole.error:
            raise AssertionError(f"{task.name} raised when nobody disturbed it:\n{whole.error}")
        expected = snapshot.take(using)
        # Killed after its last commit an atomic task has ended with it, and is never run again.
        points = range(1, whole.points + (1 if task.atomic else 2))
        for point in points:
            where = f"killed just before commit {point}" if point <= whole.points else "killed after its last commit"
            snapshot.put_back(using, before)
            call.run(kill_at=point)
            again = call.run(kill_at=None)
            if again.error:
                raise AssertionError(f"{task.name}, {where}, raised when it was run again:\n{again.error}")
            found = snapshot.differences(expected, snapshot.take(using), since=since, ignore=ignore)
            if found:
                lines = "\n  ".join(found[:20])
                raise AssertionError(
                    f"{task.name} is not idempotent: {where} and run again, it left other rows than one run does:\n"
                    f"  {lines}"
                )
        return len(points)
    finally:
        snapshot.put_back(using, before)


class Call(NamedTuple):
    """The task with its arguments, as one job would have it on every attempt."""

    task: Task[Any, Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    job_id: UUID
    alias: str

    def run(self, kill_at: int | None) -> Ran:
        """Run it in a process of its own, which kills itself before its n-th commit (or at its end)."""
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads: the child takes up none
            pid = os.fork()
        if not pid:
            os.close(reader)
            self._in_child(writer, kill_at)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            return Ran(kill_at or 0, "", killed=True)
        points, error = json.loads(said)
        return Ran(points, error, killed=False)

    def _in_child(self, writer: int, kill_at: int | None) -> None:
        points, error = 0, ""

        def commits() -> None:
            nonlocal points
            points += 1
            if points == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        inherited = []
        try:
            for connection in connections.all(initialized_only=True):
                inherited.append(connection.connection)  # the parent's: neither used nor closed here
                connection.connection = None
            with ExitStack() as stack:
                _watch(connections[self.alias], commits, stack)
                self._execute()
            if kill_at is not None:
                commits()
        except BaseException:
            error = traceback.format_exc()
        finally:
            os.write(writer, json.dumps([points, error[-20_000:]]).encode())
            os._exit(0)

    def _execute(self) -> None:
        task = self.task
        context = task.context(self.job_id)
        token = current.set(context)
        try:
            task.run_with(context, self.args, self.kwargs)
        finally:
            current.reset(token)


def _watch(connection: Any, commits: Callable[[], None], stack: ExitStack) -> None:
    """Have `commits` called just before each commit of the connection."""
    base: Any = BaseDatabaseWrapper
    commit = base._commit  # noqa: SLF001  both atomic() and commit() come through here

    def committing(self: Any) -> Any:
        if self is connection:
            commits()
        return commit(self)

    base._commit = committing  # noqa: SLF001
    stack.callback(setattr, base, "_commit", commit)

    def executing(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if not connection.in_atomic_block and not sql.lstrip().upper().startswith(READS):
            commits()  # outside a transaction the statement is its own commit
        return execute(sql, params, many, context)

    stack.enter_context(connection.execute_wrapper(executing))
