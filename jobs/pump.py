"""The pump of a slot: it claims jobs, writes outcomes, and hands back what the slot cannot start soon.

It alone uses the slot's own database connection. Outcomes and the next claim share one round trip, made by the slot's
main thread between two batches (no hand-over between threads, no fight for the GIL), and while that is in a job, by a
second thread that minds what has ended and what waits. A lost connection loses nothing: outcomes are written again,
fenced, and from then on the slot claims under a new number, so that a claim whose answer was lost can be told apart.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from jobs.appetite import MOST, Appetite
from jobs.board import Board, Phase, empty, pipe
from jobs.claim import DISCOVER, Claimed, Lanes, claim, read, unpaused
from jobs.conf import JobsSettings
from jobs.finish import finish, tell, written
from jobs.intake import CHANNEL
from jobs.journal import Journal
from jobs.outcome import Happened, Outcome, decide
from outbox import faults, loop
from outbox.session import Query, session_on, wait_readable
from outbox.text import describe

logger = logging.getLogger("jobs")

FLUSH_EVERY = 0.025
"""Seconds an outcome may wait for others to be written with it while the slot is busy."""

TICK = 0.01
"""Seconds between two looks of the second thread while there is something to mind."""

SLOW = 0.5
"""Seconds after which a running job is slow: what was claimed with it goes back for other slots."""

SAFETY_POLL = 60.0
"""Seconds between two looks of an idle slot that nobody wakes; the keeper looks for all slots far more often."""


class Pump:
    """Claims into `buffer`, writes what stands in `done`."""

    def __init__(self, board: Board, number: int, lanes: Lanes, settings: JobsSettings) -> None:
        self.buffer: deque[Claimed] = deque()
        self.done: deque[Outcome] = deque()
        self.taking = threading.Lock()
        """Held while a job leaves the buffer and appears on the board: it is always on one of the two."""
        self.free_places: deque[int] = deque(range(1, settings.ASYNC_CONCURRENCY + 1))
        """Places on the board for async jobs."""
        self.busy_since: float | None = None
        """Monotonic start of the sync job that runs; None between jobs."""
        self.worked, self.ran, self.async_ended = 0.0, 0, 0
        """Seconds and number of sync jobs, and number of async ones, since the last look."""
        self.moved_at = 0.0
        """Monotonic time at which something was last put into the buffer or taken by the event loop."""
        self.parked = False
        """The slot is about to be killed: no more claims."""
        self.finished = False
        """Drained, and everything is written."""
        self._places = settings.ASYNC_CONCURRENCY
        self._board, self._child = board, board.slots[number]
        self._waker = board.pipes[number][0]
        self._rung, self._ringer = pipe()
        self._asleep = False
        self._desk = threading.Lock()
        """Held by the thread that is at the database, with all that is written or claimed there."""
        self._awake = threading.Event()
        """Clear while the main thread sleeps and the second one need not look."""
        self._lanes = lanes
        self._settings = settings
        self._session = session_on(settings.DATABASE)
        self._unwritten: list[Outcome] = []
        self._doubtful = True
        self._appetite = Appetite(settings.ASYNC_CONCURRENCY)
        self._flushed_at = 0.0
        self._dry = False
        self.awaited: dict[UUID, threading.Event] = {}
        """Set for a job once its outcome is written, or was no longer ours."""
        self._kept: set[UUID] = set()
        self.watch: Callable[[], float] = lambda: SAFETY_POLL
        """Looks after the running job; answers the seconds until it wants to look again."""
        self.journal = Journal(settings.VERSION)

    def run(self) -> None:
        """Do it all, until drained: what a main thread does that never gets a job to execute."""
        loop.run("slot", self.step, wait=self.wait, stopping=lambda: self.finished, on_error=self.doubt)
        self.close()

    def mind(self) -> None:
        """The second thread: while the main one is in a job, write what has ended and hand back what waits too long."""
        loop.run("slot", self._look, wait=self._rest, stopping=lambda: self.finished, on_error=self.doubt)

    def close(self) -> None:
        self._awake.set()
        with self._desk:
            self.journal.close(self._session)
            self._session.close()

    @property
    def waits_to_be_written(self) -> bool:
        return bool(self.done or self._unwritten)

    @property
    def written_out(self) -> bool:
        """Nothing waits to be written."""
        return not (self.buffer or self.done or self._unwritten) and self.journal.empty

    def ring_if_low(self, *, first: bool) -> None:
        """Called by the event loop after each job: wake the main thread for the first outcome, or for more jobs."""
        if first or self._appetite.is_low(len(self.buffer)):
            self.ring()

    def ring(self) -> None:
        """Called by the thread of the event loop: there is an outcome."""
        if self._asleep:
            self._asleep = False
            os.write(self._ringer, b"!")

    def step(self) -> float:
        """Exchange outcomes for jobs once; answers how long there is nothing to do."""
        with self._desk:
            return min(self._say(), self._step(), self.watch())

    def _look(self) -> float:
        if self._asleep or self.busy_since is None or not self._desk.acquire(blocking=False):
            return TICK  # the main thread does it
        try:
            return self._mind()
        finally:
            self._desk.release()

    def _mind(self) -> float:
        if self.parked or self._board.phase is not Phase.RUN or self._doubtful or self._slow():
            self._hand_back()
        if self._doubtful:
            self._settle()
        outcomes = self._collect()
        if outcomes and self._due():
            self._exchange(outcomes, 0)
        return min(TICK if outcomes or self.buffer else 0.1, self._say(), self.watch())

    def _say(self) -> float:
        return self.journal.step(self._session, hurry=self.parked or self._board.phase is not Phase.RUN)

    def _rest(self, seconds: float) -> None:
        if self._asleep:
            self._awake.wait(SAFETY_POLL)
        else:
            time.sleep(seconds)

    def _step(self) -> float:
        if not self._board.worker:
            return 0.02  # the keeper has not registered this worker yet
        leaving = self.parked or self._board.phase is not Phase.RUN
        if leaving or self._doubtful or self._slow():
            self._hand_back()
        if self._doubtful:
            return self._settle()
        outcomes = self._collect()
        wanted = 0 if leaving else self._wanted()
        if wanted or (outcomes and (leaving or self._due())):
            return self._exchange(outcomes, wanted)
        if outcomes:
            return FLUSH_EVERY
        if leaving:
            self.finished = not self._running() and self.written_out
            return FLUSH_EVERY
        return 0.1 if self.buffer else SAFETY_POLL

    # What to write and what to want -------------------------------------------------------------------------------

    def _collect(self) -> list[Outcome]:
        while self.done and len(self._unwritten) < MOST:
            self._unwritten.append(self.done.popleft())
        return self._unwritten

    def _due(self) -> bool:
        """Whether outcomes should be written now rather than with later ones."""
        return time.monotonic() - self._flushed_at >= FLUSH_EVERY or not self._running()

    def _wanted(self) -> int:
        """How many jobs to claim: never more than can be started soon."""
        # A job that was claimed alone stays alone in this slot's hands.
        self._appetite.alone = self._appetite.alone and (bool(self.buffer) or self._running())
        if self._dry or len(self.done) > 4 * MOST or self._appetite.alone:
            return 0
        self._appetite.paced(self.ran, self.worked)
        if ended := self.async_ended:
            self._appetite.ended(ended, time.monotonic())
        self.worked, self.ran, self.async_ended = 0.0, 0, self.async_ended - ended
        busy_for = None if self.busy_since is None else self._busy_for()
        return self._appetite.wants(waiting=len(self.buffer), free=len(self.free_places), busy_for=busy_for)

    def _busy_for(self) -> float:
        since = self.busy_since
        return 0.0 if since is None else time.monotonic() - since

    def _slow(self) -> bool:
        if not self.buffer:
            return False
        return self._busy_for() > SLOW or (self.busy_since is None and time.monotonic() - self.moved_at > SLOW)

    def _running(self) -> bool:
        with self.taking:
            return self.busy_since is not None or len(self.free_places) < self._places

    # The exchange -------------------------------------------------------------------------------------------------

    def _exchange(self, outcomes: list[Outcome], wanted: int) -> float:
        lanes = unpaused(self._lanes.next(), self._board.paused) if wanted else []
        looks = bool(wanted) and self._lanes.wants_look()
        queries = self._write(outcomes)
        passed_over = self._appetite.passed_over()
        if wanted:
            self._announce()
            queries.append(claim(self._board.worker, self._child.claimer, lanes, wanted, passed_over))
        if looks:  # after the claim, in its transaction: what it finds is for the next one
            queries.append(Query(DISCOVER))
        began = time.monotonic()
        try:
            results = self._session.run_all(queries)
        except faults.REFUSED:
            self._write_singly()
            return 0.0
        found = results.pop() if looks else None
        rows = results.pop() if wanted else []
        self._appetite.passed(passed_over, time.monotonic() - began)
        self._child.backend = self._session.backend
        self._told(outcomes, None if sum(map(len, results)) == len(outcomes) else written(results))
        if not wanted or (self._lanes.had(len(rows), wanted, found) and not rows):
            return 0.0
        return self._took(read(rows, lanes))

    def _write(self, outcomes: list[Outcome]) -> list[Query]:
        queries = finish(outcomes, self._board.worker) if outcomes else []
        if any(outcome.state == "ready" for outcome in outcomes):
            queries.insert(0, Query(f"NOTIFY {CHANNEL}"))  # other workers may have a slot free for them
        return queries

    def _told(self, outcomes: list[Outcome], ids: set[UUID] | None) -> None:
        """These are written, all of them or those ids; the others were no longer ours."""
        self._flushed_at = time.monotonic()
        self._unwritten = self._unwritten[len(outcomes) :]
        if outcomes:
            tell(outcomes, ids, doubtful=self._doubtful)
            for outcome in outcomes if self.awaited else ():
                if (event := self.awaited.pop(outcome.id, None)) is not None:
                    event.set()
            if self._kept:
                self._kept.difference_update(outcome.id for outcome in outcomes)
                self._child.keep(self._kept)
            self._board.wake_idle(sum(outcome.state == "ready" for outcome in outcomes))
            if any(outcome.state == "retrying" or outcome.calls_back for outcome in outcomes):
                self._board.wake_mover()

    def _took(self, jobs: list[Claimed]) -> float:
        """Pass on what was claimed; without any, sleep until woken."""
        if jobs:
            if self._child.idle:
                self._child.idle = False
                # For a job that may not be among these: another is to look, here or elsewhere.
                if empty(self._waker) and self._board.wake_idle(1):
                    self._session.glance(Query(f"NOTIFY {CHANNEL}"))
            alone = self._appetite.had(jobs)
            if alone is not None and len(jobs) > 1:
                self._unwritten += [
                    decide(job, Happened.HANDED_BACK, self._settings) for job in jobs if job is not alone
                ]
                jobs = [alone]
                self._flushed_at = 0.0  # the others wait for this write
            self.moved_at = time.monotonic()
            self.buffer.extend(jobs)
            return 0.0
        # Not announced before this look: look once more, or what came in between the two would wake nobody.
        self._dry = self._child.idle or not self._announce()
        return 0.0

    def _announce(self) -> bool:
        """Say that this slot has nothing to run, where that is so."""
        if idle := self.busy_since is None and not self.buffer:
            self._child.idle = True
        return idle

    def _write_singly(self) -> None:
        """One of the outcomes cannot be stored as it is: write each alone, and that one without its texts, or as the
        end of its job: left running under a number that lives on, nobody would ever take it back."""
        while self._unwritten:
            outcome = self._unwritten[0]
            bare = outcome._replace(result=None, error="(what it said could not be stored)", traceback="")
            end = bare._replace(state="dead", delay=0.0, error="(its outcome could not be stored)", calls_back=False)
            for attempt in (outcome, bare, end):
                try:
                    ids = written(self._session.run_all(self._write([attempt])))
                except faults.REFUSED as error:
                    logger.error("job %s: its outcome could not be written: %s", outcome.id, describe(error))
                else:
                    self._told([attempt], ids)
                    break
            else:
                self._told([outcome], set())

    # Handing back, and doubt --------------------------------------------------------------------------------------

    def _hand_back(self) -> None:
        """Give up what is claimed and not begun. Popping decides: whoever pops a job has it."""
        with suppress(IndexError):
            while self.buffer:
                self._unwritten.append(decide(self.buffer.pop(), Happened.HANDED_BACK, self._settings))

    def doubt(self) -> None:
        """After an error: what was on its way may or may not have arrived."""
        self._child.idle = False  # nobody should count on it now
        if not self._session.connected:
            self._doubtful = True

    def _settle(self) -> float:
        """After a lost connection: write again what may or may not have been written, then take a new number."""
        while outcomes := self._collect():
            self._exchange(outcomes, 0)
        with self.taking:
            if self.buffer or self.done:
                return 0.0
            # What is still being executed has the former number; the keeper must not take it for nobody's.
            self._kept |= {job.job for job in self._child.running()}
            self._child.keep(self._kept)
            self._child.claimer = random.getrandbits(62) + 1
            self._doubtful = False
        return 0.0

    def wait(self, seconds: float) -> None:
        """Sleep until somebody wakes this slot, an async job ends, or the time is over."""
        self._awake.clear()
        self._asleep = True
        wait_readable((self._waker, self._rung), min(seconds, FLUSH_EVERY) if self.done else seconds)
        self._asleep = False
        self._awake.set()
        empty(self._rung)
        if empty(self._waker):
            self._child.idle = False
        self._dry = False
