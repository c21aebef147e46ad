"""A pump without its slot: the test is the hands that take a job, hold it, and put its outcome down."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import Any

from jobs.board import Board, Phase
from jobs.claim import Claimed, Lanes
from jobs.conf import JobsSettings
from jobs.outcome import Happened
from jobs.pump import Pump
from outbox.session import Query, Session, session_on
from tests.support.floor import outcome
from tests.support.wait import wait_until

NAME = "the pump"


class Hands:
    """What a slot's main thread does, one motion at a time."""

    def __init__(self, session: Session, lanes: Lanes | None = None, **settings: Any) -> None:
        self.session = session
        self.settings = JobsSettings(**settings)
        self.board = Board(2, self.settings.ASYNC_CONCURRENCY + 1)
        self.board.worker = 1
        self.child = self.board.slots[0]
        self.pump = Pump(self.board, 0, lanes or Lanes(["default"]), self.settings)
        self.pump._session = session_on("default", application_name=NAME, statement_timeout=10)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run the pump in a thread of its own, as a slot does."""
        self._thread = threading.Thread(target=self.pump.run, name="the pump", daemon=True)
        self._thread.start()

    def grasp(self) -> Claimed | None:
        """Take the next job out of the buffer and begin it, if there is one."""
        with self.pump.taking:
            self.pump.busy_since = None
            if not self.pump.buffer:
                return None
            job = self.pump.buffer.popleft()
            now = time.monotonic()
            self.child.begin(0, job.id, job.lease, job.claimer, now, now + 60)
            self.pump.busy_since = now
            return job

    def take(self, *, within: float = 10.0) -> Claimed:
        """Wait for the next job, take it and begin it."""
        until = time.monotonic() + within
        while (job := self.grasp()) is None:
            if time.monotonic() > until:
                raise AssertionError("the pump has claimed nothing")
            self.pump.ring()
            time.sleep(0.002)
        return job

    def put(self, job: Claimed, happened: str = "succeeded", **details: Any) -> None:
        """The job is over. The slot says so on the board first, and looks for the next one only later."""
        self.child.end(0)
        self.pump.ran += 1
        details.setdefault("started", time.monotonic())
        self.pump.done.append(outcome(job, Happened(happened), self.settings, **details))
        self.pump.ring()

    def rest(self) -> None:
        """Look for the next job, and find that there is none to take."""
        with self.pump.taking:
            self.pump.busy_since = None
        self.pump.ring()

    def steps(self, n: int = 1) -> list[float]:
        """Step a pump that has no thread."""
        return [self.pump.step() for _ in range(n)]

    def slow_down(self, seconds: float) -> None:
        """Make the running job that much older."""
        assert self.pump.busy_since is not None
        self.pump.busy_since -= seconds
        self.board.wake(0)

    def drain(self, *, within: float = 10.0) -> None:
        self.board.phase = Phase.DRAIN
        self.board.wake(0)
        assert self._thread is not None
        self._thread.join(within)
        assert self.pump.finished and not self._thread.is_alive()

    def lose_connection(self) -> None:
        """The server ends the pump's session."""
        end = "SELECT count(pg_terminate_backend(pid, 2000)) FROM pg_stat_activity WHERE application_name = %s"
        wait_until(lambda: self.session.glance(Query(end, (NAME,))) == [(1,)], what="there is one to lose")

    def wait_for_number(self, *, after: int) -> int:
        """Wait until the pump claims under another number than that."""
        return wait_until(lambda: self.child.claimer if self.child.claimer != after else 0, what="a new number")

    def close(self) -> None:
        self.pump.finished = True
        self.board.wake(0)
        if self._thread is not None:
            self._thread.join(10)
        self.pump._session.close()
        for pipe in (*self.board.pipes, self.board.mover_pipe, (self.pump._rung, self.pump._ringer)):
            for end in pipe:
                with suppress(OSError):
                    os.close(end)
