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
from collections.abc import Callable
from uuid import UUID

from jobs import trace
from jobs.announce import begun, drain
from jobs.board import ALL_QUEUES, Board, Phase
from jobs.conf import JobsSettings
from jobs.duty import Duty, turn
from jobs.intake import CHANNEL
from jobs.journal import Journal
from jobs.orders import Orders, ordered
from jobs.rescue import (
    Watch,
    carry_out,
    end_sessions,
    hand_back,
    hand_back_left_over,
    left_over,
    read,
    silent,
)
from jobs.verdict import Channel, Verdict, from_message
from outbox import loop
from outbox.conf import outbox_settings
from outbox.session import Query, Row, process_name, session_on

logger = logging.getLogger("jobs")

LOOK_EVERY = 1.0
"""Seconds between two looks for rows that no slot has and for what people want."""

TOGETHER = 0.2
"""Seconds by which a look may be early to share the transaction of another: an idle worker is to cost next to
nothing."""

BURST_EVERY = 0.1

MOST_TOLD = 500
"""Running jobs that a heartbeat names."""

REGISTER = """INSERT INTO jobs_worker (name, queues, slots, version, running)
VALUES (%s, %s, %s, %s, '') RETURNING id"""
BEAT = """UPDATE jobs_worker SET heartbeat_at = clock_timestamp(), running = %s WHERE id = %s
RETURNING (SELECT count(*) FROM jobs_worker AS elder WHERE elder.id < jobs_worker.id)"""
LEAVE = "DELETE FROM jobs_worker WHERE id = %s"

PEEK = "SELECT count(*) FROM (SELECT 1 FROM jobs_job WHERE state = 'ready' {} LIMIT %s) AS these"
OURS = "AND queue = ANY(%s::text[])"

# One statement sees one moment: a message is in the outbox or it is a job, never in between.
LEFT_TO_DO = """SELECT {} EXISTS (SELECT 1 FROM jobs_job WHERE state = 'ready' AND NOT queue = ANY(%s::text[]) {})
  OR EXISTS (SELECT 1 FROM jobs_job WHERE state = 'running' {})"""
OUTBOX = "EXISTS (SELECT 1 FROM outbox_message) OR"


class Keeper:
    """One step looks after everything that is due."""

    def __init__(self, board: Board, channel: Channel, duty: Duty, settings: JobsSettings) -> None:
        self._board = board
        self._channel = channel
        self._duty = duty
        self._settings = settings
        self._session = session_on(
            settings.DATABASE, statement_timeout=2.0, application_name=f"jobs-keeper-{process_name()}"[:63]
        )
        self._watch = Watch()
        self._verdicts: deque[Verdict] = deque()
        self._told_all = False
        self._leaving = False
        self._finished = False
        self._beat_at = self._sweep_at = self._peek_at = self._orders_at = 0.0
        self._orders = Orders(board, channel)
        self._journal = Journal(settings.VERSION)
        if outbox_settings().NOTIFY:
            self._session.listen(CHANNEL)

    def run(self) -> int:
        begun("keeper")
        loop.run("keeper", self.step, wait=self._wait, stopping=lambda: self._finished)
        return 0

    def step(self) -> float:
        self._board.keeper.stamp()
        # The board first, then the messages: a slot that is wiped from the board has its verdict sent before.
        claimers = [slot.claimer for slot in self._board.slots]
        running = self._board.in_hands()
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
        self._look(now, claimers, running)
        self._journal.step(self._session)
        if self._duty.burst and self._board.phase is Phase.RUN:
            self._board.burst_over = not self._left_to_do()
        due = min(self._beat_at, self._sweep_at, self._peek_at, self._orders_at)
        pause = max(0.001, due - time.monotonic())
        return min(pause, BURST_EVERY) if self._duty.burst else pause

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
        # Alone in its transaction but for the look at the others': whatever holds up the jobs' table, it goes on.
        beat = Query(BEAT, (in_words(self._board), self._board.worker))
        beaten, quiet = self._session.run_all([beat, silent(self._board.worker, self._settings)], durable=False)
        if not beaten:
            # Somebody declared this worker dead and has its jobs: nothing that runs here counts any more.
            logger.error("worker %s was declared dead by another; starting its slots anew", self._board.worker)
            self._board.worker = 0
            self._channel.send({"lost": True})
            return
        self._board.elders = beaten[0][0]
        if self._watch.judge(self._session, quiet, self._settings):
            self._board.wake_mover()

    def _look(self, now: float, claimers: list[int], running: list[UUID]) -> None:
        """Everything that is to be asked about jobs, in one transaction and one round trip."""
        if now < min(self._sweep_at, self._peek_at, self._orders_at):
            return
        soon = now + TOGETHER
        asked: list[Query] = []
        answers: list[Callable[[list[Row]], object]] = []
        if soon >= self._orders_at:
            self._orders_at = now + LOOK_EVERY
            asked.append(ordered(self._board.worker))
            answers.append(lambda rows: self._orders.obey(self._session, rows, self._board.worker))
        if soon >= self._sweep_at and self._told_all:
            self._sweep_at = now + LOOK_EVERY
            asked.append(left_over(self._board.worker, claimers, running))
            answers.append(self._hand_back)
        if soon >= self._peek_at:
            self._peek_at = now + self._settings.POLL_INTERVAL
            if (peek := self._peek()) is not None:
                asked.append(peek)
                answers.append(lambda rows: self._board.wake_idle(rows[0][0]))
        if asked:
            for answer, rows in zip(answers, self._session.run_all(asked, durable=False), strict=True):
                answer(rows)

    def _hand_back(self, rows: list[Row]) -> None:
        """Of rows that no slot had, those that none has taken meanwhile: a new slot claims under a new number."""
        claimers, running = {slot.claimer for slot in self._board.slots}, set(self._board.in_hands())
        self._receive()
        if self._verdicts:
            return  # a slot has come and gone meanwhile: that it crashed must not be forgotten over this
        left = [job for job in read(rows) if job.claimer not in claimers and job.id not in running]
        if left:
            hand_back(self._session, left, self._board.worker, self._settings)
            self._board.wake_mover()

    def _carry_out(self) -> None:
        while self._verdicts:
            verdict = self._verdicts[0]
            # First the sessions: a job that runs again must not meet itself on the server.
            end_sessions(self._session, verdict.session)
            carry_out(self._session, verdict.jobs, self._board.worker, self._settings)
            self._verdicts.popleft()
            self._channel.send({"done": verdict.number})
            self._board.wake_mover()  # there may be callbacks, and retries that are due soon
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
        drain()
        if trace.spans is not None:
            trace.spans.flush()
        self._finished = True
        return 0.0

    def _peek(self) -> Query | None:
        """Counts ready jobs, to wake as many idle slots: the floor under every lost wake-up. None: nobody to wake."""
        idle = self._board.idle()
        paused = self._board.paused
        if not idle or paused == ALL_QUEUES:
            return None
        if self._duty.queues is None:
            return Query(PEEK.format(""), (idle,))
        ours = [queue for queue in self._duty.queues if queue not in paused.split("\n")]
        return Query(PEEK.format(OURS), (ours, idle)) if ours else None

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
        # Our own relay and slots have woken whom they need; another slot would only compete with that one.
        if self._session.wait(seconds, self._channel.fileno(), besides=self._board.backends()):
            self._peek_at = min(self._peek_at, time.monotonic() + turn(self._board.elders))


def in_words(board: Board) -> str:
    """What each slot executes, for people: JSON text of [slot, job, seconds]."""
    now = time.monotonic()
    running = [
        [number, str(job.job), round(now - job.started, 1)]
        for number, slot in enumerate(board.slots)
        for job in slot.running()
    ]
    return json.dumps(running[:MOST_TOLD], separators=(",", ":"))
