"""A handle on one job: its id at once, its state and its result when asked for."""

from __future__ import annotations

import asyncio
import json
import math
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections

from jobs.conf import jobs_settings
from jobs.errors import JobDoesNotExist, JobsError, ResultMissing
from jobs.models import Attempt, FinishedJob, Job, Progress, State
from outbox.models import Message, SetAsideMessage

if TYPE_CHECKING:
    from jobs.tasks import Task

R = TypeVar("R")

FIRST_LOOK, LONGEST_PAUSE = 0.02, 0.5


class JobError(NamedTuple):
    """One try that did not succeed."""

    attempt: int
    kind: str
    """failed, timed_out, crashed or lost."""
    error: str
    """In one line."""
    traceback: str
    ended_at: datetime


class JobProgress(NamedTuple):
    """How far a job was when it last said so."""

    done: float
    total: float | None
    text: str
    at: datetime
    rate: float | None
    """Per second, since the attempt first said something."""

    @property
    def share(self) -> float | None:
        """0 to 1; None where nobody knows how much there is."""
        return None if not self.total else max(0.0, min(1.0, self.done / self.total))

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far."""
        if not self.rate or self.total is None:
            return None
        return max(0.0, self.total - self.done) / self.rate


class JobHandle(Generic[R]):
    """What `enqueue` returns.

    `id` is known before the commit and never changes. `status`, `return_value`, `attempts` and `error` are as of the
    last `refresh()`; the first look refreshes by itself. `errors` and `progress` look anew each time.
    """

    __slots__ = ("_record", "_state", "database", "id", "task")

    def __init__(self, job_id: UUID, task: Task[Any, R], database: str | None) -> None:
        self.id = job_id
        self.task = task
        self.database = database
        self._state: State | None = None
        self._record: Job | FinishedJob | None = None

    def __repr__(self) -> str:
        return f"<JobHandle {self.id} {self.task.name} {self._state.value if self._state else 'not looked up'}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def refresh(self) -> None:
        """Look the job up now; raises JobDoesNotExist where it is nowhere."""
        # In the order a job moves, so that one on its way is met at its next home; twice, because a requeue by a
        # person moves it the other way.
        for _ in range(2):
            if self._look():
                return
        raise JobDoesNotExist(
            f"There is no job {self.id} of {self.task.name}: its transaction was rolled back, or it was discarded or"
            " pruned from the history."
        )

    async def arefresh(self) -> None:
        """`refresh` for async code."""
        await sync_to_async(self.refresh)()

    def _look(self) -> bool:
        queue = jobs_settings().DATABASE
        outbox = self.database or queue
        self._state = self._record = None
        written = Message.objects.using(outbox).filter(uid=self.id).exists()
        self._record = Job.objects.using(queue).filter(pk=self.id).first()
        if self._record is None:
            self._record = FinishedJob.objects.using(queue).filter(pk=self.id).first()
        if self._record is not None:  # a message as well: the same idempotency key, enqueued again
            self._state = State(self._record.state)
            return True
        if written:
            self._state = State.WRITTEN
            return True
        if SetAsideMessage.objects.using(outbox).filter(uid=self.id).exists():
            self._state = State.SET_ASIDE
            return True
        return False

    def wait(self, timeout: float | None = None) -> bool:
        """Look again and again until the job has ended; False where it has not within `timeout` seconds.

        Raises JobsError inside a transaction, whose jobs only start after its commit, and JobDoesNotExist.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        pause = FIRST_LOOK
        while not self._look_at_end() and time.monotonic() < until:
            time.sleep(min(pause, max(0.0, until - time.monotonic())))
            pause = min(LONGEST_PAUSE, pause * 1.5)
        return self.is_finished

    async def await_end(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """`wait` for async code."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        pause = FIRST_LOOK
        while not await sync_to_async(self._look_at_end)() and time.monotonic() < until:
            await asyncio.sleep(min(pause, max(0.0, until - time.monotonic())))
            pause = min(LONGEST_PAUSE, pause * 1.5)
        return self.is_finished

    def _look_at_end(self) -> bool:
        if connections[self.database or jobs_settings().DATABASE].in_atomic_block:
            raise JobsError(
                f"wait() inside a transaction would never end: job {self.id} starts only after the commit. Call it"
                " after the atomic block."
            )
        self.refresh()
        return self.is_finished

    @property
    def status(self) -> State:
        """Where the job is: see `jobs.models.State`."""
        if self._state is None:
            self.refresh()
        return cast(State, self._state)

    @property
    def is_finished(self) -> bool:
        """It has ended and will not run again by itself."""
        return self.status in (State.SUCCEEDED, State.DEAD, State.CANCELLED)

    @property
    def attempts(self) -> int:
        """Attempts spent so far."""
        return self._record.attempts if self.status and self._record else 0

    @property
    def error(self) -> str:
        """The last error in one line; empty when there was none."""
        return self._record.error if self.status and self._record else ""

    @property
    def errors(self) -> list[JobError]:
        """Every try that did not succeed, the first one first, as of now."""
        rows = Attempt.objects.using(jobs_settings().DATABASE).filter(job=self.id).order_by("lease")
        return [JobError(row.number, row.kind, row.error, row.traceback, row.ended_at) for row in rows]

    @property
    def progress(self) -> JobProgress | None:
        """How far it says it is, as of now; None where it has said nothing."""
        row = Progress.objects.using(jobs_settings().DATABASE).filter(pk=self.id).first()
        return None if row is None else progress_of(row)

    async def aerrors(self) -> list[JobError]:
        """`errors` for async code."""
        return await sync_to_async(lambda: self.errors)()

    async def aprogress(self) -> JobProgress | None:
        """`progress` for async code."""
        return await sync_to_async(lambda: self.progress)()

    @property
    def return_value(self) -> R:
        """What the task returned; raises ResultMissing unless the job has succeeded and its result was kept."""
        if self.status is not State.SUCCEEDED:
            raise ResultMissing(f"Job {self.id} has no return value: it is {self.status.value}. Call refresh() later.")
        record = cast(FinishedJob, self._record)
        if record.result is None:
            raise ResultMissing(f"Job {self.id} succeeded, but {record.error or 'its result was not kept'}.")
        return cast(R, json.loads(record.result))


def progress_of(row: Progress) -> JobProgress:
    """A row of `jobs_progress`, for people."""
    took = (row.at - row.began_at).total_seconds()
    return JobProgress(row.done, row.total, row.text, row.at, row.done / took if took > 0 and row.done > 0 else None)
