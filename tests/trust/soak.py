"""The soak: jobs of every kind flow while an enemy strikes, and then it is counted what became of each.

It takes a number of jobs and of kills; it leaves a Finding, from the tables and the side file alone. Half of the jobs
are atomic, some at most once, the others plain (a third of these async); one transaction in ten is rolled back; some
wait for a while, each has a priority, every tenth fails at its first attempt.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, InterfaceError, connection, transaction

from tests.trust import checker
from tests.trust.enemy import Enemy
from tests.trust.finding import Finding
from tests.trust.ground import Ground, Worker
from tests.trust.models import Order
from tests.trust.tasks import exactly, once, plain, plain_async

SETTINGS = {"HEARTBEAT": 0.5, "DEAD_AFTER": 5.0, "MAX_CRASHES": 100}
"""A lease of 6 s, which no restart of the server outlasts. Who is struck by chance many times is no poison here."""

ASLEEP = 10.0
"""Seconds after which a stopped host wakes though nobody has run its jobs."""

KINDS = ((exactly, 0.5), (once, 0.15), (plain_async, 0.1), (plain, 0.25))
"""Of each transaction."""

PRIORITIES = ("low", "default", "default", "high")

STALE = """SELECT (SELECT count(*) FROM jobs_finishedjob WHERE state = 'succeeded' AND result LIKE '{"lease":%%'
    AND (result::json->>'lease')::int <> lease)
  + (SELECT count(*) FROM jobs_attempt WHERE error LIKE 'ConnectionError: lease %%'
    AND substring(error FROM 'lease ([0-9]+)')::int <> lease)"""

# Of the attempts that were seen to fail: a start under another lease than these has no outcome but the last.
SEEN = "SELECT job::text, lease FROM jobs_attempt WHERE kind IN ('failed', 'timed_out')"

ENDED = "SELECT id::text, state, crashes, error FROM jobs_finishedjob"

CHILDREN = """SELECT parent::text, count(*) FROM (SELECT parent FROM jobs_job UNION ALL SELECT parent FROM
  jobs_finishedjob UNION ALL SELECT NULLIF(headers::json->>'parent', '')::uuid FROM outbox_message) AS jobs
WHERE parent IS NOT NULL GROUP BY parent"""


class RolledBack(Exception):
    """The business changed its mind."""


class Soak:
    """Feeds while the enemy strikes."""

    def __init__(self, ground: Ground) -> None:
        self.ground, self.rolls = ground, ground.rolls
        self.enemy = Enemy(ground, self._worker, [self._worker(), self._worker()], ASLEEP)
        self.acknowledged = 0
        self.rolled_back: set[int] = set()
        self.kinds: dict[str, str] = {}
        """Of each job that was enqueued, whatever became of its transaction."""
        self._next = 0

    def _worker(self) -> Worker:
        return self.ground.worker("--slots", "2", jobs=SETTINGS)

    def play(self, jobs: int, kills: int, minutes: float) -> Finding:
        """All of it; what has not ended after so many minutes is stuck."""
        self.ground.ready(*self.enemy.workers)
        began = time.monotonic()
        blows = self.enemy.plan(kills)
        for n, blow in enumerate(blows, 1):
            while self.acknowledged * len(blows) < jobs * n:
                self._feed(max(8, min(100, jobs // len(blows))))
            time.sleep(self.rolls.random() * 0.06)  # each at another point
            self.enemy.wake()
            if blow == self.enemy.stop_past_the_lease:
                self._feed(20, long=True)
            blow()
        self.enemy.let_wake()
        self.fed = time.monotonic() - began
        self.ground.settle(max(60.0, 60 * minutes - (time.monotonic() - began)))
        return self._find(time.monotonic() - began)

    def _feed(self, count: int, *, long: bool = False) -> None:
        """One transaction of so many jobs of all kinds, with a row of business for each; one in ten is rolled back."""
        numbers = range(self._next, self._next + count)
        self._next += count
        try:
            with transaction.atomic():
                self._enqueue(numbers, long)
                if self.rolls.random() < 0.1:
                    raise RolledBack
        except RolledBack:
            self.rolled_back.update(numbers)
        except (DatabaseError, InterfaceError):
            connection.close()  # in doubt, as every caller is whose commit was cut off: the rows will tell
            time.sleep(0.05)
        else:
            self.acknowledged += count

    def _enqueue(self, numbers: range, long: bool) -> None:
        first, orders = numbers.start, []
        for task, share in KINDS:
            mine = range(first, numbers.stop if task is plain else first + max(1, round(share * len(numbers))))
            first = mine.stop
            using = task.using(priority=self.rolls.choice(PRIORITIES))
            if self.rolls.random() < 0.2:
                using = using.using(delay=timedelta(seconds=self.rolls.random() * 2))
            handles = using.enqueue_many([(number, 0.4 if long else self.rolls.random() * 0.002) for number in mine])
            orders += [Order(number=number, job=handle.id) for number, handle in zip(mine, handles, strict=True)]
            self.kinds |= {str(handle.id): task.func.__name__ for handle in handles}
        Order.objects.bulk_create(orders)

    # What became of them ------------------------------------------------------------------------------------------

    def _find(self, took: float) -> Finding:
        ground, enemy = self.ground, self.enemy
        stuck = checker.stuck(ground)  # first: where the time was over, the workers go on while this is counted
        committed = {str(job): number for number, job in ground.sql("SELECT number, job FROM trust_order")}
        self.numbers = committed
        self.rolled_back_run = len(self.rolled_back & set(ground.evidence.numbers("begins")))
        self.committed = len(committed)
        repeated = self._repeated()
        ends = {job: (state, crashes, error) for job, state, crashes, error in ground.sql(ENDED)}
        atomic = {
            job: number for job, number in committed.items() if self.kinds[job] == "exactly" and job in ends
        }  # fmt: skip
        self.dead_of_a_lost_worker = sum(self._given_up(job, ends) for job in committed)
        self.ended_badly = sum(
            ends.get(job, ("succeeded",))[0] != "succeeded" and not self._given_up(job, ends) for job in committed
        )
        once_ = [job for job, kind in self.kinds.items() if kind == "once"]
        return Finding(
            jobs=len(committed),
            kills=sum(enemy.kills.values()),
            stops=enemy.stops,
            backends_killed=enemy.backends_killed,
            restarts=enemy.restarts,
            lost=checker.missing(ground, committed) + max(0, self.acknowledged - len(committed)),
            atomic_duplicated=self._off(atomic, lambda count, due: max(0, count - due)),
            atomic_missing=self._off(atomic, lambda count, due: max(0, due - count)),
            at_most_once_repeated=sum(repeated[job] for job in once_),
            stale_writes=ground.value(STALE.replace("%%", "%")),
            external_duplicates=sum(repeated.values()),
            in_flight_at_kills=enemy.in_flight,
            stuck=stuck,
            seconds=round(took, 1),
        )

    def _given_up(self, job: str, ends: dict[str, tuple[str, int, str]]) -> bool:
        """An at_most_once job that is dead because nobody can know how far it came."""
        state, crashes, error = ends.get(job, ("", 0, ""))
        return self.kinds[job] == "once" and state == "dead" and crashes == 1 and "at_most_once" in error

    def _off(self, atomic: dict[str, int], far: Any) -> int:
        """How far rows and children of atomic jobs are from one each."""
        effects = Counter(dict(self.ground.sql("SELECT number, count(*) FROM trust_effect GROUP BY number")))
        children = Counter(dict(self.ground.sql(CHILDREN)))
        known = set(atomic.values())
        self.without_a_row = sorted(known - effects.keys())
        rows = sum(far(effects[number], 1) for number in known)
        mine = {number for job, number in self.numbers.items() if self.kinds[job] == "exactly"}
        rows += far(sum(count for number, count in effects.items() if number not in mine), 0)
        return int(rows + sum(far(children[job], number % 10 == 0) for job, number in atomic.items()))

    def _repeated(self) -> Counter[str]:
        """Starts of each job beyond the first, but for those after an outcome that was seen."""
        seen = set(self.ground.sql(SEEN))
        starts = Counter(under(self.ground))
        repeated: Counter[str] = Counter()
        for (job, lease), count in starts.items():
            repeated[job] += count if (job, lease) not in seen else count - 1
        for job in repeated:
            repeated[job] = max(0, repeated[job] - 1)
        return repeated


def under(ground: Ground) -> Iterable[tuple[str, int]]:
    """Which job has begun under which lease."""
    return ((line.job, line.number) for line in ground.evidence.said("under"))
