"""Execute `async def` jobs: many at once on one event loop, in a thread of the slot.

It takes claimed jobs with a place on the board; it leaves outcomes. At its limit a coroutine is cancelled; one that
does not end, or blocks the loop so that nothing can be cancelled, is the supervisor's to kill, and the board says
which coroutine the loop was in.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async

from jobs import trace
from jobs.board import Child
from jobs.claim import Claimed
from jobs.conf import JobsSettings
from jobs.connections import any_connection, tidy_connections
from jobs.execute import execute_async
from jobs.outcome import Happened, Outcome, Trouble, decide
from jobs.tasks import Task

logger = logging.getLogger("jobs")

WHILE = "cancelled while it ran"


class Placed(NamedTuple):
    """A job with its place on the board and its limit."""

    job: Claimed
    task: Task[Any, Any]
    place: int
    started: float
    deadline: float


class Stepper(Coroutine[Any, Any, None]):
    """A coroutine that shows on the board while the loop executes it, so that one that blocks can be named."""

    def __init__(self, inner: Coroutine[Any, Any, None], board: Child, place: int) -> None:
        self._inner = inner
        self._board = board
        self._place = place

    def send(self, value: Any) -> Any:
        self._board.step_begins(self._place)
        try:
            return self._inner.send(value)
        finally:
            self._board.step_ends()

    def throw(self, *error: Any) -> Any:
        self._board.step_begins(self._place)
        try:
            return self._inner.throw(*error)
        finally:
            self._board.step_ends()

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._inner.__await__()


class AsyncSide:
    """The event loop of a slot, and the coroutines on it."""

    def __init__(self, board: Child, settings: JobsSettings, done: Callable[[int, Outcome], Placed | None]) -> None:
        self._board = board
        self._settings = settings
        self._done = done
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._executing: dict[int, asyncio.Task[None]] = {}
        """By place; a task that tidies up after its job is no longer among them, and not to be cancelled."""
        self._cancelled: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="jobs-async", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # SIGTERM is for the main thread. Just after a stop the kernel may give it to any that takes it, and the main
        # one would sleep on without a look at what it is for.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def start(self, jobs: list[Placed]) -> None:
        """Start these jobs; called from the slot's main thread."""
        self._loop.call_soon_threadsafe(self._start, jobs)

    def _start(self, jobs: list[Placed]) -> None:
        for placed in jobs:
            task = self._loop.create_task(Stepper(self._execute(placed), self._board, placed.place))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._executing[placed.place] = task

    def cancel(self, turn: int) -> None:
        """Cancel the coroutine of that turn, because a person wants it; called from the slot's main thread."""
        for job in self._board.running():
            if job.turn == turn and job.place:
                self._loop.call_soon_threadsafe(self._cancel, job.place, turn)

    def _cancel(self, place: int, turn: int) -> None:
        running = self._board.at(place)
        if running is not None and running.turn == turn and place in self._executing:
            self._cancelled.add(place)
            self._executing[place].cancel()

    async def _execute(self, placed: Placed) -> None:
        late = False
        task = asyncio.current_task(self._loop)

        def limit() -> None:
            nonlocal late
            late = True
            if task is not None:
                task.cancel()

        timer = self._loop.call_later(placed.deadline - time.monotonic(), limit)
        span = None if trace.spans is None else trace.spans.begin(placed.job)
        outcome = await execute_async(placed.job, placed.task, self._settings, placed.started, lambda: late)
        timer.cancel()
        self._executing.pop(placed.place, None)
        if placed.place in self._cancelled:
            self._cancelled.discard(placed.place)
            if outcome.state != "succeeded":
                outcome = decide(
                    placed.job, Happened.CANCELLED, self._settings, trouble=Trouble(WHILE), started=placed.started
                )
        if span is not None:
            span.end(outcome)
        if any_connection():
            await sync_to_async(tidy_connections)()
        if (following := self._done(placed.place, outcome)) is not None:
            self._start([following])
