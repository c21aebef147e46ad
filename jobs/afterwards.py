"""What the application is told once an outcome is written, and not before: it may look, and finds it so.

A task that wants to say something afterwards leaves a call here while it runs; `tell` hands over the outcomes that were
written. In a slot the calls are made one after the other by a thread of their own, in that order, so that one that
hangs keeps nobody from the database. A crash loses what was not yet said: whatever must not be lost is a job.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Collection, Iterable
from queue import SimpleQueue
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from jobs.outcome import Outcome

logger = logging.getLogger("jobs")

Call = Callable[["Outcome | None"], None]
"""It gets the outcome that was written; None where somebody else's was."""

LAST_WORDS = 2.0
"""Seconds that a slot which ends waits for what is still to be said."""


class Afterwards:
    """Of one process."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[UUID, int], Call] = {}
        """By job and lease."""
        self.worker: Callable[[], int] = lambda: 0
        """Number of the worker this process belongs to; 0 outside one."""
        self._due: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._tidy: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None

    def begin(self, worker: Callable[[], int], tidy: Callable[[], None]) -> None:
        """From now on calls are made in a thread; `tidy` is called in it after each."""
        self.worker, self._tidy = worker, tidy

    def end(self) -> None:
        """Say the rest, if it does not take long."""
        if self._thread is not None:
            self._due.put(None)
            self._thread.join(LAST_WORDS)

    def written(self, outcomes: Iterable[Outcome], ids: Collection[UUID] | None) -> None:
        """These are over, and written where their id is among `ids` (None is all)."""
        for outcome in outcomes:
            call = self.waiting.pop((outcome.id, outcome.lease), None)
            if call is None:
                continue
            if ids is None or outcome.id in ids:
                self._say(call, outcome)
            else:
                call(None)

    def _say(self, call: Call, outcome: Outcome) -> None:
        if self._tidy is None:
            call(outcome)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="jobs-afterwards", daemon=True)
            self._thread.start()
        self._due.put(lambda: call(outcome))

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # it is for the main thread
        while (say := self._due.get()) is not None:
            try:
                say()
                if self._tidy is not None:
                    self._tidy()
            except Exception:
                logger.exception("what was to be said after a job could not be said")


afterwards = Afterwards()
