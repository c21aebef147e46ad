"""A slot: the process that executes jobs, one sync job at a time and many async ones beside it.

Its main thread takes the next job and calls it; its pump thread claims and writes. What a job does to this process
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

from jobs.aio import AsyncSide, Placed
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
        self._deadline = 0.0
        self._noted = 0
        self._unknown_said: dict[str, float] = {}
        self._main = threading.get_ident()

    def run(self) -> int:
        """The life of the process."""
        prepare_connections(self._name, self._settings.CONN_MAX_AGE)
        listen(self._settings)
        notebook.ring = self._pump.ring
        signal.signal(signal.SIGTERM, self._at_limit)
        pump = threading.Thread(target=self._run_pump, name="jobs-pump", daemon=True)
        pump.start()
        try:
            while not self._pump.finished:
                self._turn()
        except TimeLimit:
            self._park()
        pump.join(5)
        return 0

    def _run_pump(self) -> None:
        # SIGTERM is for the main thread, where it can interrupt the job.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self._pump.run()

    def _turn(self) -> None:
        """Take and execute one job, or wait for one."""
        pump = self._pump
        pump.filled.clear()
        job, task, started, placed = None, None, 0.0, []
        with pump.taking:
            pump.busy_since = None
            while pump.buffer and job is None:
                taken = self._pop()
                task = registry.get(taken.task) if taken is not None else None
                if taken is None:
                    break
                if task is None:
                    pump.done.append(self._unknown(taken))
                elif task.is_async:
                    placed.append(self._place(taken, task))
                else:
                    job, started = taken, time.monotonic()
                    self._deadline = started + timeout_of(taken, task, self._settings)
                    self._child.begin(0, taken.id, taken.lease, taken.claimer, started, self._deadline)
                    pump.busy_since = started
        if placed:
            self._on_loop(placed)
        if job is None or task is None:
            pump.ring()
            pump.filled.wait(1.0)
            return
        outcome: Outcome | None
        if task.atomic:
            outcome = execute_atomic(job, task, self._settings, started, self._board.worker)
        else:
            outcome = execute(job, task, self._settings, started)
        tidy_connections()
        if (doomed := self._child.doomed) and (here := self._child.at(0)) is not None and here.turn == doomed:
            raise TimeLimit  # it swallowed the one it got and returned: too late all the same
        pump.worked += time.monotonic() - started
        pump.ran += 1
        if outcome is not None and job.at_most_once:
            self._put_down_safely(job, outcome, started)
        else:
            self._child.end(0)
            if outcome is not None:
                pump.done.append(outcome)
                pump.ring()

    def _put_down_safely(self, job: Claimed, outcome: Outcome, started: float) -> None:
        """Keep an at_most_once job on the board until its outcome is written: should this process die before, what
        is on the board has run, and what is not has never started."""
        # Its limit is for the task, which has ended; the database may take its time.
        self._child.begin(0, job.id, job.lease, job.claimer, started, math.inf)
        written = self._pump.awaited[job.id] = threading.Event()
        self._pump.done.append(outcome)
        self._pump.busy_since = None
        self._pump.ring()
        while not written.wait(1.0) and not self._pump.finished:
            pass
        self._child.end(0)

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

    def _async_done(self, place: int, outcome: Outcome) -> None:
        self._child.end(place)
        self._pump.done.append(outcome)
        self._pump.free_places.append(place)
        self._pump.ring()

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
        self._pump.ring()
        until = time.monotonic() + 0.5
        while not self._pump.written_out and time.monotonic() < until:
            time.sleep(0.005)
        self._child.doomed = -1
        while True:
            signal.pause()
