"""Claim ready jobs: the statement that decides who runs what.

It takes rows that are ready; it leaves them running, with a raised lease and the claimer's number, committed before
anything runs. A crash after the commit leaves running rows whose claimer is gone: the keeper hands them back.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from jobs.board import ALL_QUEUES
from jobs.conf import MAX_PRIORITY, MIN_PRIORITY
from outbox.arrays import quoted
from outbox.session import Query, Row

# Lanes are (queue, from priority, to priority), in the order they are served. LATERAL with LIMIT walks the partial
# index of one lane after the other and stops as soon as it has enough, so only rows that are taken get locked; one
# condition `queue = ANY(...)` instead would sort the whole backlog. ARRAY(...) runs once before the UPDATE: as
# `IN (SELECT ... LIMIT n)` a nested loop may run it for every row and claim the whole table. ctid is safe, the
# subquery holds the locks. SKIP LOCKED: a second slot takes the next rows instead of waiting for these.
CLAIM = """UPDATE jobs_job SET state = 'running', worker = %s, claimer = %s, lease = lease + 1,
  claimed_at = clock_timestamp()
WHERE ctid = ANY(ARRAY(
  SELECT job.ctid FROM unnest(%s::text[], %s::smallint[], %s::smallint[]) AS lane(queue, low, high)
  CROSS JOIN LATERAL (
    SELECT ctid FROM jobs_job
    WHERE state = 'ready' AND queue = lane.queue AND priority BETWEEN lane.low AND lane.high AND task <> ALL(%s::text[])
    ORDER BY priority DESC, ready_at LIMIT %s FOR UPDATE SKIP LOCKED) AS job
  LIMIT %s))
RETURNING id, task, queue, priority, arguments, lease, claimer, attempts, crashes, max_attempts, source_name,
  idempotency_key, depth, version, at_most_once, ready_at, callbacks IS NOT NULL, trace"""

# The names of all queues that have something ready, one index probe each.
DISCOVER = """WITH RECURSIVE found AS (
  (SELECT queue FROM jobs_job WHERE state = 'ready' ORDER BY queue LIMIT 1)
  UNION ALL
  SELECT (SELECT queue FROM jobs_job WHERE state = 'ready' AND queue > found.queue ORDER BY queue LIMIT 1)
  FROM found WHERE found.queue IS NOT NULL)
SELECT queue FROM found WHERE queue IS NOT NULL"""

HIGH, DEFAULT, LOW = BANDS = ((50, MAX_PRIORITY), (-49, 49), (MIN_PRIORITY, -50))

REMEMBERED = 4
"""Queues in which something was found a while ago and nothing lately, and which are asked all the same: a job that
comes to one of them is claimed without a look first."""

LOOK_EVERY = 0.05
"""Seconds between two looks for other queues while every claim is full."""

LOW_FIRST_EVERY = 20
"""One claim in so many serves the lowest band first: low is never starved. Half way between two of these, every
second time, the default band comes first: it may stand between endless high and endless low."""


class Claimed(NamedTuple):
    """A job in a slot's hands."""

    id: UUID
    task: str
    queue: str
    priority: int
    arguments: str
    lease: int
    claimer: int
    attempts: int
    crashes: int
    max_attempts: int
    source_name: str
    idempotency_key: str
    depth: int
    version: int
    at_most_once: bool
    ready_at: datetime
    calls_back: bool = False
    trace: str | None = None


Band = tuple[int, int]
Lane = tuple[str, int, int]


@dataclass
class Lanes:
    """Which queue and which band comes first, claim after claim.

    `strict`: the queues in the order given, each emptied before the next. With `weights`, a queue drawn by weight
    comes first. Otherwise priority rules over all queues, and a queue takes turns at being first in its band. When
    it is low's turn its band comes first in all queues, but for strict ones. With `any_queue` the queues are looked
    up as they come.
    """

    queues: Sequence[str]
    strict: bool = False
    weights: Sequence[float] | None = None
    any_queue: bool = False
    _claims: Iterator[int] = field(default_factory=lambda: count(1))
    _lately: list[str] = field(default_factory=list)
    _short: bool = True
    _looked_at: float = 0.0

    def next(self) -> list[Lane]:
        claim = next(self._claims)
        bands = _bands(claim)
        if self.strict:
            return [(queue, *band) for queue in self.queues for band in bands]
        if self.weights is None:
            # In the special claims `claim` is always a multiple of the same number: they count by themselves.
            turn = (claim if bands is BANDS else claim // LOW_FIRST_EVERY) % max(1, len(self.queues))
            queues = [*self.queues[turn:], *self.queues[:turn]]
        else:
            queues = self._drawn(self.weights)
            if bands is BANDS:
                return [(queue, *band) for queue in queues for band in bands]
        return [(queue, *band) for band in bands for queue in queues]

    def wants_look(self) -> bool:
        """Whether the next claim should bring the rows of DISCOVER as well."""
        return self.any_queue and (self._short or time.monotonic() - self._looked_at > LOOK_EVERY)

    def had(self, jobs: int, wanted: int, found: list[Row] | None) -> bool:
        """So many of those wanted were claimed, and DISCOVER said so after it, if it was asked; whether another claim
        at once may bring more, although this one has brought nothing."""
        self._short = jobs < wanted and found is None
        return self.discovered(found) if found is not None else self.any_queue

    def discovered(self, rows: list[Row]) -> bool:
        """Take the rows of DISCOVER; whether there is a queue that was not asked before."""
        self._looked_at = time.monotonic()
        found, before = [row[0] for row in rows], set(self.queues)
        self._lately = [*found, *(queue for queue in self._lately if queue not in found)][: len(found) + REMEMBERED]
        self.queues = sorted(self._lately)
        return not before.issuperset(found)

    def _drawn(self, weights: Sequence[float]) -> list[str]:
        """All queues in a random order in which the heavier ones tend to come first."""
        keyed = [(random.random() ** (1.0 / weight), queue) for queue, weight in zip(self.queues, weights, strict=True)]  # noqa: S311
        return [queue for _, queue in sorted(keyed, reverse=True)]


def _bands(claim: int) -> tuple[Band, ...]:
    """The bands in the order in which this claim serves them."""
    if claim % LOW_FIRST_EVERY == 0:
        return LOW, DEFAULT, HIGH
    if claim % (2 * LOW_FIRST_EVERY) == 3 * LOW_FIRST_EVERY // 2:
        return DEFAULT, HIGH, LOW
    return BANDS


def unpaused(lanes: list[Lane], paused: str) -> list[Lane]:
    """Without the lanes of queues that are paused, as the board has them."""
    if not paused:
        return lanes
    names = paused.split("\n")
    return [] if paused == ALL_QUEUES else [lane for lane in lanes if lane[0] not in names]


def claim(worker: int, claimer: int, lanes: Sequence[Lane], limit: int, unknown: Collection[str] = ()) -> Query:
    """The query that claims up to `limit` jobs, none of the tasks `unknown`; read its rows with `read`."""
    queues, lows, highs = ([lane[n] for lane in lanes] for n in range(3))
    return Query(CLAIM, (worker, claimer, queues, lows, highs, quoted(unknown), limit, limit))


def read(rows: list[Row], lanes: Sequence[Lane]) -> list[Claimed]:
    """The jobs in the order they should run: UPDATE ... RETURNING promises none."""
    claimed = [Claimed._make(row) for row in rows]
    kinds = {(job.queue, job.priority) for job in claimed}
    claimed.sort(key=attrgetter("ready_at"))
    if len(kinds) > 1:
        turns = {(queue, low): turn for turn, (queue, low, _) in enumerate(lanes)}
        rank = {kind: (turns[kind[0], _low(kind[1])], -kind[1]) for kind in kinds}
        claimed.sort(key=lambda job: rank[job.queue, job.priority])
    return claimed


def _low(priority: int) -> int:
    return next(low for low, high in BANDS if low <= priority <= high)
