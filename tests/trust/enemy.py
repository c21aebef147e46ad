"""The enemy of the soak: it kills, stops, ends sessions and crashes the server, as its dice say.

Before each blow it counts what the victims have in their hands, while they are stopped and can begin nothing more:
that much may be repeated outside the database, and nothing beyond it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import psycopg

from tests.support.processes import named
from tests.trust import checker
from tests.trust.ground import Ground, Worker

WEIGHTS = {"slot": 5, "relay": 2, "keeper": 1}
"""Who is killed how often."""

SESSIONS = """SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = current_database()
AND application_name <> 'the checker'"""


RUN_BY_ANOTHER = "SELECT 1 FROM jobs_job WHERE state = 'running' AND id = ANY(%s::uuid[]) AND worker <> %s LIMIT 1"


class Nap(NamedTuple):
    """A host that is stopped."""

    family: list[int]
    until: float
    """When it wakes at the latest."""
    jobs: list[str]
    worker: int


class Enemy:
    """Strikes at workers, each of which `start` makes; `workers` are those that live now."""

    def __init__(self, ground: Ground, start: Callable[[], Worker], workers: list[Worker], asleep_for: float) -> None:
        self.ground, self.rolls = ground, ground.rolls
        self.workers, self._start = workers, start
        self._asleep_for = asleep_for
        self._asleep: dict[Worker, Nap] = {}
        self.hands = checker.Hands(ground)
        self.in_flight = 0
        self.kills = {"slot": 0, "relay": 0, "keeper": 0, "supervisor": 0}
        self.stops = self.backends_killed = self.restarts = 0

    def plan(self, kills: int) -> list[Callable[[], None]]:
        """The blows of a soak in a random order: so many kills of children, a tenth of it of supervisors and of
        sessions, and some stops past the lease and crashes of the server."""
        last: list[Callable[[], None]] = [self.kill_a_child] * (kills // 4)  # what heals in a second; else all wait
        blows: list[Callable[[], None]] = [self.kill_a_child] * (kills - len(last))
        blows += [self.kill_a_supervisor] * (kills // 10)
        blows += [self.end_a_session] * max(1, kills // 10)
        blows += [self.stop_past_the_lease] * max(1, kills // 60)
        blows += [self.crash_the_server] * max(1, kills // 100)
        self.rolls.shuffle(blows)
        return blows + last

    # Blows --------------------------------------------------------------------------------------------------------

    def kill_a_child(self) -> None:
        worker = self._victim()
        roles = [(name.split("-")[0], pid) for name, pid in sorted(named(worker.pid).items())]
        roles = [(role, pid) for role, pid in roles if role in WEIGHTS]
        if roles:
            ((role, pid),) = self.rolls.choices(roles, [WEIGHTS[role] for role, _ in roles])
            self._kill([pid])
            self.kills[role] += 1

    def kill_a_supervisor(self) -> None:
        """And all its children: a host that is gone."""
        worker = self._victim()
        self._kill(worker.all())
        worker.process.wait()
        self.ground.started.remove(worker)
        self.workers[self.workers.index(worker)] = self._start()
        self.kills["supervisor"] += 1

    def stop_past_the_lease(self) -> None:
        """A host that sleeps until another runs one of its jobs, and then writes what it has to say of it. Whatever it
        had claimed may begin when it wakes."""
        self.let_wake()
        worker = self._victim(busy=True)
        family = worker.all()
        send(family, signal.SIGSTOP)
        number, claimed = self.hands.claimed(family)
        self.in_flight += len(claimed)
        self._asleep[worker] = Nap(family, time.monotonic() + self._asleep_for, claimed, number)
        self.stops += 1

    def end_a_session(self) -> None:
        """An atomic job may be in the middle of its commit: that one is called again."""
        with suppress(psycopg.OperationalError):
            sessions = [row[0] for row in self.ground.sql(SESSIONS)]
            self.ground.sql("SELECT pg_terminate_backend(%s)", self.rolls.choice(sessions))
            self.in_flight += 1
            self.backends_killed += 1

    def crash_the_server(self) -> None:
        assert self.ground.server is not None
        everybody = [pid for worker in self.workers if worker not in self._asleep for pid in worker.all()]
        send(everybody, signal.SIGSTOP)
        self.in_flight += len(self.hands.begun(everybody))
        self.ground.server.crash()
        send(everybody, signal.SIGCONT)
        self.ground.server.start()
        self.restarts += 1

    def wake(self) -> None:
        """Let those go on whose jobs are being run by another, and those that have slept for long enough."""
        for worker, nap in list(self._asleep.items()):
            if time.monotonic() >= nap.until or self.ground.sql(RUN_BY_ANOTHER, nap.jobs, nap.worker):
                del self._asleep[worker]
                # The slots first: once their keeper looks at its heartbeat, none of them gets another word in.
                send(worker.slots(), signal.SIGCONT)
                time.sleep(0.1)
                send(nap.family, signal.SIGCONT)

    def let_wake(self) -> None:
        """Wait until nobody sleeps."""
        while self._asleep:
            self.wake()
            time.sleep(0.02)

    def _victim(self, *, busy: bool = False) -> Worker:
        """One that is awake and has slots: one that is still starting has nothing to lose. If `busy`, and has something
        in its hands, where there is one."""
        until = time.monotonic() + 5

        def found() -> Worker | None:
            self.wake()
            standing = [worker for worker in self.workers if worker not in self._asleep and worker.slots()]
            if busy and time.monotonic() < until:
                standing = [worker for worker in standing if self.hands.begun(worker.slots())]
            return self.rolls.choice(standing) if standing else None

        victim: Worker = self.ground.wait(found, 30, "a worker that could be struck")
        return victim

    def _kill(self, pids: list[int]) -> None:
        send(pids, signal.SIGSTOP)
        self.in_flight += len(self.hands.begun(pids))
        send(pids, signal.SIGKILL)


def send(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
