"""The supervisor: forks the children, watches the board, kills what is over its limit, replaces what has died.

It is single-threaded, opens no database connection and runs no task, so it can fork at any time and nothing it
watches can stop it. What it learns about a dead slot it tells the keeper, again and again until that is committed.
If it dies itself, its children die with it and another worker takes the jobs back.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import signal
import socket
import time
from dataclasses import dataclass, field
from itertools import count
from uuid import UUID

from jobs import child, judge
from jobs.board import Board, Child, Phase, Running
from jobs.claim import Lanes
from jobs.conf import JobsSettings
from jobs.duty import Duty
from jobs.keeper import Keeper
from jobs.move import Mover
from jobs.slot import Slot
from jobs.verdict import Channel, Fated, Verdict, to_message
from outbox.session import wait_readable

logger = logging.getLogger("jobs")

TICK = 0.1
"""Seconds between two looks at the board."""

STALE_AFTER = 12.0
"""Seconds without a stamp after which the keeper or the relay is replaced."""

LEAVE_WITHIN = 5.0
"""Seconds the keeper gets to sign off."""


@dataclass
class Doom:
    """A slot whose job is at its limit, on its way to the kill."""

    guilty: Running | None
    """None: it is stopped for a reason that is no job's, and the verdict is out."""
    running: list[Running]
    kill_at: float
    cancelled: str | None = None
    """Why a person wants the guilty one to stop; None where it is at its limit."""


@dataclass
class Post:
    """One child, dead or alive."""

    role: str
    board: Child
    number: int = 0
    pid: int = 0
    session: str = ""
    born_at: float = 0.0
    born_again_at: float = 0.0
    early_deaths: int = 0
    doom: Doom | None = None


@dataclass
class Supervisor:
    """Runs until drained; `run` answers the exit status."""

    duty: Duty
    lanes: Lanes
    settings: JobsSettings
    drain_timeout: float
    board: Board = field(init=False)

    def __post_init__(self) -> None:
        self.board = Board(self.duty.slots, self.settings.ASYNC_CONCURRENCY + 1)
        self._keeper = Post("keeper", self.board.keeper)
        self._mover = Post("relay", self.board.relay)
        self._slots = [Post("slot", place, number) for number, place in enumerate(self.board.slots)]
        self._posts = [self._keeper, self._mover, *self._slots]
        self._token = secrets.token_hex(6)
        self._births = 0
        self._channel: Channel | None = None
        self._verdicts: dict[int, Verdict] = {}
        self._numbers = count(1)
        self._signals: list[int] = []
        self._next_limit = 0.0
        self._drain_until: float | None = None
        self._leave_until: float | None = None

    # The life of a worker -----------------------------------------------------------------------------------------

    def run(self) -> int:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda number, _: self._signals.append(number))
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake the wait below
        child.prctl(child.PR_SET_CHILD_SUBREAPER, 1)
        # What is loaded by now stays: a collection in a child would write to all of it, and have 18 MB more of its own.
        gc.collect()
        gc.freeze()
        while not self.turn():
            pause = min(TICK, max(0.0, self._next_limit - time.monotonic()))
            wait_readable([reader, *([self._channel.fileno()] if self._channel else [])], pause)
            while True:
                try:
                    os.read(reader, 4096)
                except BlockingIOError:
                    break
        return 0

    def turn(self) -> bool:
        """Look after everything once; whether all is over."""
        now = time.monotonic()
        while self._signals:
            self._signalled(self._signals.pop(0), now)
        self._reap()
        self._listen()
        self._replace(now)
        self._next_limit = now + TICK
        for post in self._slots:
            self._enforce(post, now)
        if self.board.phase is Phase.RUN and self.board.burst_over:
            self._drain("nothing is left to do", now)
        return self.board.phase is not Phase.RUN and self._wind_down(now)

    def _signalled(self, number: int, now: float) -> None:
        name = signal.Signals(number).name
        if number == signal.SIGQUIT or self.board.phase is not Phase.RUN:
            logger.warning("%s: stopping at once; what runs is handed back", name)
            self.board.phase = Phase.STOP
            self._drain_until = now
        else:
            self._drain(f"{name} received", now)

    def _drain(self, why: str, now: float) -> None:
        logger.info("%s: finishing what runs (up to %g s), taking no more", why, self.drain_timeout)
        self.board.phase = Phase.DRAIN
        self._drain_until = now + self.drain_timeout
        self.board.wake_all()

    def _wind_down(self, now: float) -> bool:
        """Slots first, each by itself or by force; then the keeper, which writes what became of their jobs."""
        if any(post.pid for post in self._slots):
            if self._drain_until is not None and now >= self._drain_until:
                for post in self._slots:
                    if post.pid and post.doom is None:
                        self._condemn(post, "a shutdown")
            return False
        if self._leave_until is None:
            self._leave_until = now + LEAVE_WITHIN
            if self._channel is not None:
                self._channel.send({"leave": True})
        if self._keeper.pid and now < self._leave_until:
            return False
        for post in (self._keeper, self._mover):
            if post.pid:
                child.kill_tree(post.pid)
        return True

    # Children -----------------------------------------------------------------------------------------------------

    def _replace(self, now: float) -> None:
        running = self.board.phase is Phase.RUN
        for post in self._posts:
            if post.pid and post.role != "slot" and now - max(post.board.stamped, post.born_at) > STALE_AFTER:
                logger.error("the %s (pid %s) has given no sign of life; replacing it", post.role, post.pid)
                child.kill(post.pid, signal.SIGKILL)
            needed = running or (post.role == "keeper" and self._leave_until is None)
            if not post.pid and needed and now >= post.born_again_at:
                self._start(post, now)

    def _start(self, post: Post, now: float) -> None:
        self._births += 1
        post.board.clear()
        post.doom = None
        post.born_at = now
        if post.role == "keeper":
            self._start_keeper(post)
        elif post.role == "relay":
            post.pid = child.fork(lambda: Mover(self.board, self.duty, self.settings).run(), "jobs relay")
        else:
            post.session = f"jobs-slot-{self._token}-{self._births}"
            slot = (self.board, post.number, post.session, self.lanes, self.settings)
            post.pid = child.fork(lambda: Slot(*slot).run(), f"jobs slot-{post.number}", subreaper=True)

    def _start_keeper(self, post: Post) -> None:
        if self._channel is not None:
            self._channel.close()
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        for verdict in self._verdicts.values():
            self._channel.send(to_message(verdict))
        self._channel.send({"told": True})
        post.pid = child.fork(
            lambda: Keeper(self.board, Channel(theirs), self.duty, self.settings).run(), "jobs keeper"
        )
        theirs.close()

    def _listen(self) -> None:
        if self._channel is None:
            return
        self._channel.flush()
        for message in self._channel.receive():
            if "done" in message:
                self._verdicts.pop(message["done"], None)
            elif "stop" in message and self.board.phase is Phase.RUN:
                self._drain("a person asked for it", time.monotonic())
            elif "cancel" in message:
                self._cancel(UUID(message["cancel"]), message["lease"], message["claimer"], message["reason"])
            elif "lost" in message:
                for post in self._slots:
                    if post.pid:
                        self._condemn(post, "this worker was declared dead")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for post in self._posts:
                if post.pid == pid:
                    self._died(post, status)

    def _died(self, post: Post, status: int) -> None:
        now = time.monotonic()
        expected = post.doom is not None or (
            self.board.phase is not Phase.RUN and os.waitstatus_to_exitcode(status) == 0
        )
        if not expected:
            logger.warning("the %s (pid %s) died: %s", post.role, post.pid, judge.spell(status))
        # A job that kills its process is no reason to wait with the next one; a process that cannot even start is.
        early = now - post.born_at < 1.0 and not expected and not (post.role == "slot" and post.board.has_worked)
        post.early_deaths = post.early_deaths + 1 if early else 0
        post.born_again_at = now + (min(5.0, 0.1 * 2**post.early_deaths) if post.early_deaths > 1 else 0.0)
        if post.role == "slot":
            self._kill_orphans()
            self._judge(post, status)
        post.pid = 0
        if post.role == "slot":
            post.board.clear()

    def _kill_orphans(self) -> None:
        """A dead slot's own children have become ours; a living slot keeps its own."""
        known = {post.pid for post in self._posts}
        for process in child.process_table():
            if process.parent == os.getpid() and process.pid not in known:
                child.kill_tree(process.pid)

    # Limits and verdicts ------------------------------------------------------------------------------------------

    def _enforce(self, post: Post, now: float) -> None:
        if not post.pid:
            return
        if post.doom is not None:
            if post.doom.cancelled is not None and self._has_stopped(post, post.doom):
                post.doom = None
                post.board.doomed = 0
            elif now >= post.doom.kill_at or post.board.doomed == -1:
                child.kill_tree(post.pid)
            else:
                self._next_limit = now + 0.01
            return
        grace = self.settings.KILL_GRACE
        for job in post.board.running():
            # An async job has been cancelled by its loop at its limit; it is overdue when that did not end it.
            limit = job.deadline + (grace if job.place else 0.0)
            if now >= limit:
                self._doom(post, job)
                return
            self._next_limit = min(self._next_limit, limit)

    def _doom(self, post: Post, overdue: Running, *, cancelled: str | None = None) -> None:
        """Stop the slot, look again, and let it go on if it has moved on in the meantime."""
        child.kill(post.pid, signal.SIGSTOP)
        now = time.monotonic()
        job = post.board.at(overdue.place)
        if job is None or job.turn != overdue.turn:
            child.kill(post.pid, signal.SIGCONT)
            return
        running = post.board.running()
        if cancelled is None:
            guilty = judge.culprit(job, running, post.board.stepping(), now)
            logger.warning("job %s is at its limit: killing it (pid %s)", guilty.job, post.pid)
        else:
            guilty = job
            logger.info("job %s is cancelled: stopping it (pid %s)", guilty.job, post.pid)
        if job.place and cancelled is None:
            post.doom = Doom(guilty, running, now)
            return
        # TERM makes a sync job unwind; what it cleans up in its grace is a courtesy, the kill comes either way.
        post.doom = Doom(guilty, running, now + self.settings.KILL_GRACE, cancelled)
        post.board.doomed = job.turn
        # In this order: a stopped process takes the signal up in any of its threads, a running one in its main thread.
        child.kill(post.pid, signal.SIGCONT)
        child.kill(post.pid, signal.SIGTERM)

    def _cancel(self, job: UUID, lease: int, claimer: int, reason: str) -> None:
        """A person wants this job stopped: tell it, and kill its slot where that does not end it."""
        for post in self._slots:
            for running in post.board.running() if post.pid and post.doom is None else ():
                if (running.job, running.lease, running.claimer) == (job, lease, claimer):
                    self._doom(post, running, cancelled=reason)
                    return

    def _has_stopped(self, post: Post, doom: Doom) -> bool:
        """Whether a cancelled coroutine has ended by itself: then its slot lives on."""
        at = post.board.at(doom.guilty.place) if doom.guilty is not None and doom.guilty.place else doom.guilty
        return at is None or (doom.guilty is not None and at.turn != doom.guilty.turn)

    def _condemn(self, post: Post, why: str) -> None:
        """Kill a slot now; nothing it runs is to blame."""
        child.kill(post.pid, signal.SIGSTOP)
        running = post.board.running()
        logger.info("stopping slot %s (%s jobs handed back): %s", post.number, len(running), why)
        post.doom = Doom(None, running, 0.0)
        child.kill_tree(post.pid)
        self._tell(post, judge.spared(running, time.monotonic()))

    def _judge(self, post: Post, status: int) -> None:
        """Say what became of the jobs of a dead slot."""
        now = time.monotonic()
        if post.doom is None:
            running = post.board.running()
            self._tell(post, judge.crashed(running, post.board.stepping()[0], status, now))
        elif post.doom.guilty is not None:
            if post.doom.cancelled is not None:
                self._tell(post, judge.cancelled(post.doom.running, post.doom.guilty, post.doom.cancelled, now))
                return
            stack = "" if post.doom.guilty.place else post.board.noted()
            self._tell(post, judge.timed_out(post.doom.running, post.doom.guilty, stack, now))

    def _tell(self, post: Post, jobs: list[Fated]) -> None:
        verdict = Verdict(next(self._numbers), post.session, judge.with_ended(jobs, post.board.unwritten()))
        self._verdicts[verdict.number] = verdict
        if self._channel is not None:
            self._channel.send(to_message(verdict))
