"""How it stands now, in one look: what `manage.py jobs` prints and what metrics are made of."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import router

from jobs.conf import jobs_settings
from jobs.dashboard import counts, state, trends
from jobs.dashboard.counts import MOST, Count
from jobs.dashboard.state import QueueNow, WorkerNow
from outbox.ask import ask
from outbox.models import Message

OUTBOX = """SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(written_at)), 0)::float8
FROM (SELECT written_at FROM outbox_message ORDER BY id LIMIT %s) AS these"""


@dataclass(frozen=True)
class OutboxNow:
    """What is committed and not relayed yet."""

    depth: int
    lag: float
    """Seconds since the eldest was written."""
    late: bool
    """Over JOBS["LAG_LIMIT"]: no relay runs, or none gets through."""


@dataclass(frozen=True)
class Now:
    """Everything that a person or a monitor asks first."""

    outbox: OutboxNow
    counts: dict[str, Count]
    queues: list[QueueNow]
    workers: list[WorkerNow]

    def ailments(self, host: str = "") -> list[str]:
        """What a probe should call ill; empty is healthy. With `host`, only what the workers of that host can mend."""
        if host:
            own = [worker for worker in self.workers if worker.name.rpartition(":")[0] == host]
            return [] if any(worker.alive for worker in own) else [f"no worker of {host} is alive"]
        found = [] if any(worker.alive for worker in self.workers) else ["no worker is alive"]
        if self.outbox.late:
            found.append(f"the eldest message has not been relayed for {self.outbox.lag:.0f} s")
        return found + [
            f"the eldest job of queue {queue.name} waits for {queue.lag:.0f} s" for queue in self.queues if queue.late
        ]


def look() -> Now:
    """Read it all; raises TooSlow, or the database's own error."""
    depths = counts.depths()
    return Now(_outbox(), counts.by_state(depths), state.queues(depths, trends.rates()), state.workers())


def _outbox() -> OutboxNow:
    ((depth, lag),) = ask(router.db_for_write(Message), OUTBOX, (MOST,))
    return OutboxNow(depth, max(0.0, lag), lag > jobs_settings().LAG_LIMIT)
