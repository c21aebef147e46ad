"""A slot: the process that executes jobs, one sync job at a time and many async ones beside it.

Its main thread claims a batch, calls one job after the other and writes what became of them; while it is in a job, a
second thread writes for it. What a job does to this process
(a hang, a crash, the GIL held for ever) concerns this process alone: the supervisor sees it on the board and acts.
"""

from __future__ import annotations

import logging
import math
import signal
import sys
import threading
import time
import traceback
from typing import Any

from jobs import trace
from jobs.afterwards import afterwards
from jobs.aio import AsyncSide, Placed
from jobs.announce import begun, drain
from jobs.atomic import execute_atomic
from jobs.board import Board
from jobs.claim import Claimed, Lanes
from jobs.conf import JobsSettings
from jobs.connections import prepare_connections, tidy_connections
from jobs.declare import registry
from jobs.errors import TimeLimit
from jobs.execute import execute, timeout_of
from jobs.hear import listen
from jobs.notebook import notebook
from jobs.outcome import Happened, Outcome, Trouble, decide
from jobs.pump import SAFETY_POLL, Pump
from jobs.tasks import Task
from outbox import loop

logger = logging.getLogger("jobs")

UNKNOWN_SAID_EVERY = 60.0

STACK_BEFORE = 0.25
"""Seconds before its limit at which a job's stack is noted: where it was when it was killed."""


class Slot:
    """Takes jobs from the pump and executes them until drained."""

    def __init__(self, board: Board, number: int, name: str, lanes: Lanes, settings: JobsSettings) -> None:
        self._board = board
        self._child = board.slots[number]
        self._name = name
        self._settings = settings
        self._pump = Pump(board, number, lanes, settings)
        self._pump.watch = self._watch
        self._async: AsyncSide | None = None
        self._held: threading.Event | None = None
        self._noted = 0
        self._unknown_said: dict[str, float] = {}
        self._main = threading.get_ident()

    def run(self) -> int:
        """The life of the process."""
        begun("slot")
        prepare_connections(self._name, self._settings.CONN_MAX_AGE)
        listen(self._settings)
        notebook.ring = self._pump.ring
        afterwards.begin(lambda: self._board.worker, tidy_connections)
        signal.signal(signal.SIGTERM, self._at_limit)
        pump = self._pump
        minding = threading.Thread(target=self._mind, name="jobs-pump", daemon=True)
        minding.start()
        try:
            loop.run("slot", self._turn, wait=pump.wait, stopping=lambda: pump.finished, on_error=pump.doubt)
        except TimeLimit:
            self._park()
        pump.close()
        drain()
        minding.join(5)
        afterwards.end()
        if trace.spans is not None:
            trace.spans.flush()
        return 0

    def _mind(self) -> None:
        # SIGTERM is for the main thread, where it can interrupt the job.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self._pump.mind()

    def _turn(self) -> float:
        """Execute what was claimed, then exchange outcomes for more; answers how long there is nothing to do."""
        while (taken := self._take()) is not None:
            self._execute(*taken)
        pause = self._pump.step()
        if not self._pump.waits_to_be_written:
            self._child.all_written()
        if self._held is not None and self._held.is_set():
            self._held = None
            self._child.end(0)
        return pause

    def _take(self) -> tuple[Claimed, Task[Any, Any], float] | None:
        """The next sync job, on the board; the async ones before it are put on the event loop."""
        pump = self._pump
        if not pump.buffer:
            return None
        found, placed = None, []
        with pump.taking:
            while found is None and (job := self._pop()) is not None:
                task = registry.get(job.task)
                if task is None:
                    pump.done.append(self._unknown(job))
                elif task.is_async and pump.free_places:
                    placed.append(self._place(job, task))
                elif task.is_async:  # the loop takes it when a place is free, or it is handed back in time
                    pump.buffer.appendleft(job)
                    break
                else:
                    started = time.monotonic()
                    deadline = started + timeout_of(job, task, self._settings)
                    self._child.begin(0, job.id, job.lease, job.claimer, started, deadline)
                    pump.busy_since = started
                    found = job, task, started
        if placed:
            self._on_loop(placed)
        return found

    def _execute(self, job: Claimed, task: Task[Any, Any], started: float) -> None:
        outcome: Outcome | None
        span = None if trace.spans is None else trace.spans.begin(job)
        if task.atomic:
            outcome = execute_atomic(job, task, self._settings, started, self._board.worker)
            if job.calls_back and outcome is None:
                self._board.wake_mover()
        else:
            outcome = execute(job, task, self._settings, started)
        tidy_connections()
        if (doomed := self._child.doomed) and (here := self._child.at(0)) is not None and here.turn == doomed:
            raise TimeLimit  # it swallowed the one it got and returned: too late all the same
        if span is not None:
            span.end(outcome)
        pump = self._pump
        if outcome is not None:
            if outcome.state == "succeeded":
                self._child.ended(job.id, job.lease, job.claimer, outcome.result == "null")
            pump.done.append(outcome)
        if outcome is not None and job.at_most_once:
            self._hold(job, started)
        else:
            self._child.end(0)
        pump.worked += time.monotonic() - started
        pump.ran += 1
        pump.busy_since = None

    def _hold(self, job: Claimed, started: float) -> None:
        """Keep an at_most_once job on the board until its outcome is written: should this process die before, what
        is on the board has run, and what is not has never started."""
        # Its limit is for the task, which has ended; the database may take its time.
        self._child.begin(0, job.id, job.lease, job.claimer, started, math.inf)
        self._held = self._pump.awaited[job.id] = threading.Event()

    def _pop(self) -> Claimed | None:
        try:
            return self._pump.buffer.popleft()
        except IndexError:  # the pump handed it back just now
            return None

    # Async jobs ---------------------------------------------------------------------------------------------------

    def _place(self, job: Claimed, task: Task[Any, Any]) -> Placed:
        place = self._pump.free_places.popleft()
        started = time.monotonic()
        deadline = started + timeout_of(job, task, self._settings)
        self._child.begin(place, job.id, job.lease, job.claimer, started, deadline)
        return Placed(job, task, place, started, deadline)

    def _on_loop(self, placed: list[Placed]) -> None:
        if self._async is None:
            self._async = AsyncSide(self._child, self._settings, self._async_done)
        self._async.start(placed)

    def _async_done(self, place: int, outcome: Outcome) -> Placed | None:
        """An async job has ended; the next one, if it is its turn. Called in the thread of the event loop."""
        pump = self._pump
        self._child.end(place)
        first = not pump.done
        pump.done.append(outcome)
        pump.async_ended += 1
        with pump.taking:
            pump.free_places.append(place)
            placed = self._next_async()
        pump.ring_if_low(first=first or placed is None)
        return placed

    def _next_async(self) -> Placed | None:
        job = self._pop()
        if job is None:
            return None
        task = registry.get(job.task)
        if task is None or not task.is_async:
            self._pump.buffer.appendleft(job)  # the main thread's
            return None
        self._pump.moved_at = time.monotonic()
        return self._place(job, task)

    # Trouble ------------------------------------------------------------------------------------------------------

    def _unknown(self, job: Claimed) -> Outcome:
        now = time.monotonic()
        if now - self._unknown_said.get(job.task, -UNKNOWN_SAID_EVERY) >= UNKNOWN_SAID_EVERY:
            self._unknown_said[job.task] = now
            logger.warning(
                "no task %r here: its jobs wait for a worker that knows it. An old worker in a deploy? Else declare it"
                " in a tasks.py of an installed app.",
                job.task,
            )
        return decide(job, Happened.UNKNOWN, self._settings, trouble=Trouble("no worker here knows this task"))

    def _watch(self) -> float:
        """Note where the job is just before its limit, while somebody still can. Runs in the pump's thread."""
        running = self._child.at(0)
        if running is None:
            return SAFETY_POLL
        margin = min(STACK_BEFORE, 0.25 * (running.deadline - running.started))
        left = running.deadline - margin - time.monotonic()
        if left > 0:
            return min(left, SAFETY_POLL)
        if running.turn != self._noted:
            self._noted = running.turn
            frame = sys._current_frames().get(self._main)  # noqa: SLF001
            stack = "".join(traceback.format_stack(frame)[-30:]) if frame is not None else ""
            self._child.note(stack)
            logger.warning(
                "job %s is about to be killed at its limit of %.3g s", running.job, running.deadline - running.started
            )
        return SAFETY_POLL

    def _at_limit(self, *_: object) -> None:
        """SIGTERM from the supervisor: raise in the job that is at its limit, and only there."""
        running = self._child.at(0)
        if running is not None and running.turn == self._child.doomed:
            raise TimeLimit(f"the job is at its limit of {running.deadline - running.started:g} s, or was cancelled")
        if self._async is not None:
            self._async.cancel(self._child.doomed)

    def _park(self) -> None:
        """The job has unwound. Write what others have done, then wait to be killed with everything it left."""
        self._pump.parked = True
        until = time.monotonic() + 0.5
        loop.run(
            "slot",
            self._pump.step,
            wait=lambda _: time.sleep(0.005),
            stopping=lambda: self._pump.written_out or time.monotonic() > until,
            on_error=self._pump.doubt,
        )
        self._child.doomed = -1
        while True:
            signal.pause()
