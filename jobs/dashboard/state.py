"""Queues, workers, and what needs a person now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from jobs.conf import jobs_settings
from jobs.dashboard.counts import MOST, Count
from jobs.dashboard.look import Found, rows

PAUSES = """SELECT name, paused_at, until, reason, by, until IS NULL OR until > clock_timestamp() AS holds
FROM jobs_queue ORDER BY name LIMIT 200"""

RUNNING = """SELECT queue, count(*) AS n FROM (SELECT queue FROM jobs_job WHERE state = 'running' LIMIT 20000) AS these
GROUP BY queue"""

WORKERS = """SELECT id, name, queues, slots, version, wish, running, started_at, heartbeat_at,
  extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 AS silent
FROM jobs_worker ORDER BY id LIMIT 500"""

NAMED = "SELECT id, task, source_name, queue FROM jobs_job WHERE id = ANY(%s::uuid[])"


@dataclass(frozen=True)
class QueueNow:
    """One queue as it stands."""

    name: str
    depth: int
    lag: float
    running: int
    rate: float
    failed: int
    pause: Found | None
    late: bool
    """Its eldest job has waited for longer than JOBS["LAG_LIMIT"]."""

    @property
    def shown_depth(self) -> str:
        return str(Count(self.depth, "more than" if self.depth >= MOST else ""))

    @property
    def drains_in(self) -> float | None:
        """Seconds until it is empty if nothing new came, at the speed of the last five minutes."""
        return self.depth / self.rate if self.rate > 0 and self.depth else None


@dataclass(frozen=True)
class Busy:
    """What a slot executes."""

    slot: int
    job: str
    seconds: float
    label: str


@dataclass(frozen=True)
class WorkerNow:
    """One worker as of its last heartbeat."""

    id: int
    name: str
    queues: str
    slots: int
    version: str
    wish: str
    started_at: datetime
    silent: float
    alive: bool
    busy: list[Busy]

    @property
    def busy_slots(self) -> int:
        return len({each.slot for each in self.busy})


def queues(depths: list[Found], rates: dict[str, Found]) -> list[QueueNow]:
    """Every queue that is declared, paused, or has something to do."""
    settings = jobs_settings()
    waiting = {row.queue: row for row in depths}
    pauses = {row.name: row for row in rows(PAUSES)}
    running = {row.queue: row.n for row in rows(RUNNING)}
    names = sorted({*settings.QUEUES, *waiting, *pauses, *running, *rates})
    found = []
    for name in names:
        row, rate, pause = waiting.get(name), rates.get(name), pauses.get(name)
        lag = row.lag if row is not None else 0.0
        held = pause if pause is not None and pause.holds else None
        found.append(
            QueueNow(
                name,
                row.depth if row is not None else 0,
                lag,
                running.get(name, 0),
                rate.rate if rate is not None else 0.0,
                rate.failed or 0 if rate is not None else 0,
                held,
                held is None and lag > settings.LAG_LIMIT,
            )
        )
    return found


def workers() -> list[WorkerNow]:
    found = rows(WORKERS)
    told = {row.id: _told(row.running) for row in found}
    ids = [job for busy in told.values() for _, job, _ in busy]
    names = {str(row.id): row.source_name or row.task for row in rows(NAMED, (ids,))} if ids else {}
    dead_after = jobs_settings().DEAD_AFTER
    return [
        WorkerNow(
            row.id,
            row.name,
            row.queues,
            row.slots,
            row.version,
            row.wish,
            row.started_at,
            row.silent,
            row.silent <= dead_after,
            [Busy(slot, job, seconds, names.get(job, "")) for slot, job, seconds in told[row.id]],
        )
        for row in found
    ]


def _told(text: str) -> list[tuple[int, str, float]]:
    """What a heartbeat said; nothing where that cannot be read."""
    try:
        return [(int(slot), str(UUID(job)), float(seconds)) for slot, job, seconds in json.loads(text or "[]")]
    except (ValueError, TypeError, AttributeError):
        return []


def needs(counts: dict[str, Count], queues: list[QueueNow], workers: list[WorkerNow]) -> list[dict[str, Any]]:
    """What a person should look at first; the worst first."""
    found: list[dict[str, Any]] = []
    waiting = counts["ready"].n + counts["scheduled"].n + counts["retrying"].n
    if not (alive := any(worker.alive for worker in workers)):
        text = "No worker is alive" + (f", and {waiting:,} jobs wait." if waiting else ".")
        found.append({"level": "bad" if waiting else "mild", "text": text, "page": "workers"})
    found += [{"level": "bad", "text": "is late", "page": "queues", "queue": queue} for queue in queues if queue.late]
    if counts["set_aside"].n:
        found.append(
            {"level": "bad", "count": counts["set_aside"], "text": "could not be delivered", "page": "set_aside"}
        )
    if counts["dead"].n:
        found.append({"level": "bad", "count": counts["dead"], "text": "dead", "page": "failures"})
    found += [
        {"level": "mild", "text": "is silent", "page": "workers", "worker": worker}
        for worker in workers
        if alive and not worker.alive
    ]
    found += [
        {"level": "mild", "text": "is paused", "page": "queues", "queue": queue} for queue in queues if queue.pause
    ]
    return found
