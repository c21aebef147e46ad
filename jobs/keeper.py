"""The keeper: the child that speaks to the database for the worker as a whole.

It registers the worker and beats its heart, writes the supervisor's verdicts, hands back what no slot has, takes back
the jobs of workers that died, and wakes idle slots when there is something ready. It runs no task, so nothing a task
does can stop the heartbeat. It may die at any time: a new one is told again whatever was not acknowledged.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from dataclasses import dataclass
from uuid import UUID

from jobs.board import Board, Phase
from jobs.conf import JobsSettings
from jobs.intake import CHANNEL
from jobs.journal import Journal
from jobs.orders import Orders
from jobs.rescue import Watch, carry_out, end_sessions, hand_back_left_over
from jobs.verdict import Channel, Verdict, from_message
from outbox import loop
from outbox.conf import outbox_settings
from outbox.session import Query, Session, process_name

logger = logging.getLogger("jobs")

SWEEP_EVERY = 1.0
BURST_EVERY = 0.1

MOST_TOLD = 500
"""Running jobs that a heartbeat names."""

REGISTER = """INSERT INTO jobs_worker (name, queues, slots, version, running)
VALUES (%s, %s, %s, %s, '') RETURNING id"""
BEAT = "UPDATE jobs_worker SET heartbeat_at = clock_timestamp(), running = %s WHERE id = %s RETURNING id"
LEAVE = "DELETE FROM jobs_worker WHERE id = %s"

PEEK = "SELECT count(*) FROM (SELECT 1 FROM jobs_job WHERE state = 'ready' {} LIMIT %s) AS these"
OURS = "AND queue = ANY(%s::text[])"

# One statement sees one moment: a message is in the outbox or it is a job, never in between.
LEFT_TO_DO = """SELECT {} EXISTS (SELECT 1 FROM jobs_job WHERE state = 'ready' AND NOT queue = ANY(%s::text[]) {})
  OR EXISTS (SELECT 1 FROM jobs_job WHERE state = 'running' {})"""
OUTBOX = "EXISTS (SELECT 1 FROM outbox_message) OR"


@dataclass(frozen=True)
class Duty:
    """What this worker was started for."""

    queues: tuple[str, ...] | None
    """Queue names it serves; None is any."""
    described: str
    slots: int
    relays: bool
    burst: bool


class Keeper:
    """One step looks after everything that is due."""

    def __init__(self, board: Board, channel: Channel, duty: Duty, settings: JobsSettings) -> None:
        self._board = board
        self._channel = channel
        self._duty = duty
        self._settings = settings
        self._session = Session(
            settings.DATABASE, statement_timeout=2.0, application_name=f"jobs-keeper-{process_name()}"[:63]
        )
        self._watch = Watch()
        self._verdicts: deque[Verdict] = deque()
        self._told_all = False
        self._leaving = False
        self._finished = False
        self._beat_at = self._sweep_at = self._watch_at = self._peek_at = self._orders_at = 0.0
        self._orders = Orders(board, channel)
        self._journal = Journal(settings.VERSION)
        if outbox_settings().NOTIFY:
            self._session.listen(CHANNEL)

    def run(self) -> int:
        loop.run("keeper", self.step, wait=self._wait, stopping=lambda: self._finished)
        return 0

    def step(self) -> float:
        self._board.keeper.stamp()
        # The board first, then the messages: a slot that is wiped from the board has its verdict sent before.
        claimers, running = self._look()
        self._receive()
        if not self._board.worker and not self._leaving:
            self._register()
        self._carry_out()
        if self._leaving:
            return self._leave(claimers, running)
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat()
            self._beat_at = now + self._settings.HEARTBEAT
        if now >= self._sweep_at and self._told_all:
            hand_back_left_over(self._session, claimers, running, self._board.worker, self._settings, self._look_again)
            self._sweep_at = now + SWEEP_EVERY
        if now >= self._orders_at:
            self._orders_at = now + SWEEP_EVERY
            self._orders.look(self._session, self._board.worker)
        self._journal.step(self._session)
        if now >= self._watch_at:
            self._watch.look(self._session, self._board.worker, self._settings)
            self._watch_at = now + self._settings.HEARTBEAT
        self._peek(now)
        if self._duty.burst and self._board.phase is Phase.RUN:
            self._board.burst_over = not self._left_to_do()
        due = min(self._beat_at, self._sweep_at, self._watch_at, self._peek_at, self._orders_at)
        pause = max(0.001, due - time.monotonic())
        return min(pause, BURST_EVERY) if self._duty.burst else pause

    def _look(self) -> tuple[list[int], list[UUID]]:
        return [slot.claimer for slot in self._board.slots], self._board.in_hands()

    def _look_again(self) -> tuple[list[int], list[UUID]] | None:
        """The board as it is now; None where a slot has died meanwhile, whose jobs have a verdict of their own."""
        look = self._look()
        self._receive()
        return None if self._verdicts else look

    def _receive(self) -> None:
        for message in self._channel.receive():
            if "number" in message:
                self._verdicts.append(from_message(message))
            elif "told" in message:
                self._told_all = True
            elif "leave" in message:
                self._leaving = True

    def _register(self) -> None:
        ((number,),) = self._session.run(
            Query(REGISTER, (process_name()[:200], self._duty.described, self._duty.slots, self._settings.VERSION))
        )
        self._orders.look(self._session, number)  # before the first claim: a paused queue is paused from the start
        self._board.worker = number
        self._beat_at = time.monotonic() + self._settings.HEARTBEAT
        self._board.wake_all()

    def _beat(self) -> None:
        if not self._session.run(Query(BEAT, (in_words(self._board), self._board.worker)), durable=False):
            # Somebody declared this worker dead and has its jobs: nothing that runs here counts any more.
            logger.error("worker %s was declared dead by another; starting its slots anew", self._board.worker)
            self._board.worker = 0
            self._channel.send({"lost": True})

    def _carry_out(self) -> None:
        while self._verdicts:
            verdict = self._verdicts[0]
            # First the sessions: a job that runs again must not meet itself on the server.
            end_sessions(self._session, verdict.session)
            carry_out(self._session, verdict.jobs, self._board.worker, self._settings)
            self._verdicts.popleft()
            self._channel.send({"done": verdict.number})
            self._sweep_at = 0.0

    def _leave(self, claimers: list[int], running: list[UUID]) -> float:
        """All slots are dead and their verdicts written: hand back the rest, sign off."""
        if not self._told_all:
            return 0.01
        while hand_back_left_over(self._session, claimers, running, self._board.worker, self._settings):
            pass
        self._session.run(Query(LEAVE, (self._board.worker,)))
        self._journal.step(self._session, hurry=True)
        self._session.close()
        self._finished = True
        return 0.0

    def _peek(self, now: float) -> None:
        """Wake as many idle slots as there are ready jobs: the floor under every lost wake-up."""
        idle = sum(slot.idle for slot in self._board.slots)
        if now < self._peek_at:
            return
        self._peek_at = now + self._settings.POLL_INTERVAL
        if idle:
            ours = self._duty.queues
            query = Query(PEEK.format(""), (idle,)) if ours is None else Query(PEEK.format(OURS), (list(ours), idle))
            ((ready,),) = self._session.run(query, durable=False)
            self._board.wake_idle(ready)

    def _left_to_do(self) -> bool:
        outbox = OUTBOX if self._duty.relays else ""
        if self._duty.queues is None:
            query = Query(LEFT_TO_DO.format(outbox, "", ""), (self._orders.paused,))
        else:
            ours = list(self._duty.queues)
            query = Query(LEFT_TO_DO.format(outbox, OURS, OURS), (self._orders.paused, ours, ours))
        ((left,),) = self._session.run(query, durable=False)
        return bool(left)

    def _wait(self, seconds: float) -> None:
        if self._session.wait(seconds, self._channel.fileno()):
            self._peek_at = 0.0


def in_words(board: Board) -> str:
    """What each slot executes, for people: JSON text of [slot, job, seconds]."""
    now = time.monotonic()
    running = [
        [number, str(job.job), round(now - job.started, 1)]
        for number, slot in enumerate(board.slots)
        for job in slot.running()
    ]
    return json.dumps(running[:MOST_TOLD], separators=(",", ":"))
