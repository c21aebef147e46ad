"""The child that moves rows along: outbox to queue, due to ready, schedules to jobs, old to nothing.

Any number of them work at once, on any number of hosts; each move is one transaction and takes only rows that nobody
else is moving. It may die at any time.
"""

from __future__ import annotations

import math
import time

from jobs.announce import begun
from jobs.board import Board, Phase, empty
from jobs.compact import compact
from jobs.conf import JobsSettings
from jobs.duty import Duty, turn
from jobs.intake import CHANNEL as READY
from jobs.promote import promote
from jobs.prune import prune
from jobs.tick import Ticker
from outbox import loop
from outbox.conf import outbox_settings
from outbox.pace import Pace
from outbox.session import Query, process_name, session_on, wait_readable
from outbox.wake import CHANNEL as WRITTEN
from outbox.wake import QUIET_FOR

PROMOTE_EVERY = 3.0
"""Seconds between two looks for due jobs when none is known to be due sooner. Whoever relayed a job or put it off knows
its time, so this is for the jobs of a mover that has died."""

PROMOTE_SOON = 0.05
"""Seconds after a move that has brought jobs for later, which may be due sooner than any known."""

TICK_AGAIN = 1.0
"""Seconds after which schedules are looked at again when that has failed."""

PRUNE_EVERY = 60.0
COMPACT_EVERY = 60.0

EARS = 2
"""Workers whose relays hear of each message: more would all wake up for each. The others look from time to time."""

ANYTHING = Query("SELECT 1 FROM outbox_message LIMIT 1")


class Mover:
    """One step moves one batch of everything that is to be moved."""

    def __init__(self, board: Board, duty: Duty, settings: JobsSettings) -> None:
        self._board = board
        self._relays = duty.relays
        self._takes_any = duty.queues is None
        self._settings = settings
        self._outbox = outbox_settings()
        self._session = session_on(settings.DATABASE, application_name=f"jobs-relay-{process_name()}"[:63])
        self._ticker = Ticker(self._session, settings) if settings.SCHEDULES else None
        self._promote_at = self._tick_at = self._prune_at = self._compact_at = 0.0
        self._pace = Pace(self._outbox.BATCH)
        self._hot_until = 0.0
        self._woken = True
        self._hears = False
        self._listen()

    def run(self) -> int:
        begun("relay")
        loop.run("relay", self.step, wait=self._wait, stopping=lambda: self._board.phase is not Phase.RUN)
        return 0

    def step(self) -> float:
        self._board.relay.stamp()
        full = self._relay() if self._relays else False
        now = time.monotonic()
        if now >= self._promote_at:
            self._promote(now)
        if now >= self._tick_at:
            self._tick(now)
        if now >= self._prune_at:
            self._prune_at = now if prune(self._session, self._settings) else now + PRUNE_EVERY
        if now >= self._compact_at:
            self._compact_at = now if compact(self._session) else now + COMPACT_EVERY
        if full:
            return 0.0
        if now < self._hot_until:
            return 0.001  # writers in the same process do not wake again so soon after the last time
        poll = self._outbox.poll_interval if self._relays else PROMOTE_EVERY
        due = min(self._promote_at, self._tick_at, self._prune_at, self._compact_at)
        return max(0.001, min(poll, due - now))

    def _relay(self) -> bool:
        """Move a batch; whether it was a full one, so that there is probably more."""
        woken = self._woken
        if not woken and not self._session.glance(ANYTHING):
            return False
        moved, self._woken = self._pace.step(self._session, self._at_hand)
        self._board.wake_idle(moved.delivered)
        self._board.relay.backend = self._session.backend
        now = time.monotonic()
        if moved.total or woken:
            self._hot_until = now + QUIET_FOR * 1.25
        if moved.later:
            self._promote_at = min(self._promote_at, now + PROMOTE_SOON)
        return self._woken

    def _at_hand(self) -> int:
        """How many jobs idle slots of ours will take, whatever their queue: nobody else need hear of those."""
        return self._board.idle() if self._takes_any and not self._board.paused else 0

    def _promote(self, now: float) -> None:
        turned, due = self._session.run_all(promote(self._outbox.BATCH), durable=False)
        self._promote_at = now + min([PROMOTE_EVERY, *(max(0.0, row[0]) for row in due)])
        if turned:
            self._session.glance(Query(f"NOTIFY {READY}"))
            self._board.wake_idle(len(turned))

    def _tick(self, now: float) -> None:
        self._tick_at = now + TICK_AGAIN  # whatever is wrong with schedules does not hold up everything else
        made, wait = self._ticker.step() if self._ticker is not None else (0, math.inf)
        self._tick_at = now + wait
        if made:
            self._promote_at = min(self._promote_at, now + PROMOTE_SOON)  # a schedule may give its jobs a delay
            self._board.wake_idle(made)

    def _wait(self, seconds: float) -> None:
        self._listen()
        if self._session.wait(seconds, self._board.mover_pipe[0]):
            # The others have heard it too. Whoever is not the first looks a little later whether it is still there.
            if pause := turn(self._board.elders):
                wait_readable(self._board.mover_pipe[:1], pause)
            self._woken = not pause
        if empty(self._board.mover_pipe[0]):
            self._promote_at = 0.0

    def _listen(self) -> None:
        hears = self._relays and self._outbox.NOTIFY and self._board.elders < EARS
        if hears != self._hears:
            (self._session.listen if hears else self._session.unlisten)(WRITTEN)
            self._hears = hears
