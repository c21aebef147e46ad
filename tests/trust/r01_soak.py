"""R01. Jobs flow while slots, whole supervisors and relays are killed with SIGKILL.

Full size: 100,000 jobs, 1,000 kills of children and 100 of supervisors. A twin of each transaction is rolled back now
and then. Duplicates may not exceed what the killed processes had in hand.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from django.db import transaction

from tests.support.processes import named
from tests.trust import checker
from tests.trust.ground import QUICK, Ground, Worker
from tests.trust.report import Report
from tests.trust.tasks import works, writes

SETTINGS = {**QUICK, "MAX_CRASHES": 100}
"""Whoever is struck by chance again and again is no poison here."""


WEIGHTS = {"slot": 5, "relay": 2, "keeper": 1}
"""Who is struck how often."""


class RolledBack(Exception):
    """The business changed its mind."""


class Soak:
    """Feeds, kills and counts."""

    def __init__(self, ground: Ground) -> None:
        self.ground, self.rolls = ground, ground.rolls
        self.workers = [self._worker(), self._worker()]
        self.committed: dict[int, str] = {}
        self.rolled_back: set[int] = set()
        self.in_flight = 0
        self.kills = {"slot": 0, "relay": 0, "keeper": 0, "supervisor": 0}
        self._next = 0

    def _worker(self) -> Worker:
        return self.ground.worker("--slots", "2", jobs=SETTINGS)

    def feed(self, count: int) -> None:
        """One transaction of so many jobs, half of each kind; one in ten is rolled back."""
        numbers = range(self._next, self._next + count)
        self._next += count
        with suppress(RolledBack), transaction.atomic():
            half = len(numbers) // 2
            calls = [(n, self.rolls.random() * 0.002) for n in numbers]
            handles = writes.enqueue_many(calls[:half]) + works.enqueue_many(calls[half:])
            if self.rolls.random() < 0.1:
                self.rolled_back.update(numbers)
                raise RolledBack
        if self._next - 1 not in self.rolled_back:
            self.committed |= {n: str(handle.id) for n, handle in zip(numbers, handles, strict=True)}

    def strike(self, supervisor: bool) -> None:
        """Kill somebody, having counted what that one has in hand."""
        # One that is still starting has nothing to lose.
        worker = self.ground.wait(lambda: self.rolls.choice([w for w in self.workers if w.slots()] or [None]), 30)
        if supervisor:
            victims = [pid for pid in worker.all() if pid != worker.pid]
            self._kill([worker.pid, *victims])
            worker.process.wait()
            self.ground.started.remove(worker)
            self.workers[self.workers.index(worker)] = self._worker()
            self.kills["supervisor"] += 1
            return
        roles = [(name.split("-")[0], pid) for name, pid in sorted(named(worker.pid).items())]
        roles = [(role, pid) for role, pid in roles if role in WEIGHTS]
        if roles:
            ((role, pid),) = self.rolls.choices(roles, [WEIGHTS[role] for role, _ in roles])
            self._kill([pid])
            self.kills[role] += 1

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        self.in_flight += checker.in_flight(self.ground, pids)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def row(ground: Ground, report: Report) -> None:
    jobs, kills = ground.size(100_000, 200), ground.size(1000, 10)
    soak = Soak(ground)
    ground.ready(*soak.workers)
    began = time.monotonic()
    wait = 0.06
    for n in range(kills + kills // 10):
        while len(soak.committed) * kills < jobs * min(n + 1, kills):
            soak.feed(max(2, jobs // kills // 2))
        time.sleep(ground.rolls.random() * wait)  # each kill at another point
        soak.strike(supervisor=n % 11 == 10)
    ground.settle(60 + 120 * ground.scale)
    took = time.monotonic() - began

    duplicates = checker.extra_effects(ground)
    report.figure("jobs committed", len(soak.committed))
    report.figure("jobs rolled back", len(soak.rolled_back))
    for role, count in soak.kills.items():
        report.figure(f"kills of a {role}", count)
    report.figure("jobs per second", len(soak.committed) / took)
    report.figure("in flight at the kills", soak.in_flight)
    report.must("lost", checker.missing(ground, soak.committed.values()), "==", 0)
    report.must("succeeded without an effect", checker.without_effect(ground, soak.committed), "==", 0)
    report.must("in two homes", checker.in_two_homes(ground), "==", 0)
    report.must("run though rolled back", len(soak.rolled_back & set(ground.evidence.numbers("begins"))), "==", 0)
    report.must("stuck", checker.stuck(ground), "==", 0)
    report.must("ended badly", checker.not_succeeded(ground), "==", 0)
    report.must("effects repeated", duplicates, "<=", soak.in_flight)
    report.must("minutes", took / 60, "<=", 10)
    report.note("at_most_once and atomic jobs: not part of this row until the library has them")
