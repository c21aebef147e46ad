"""A handle on one job: its id at once, its state and its result when asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from uuid import UUID

from asgiref.sync import sync_to_async

from jobs.conf import jobs_settings
from jobs.errors import JobDoesNotExist, ResultMissing
from jobs.models import FinishedJob, Job, State
from outbox.models import Message, SetAsideMessage

if TYPE_CHECKING:
    from jobs.tasks import Task

R = TypeVar("R")


class JobHandle(Generic[R]):
    """What `enqueue` returns.

    `id` is known before the commit and never changes. `status`, `return_value`, `attempts` and `error` are as of the
    last `refresh()`; the first look refreshes by itself.
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
    def return_value(self) -> R:
        """What the task returned; raises ResultMissing unless the job has succeeded and its result was kept."""
        if self.status is not State.SUCCEEDED:
            raise ResultMissing(f"Job {self.id} has no return value: it is {self.status.value}. Call refresh() later.")
        record = cast(FinishedJob, self._record)
        if record.result is None:
            raise ResultMissing(f"Job {self.id} succeeded, but {record.error or 'its result was not kept'}.")
        return cast(R, json.loads(record.result))
