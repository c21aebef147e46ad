"""What people want of the workers: pauses, cancellations, quiet or stopped workers. A keeper asks once a second.

It takes the rows that `operate` has written; it leaves the paused queues on the board, where each slot's next claim
sees them without a query, and tells the supervisor which running job to stop. A job that does not run is cancelled
here. A crash leaves the wish standing for the next look.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from jobs.announce import cancelled
from jobs.board import ALL_QUEUES, Board
from jobs.operate import CANCEL
from jobs.verdict import Channel
from outbox.session import Query, Row, Session

# One statement for everything: an idle worker is to cost next to nothing.
ORDERS = """SELECT 'pause', name, NULL::uuid, NULL::int, NULL::bigint, NULL::bigint FROM jobs_queue
  WHERE until IS NULL OR until > clock_timestamp()
UNION ALL SELECT 'wish', wish, NULL, NULL, NULL, NULL FROM jobs_worker WHERE id = %s AND wish <> ''
UNION ALL (SELECT 'cancel', wanted.reason, wanted.job, job.lease, job.claimer, job.worker
  FROM jobs_cancellation AS wanted LEFT JOIN jobs_job AS job ON job.id = wanted.job ORDER BY wanted.job LIMIT 1000)"""

FORGET = "DELETE FROM jobs_cancellation WHERE job = ANY(%s::uuid[])"


def ordered(worker: int) -> Query:
    """The query for what is wanted of that worker."""
    return Query(ORDERS, (worker,))


@dataclass
class Orders:
    """What this worker's keeper knows of them."""

    board: Board
    channel: Channel
    paused: list[str] = field(default_factory=list)
    _told: set[tuple[str, int]] = field(default_factory=set)

    def look(self, session: Session, worker: int) -> None:
        """Read them and carry them out."""
        self.obey(session, session.run(ordered(worker), durable=False), worker)

    def obey(self, session: Session, rows: list[Row], worker: int) -> None:
        """Carry out what the rows of `ordered` say."""
        wish = next((row[1] for row in rows if row[0] == "wish"), "")
        self.paused = sorted(row[1] for row in rows if row[0] == "pause")
        self.board.paused = ALL_QUEUES if wish else "\n".join(self.paused)
        if wish == "stop":
            self.channel.send({"stop": True})
        self._cancel(session, [row[1:] for row in rows if row[0] == "cancel"], worker)

    def _cancel(self, session: Session, wanted: list[tuple[Any, ...]], worker: int) -> None:
        over: list[UUID] = []
        told: set[tuple[str, int]] = set()
        for reason, job, lease, claimer, owner in wanted:
            if lease is None:
                over.append(job)  # it has ended, by itself or because it was told to
            elif owner is None:
                cancelled(session.run(Query(CANCEL, ([job], reason))), reason)
                self.board.wake_mover()
            elif owner == worker:
                told.add((str(job), lease))
                if (str(job), lease) not in self._told:
                    self.channel.send({"cancel": str(job), "lease": lease, "claimer": claimer, "reason": reason})
        # Told again after a while only where it was not on the board yet: claimed and not begun.
        self._told = told & {(str(job.job), job.lease) for slot in self.board.slots for job in slot.running()}
        if over:
            session.run(Query(FORGET, (over,)), durable=False)
