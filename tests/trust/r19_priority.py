"""R19. At 120 % of what the slots can do: high starts within a second, and low gets its share of the slots.

Full size: 300 s. First one high job to nine low ones, which is where high has to be fast. Then nine high to one low,
more high than there is room for, which is where low may not starve.
"""

from __future__ import annotations

import time

from tests.trust.ground import Ground
from tests.trust.report import Report, percentile
from tests.trust.tasks import works

SECONDS_A_JOB = 0.02
SLOTS = 2


class Load:
    """Jobs that come evenly, and when each of them began."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.enqueued: dict[int, float] = {}
        self.high: set[int] = set()

    def come(self, seconds: float, share_of_high: float) -> tuple[float, float]:
        """Between which two moments."""
        began = time.monotonic()
        a_second = 1.2 * SLOTS / SECONDS_A_JOB
        come = 0
        while (now := time.monotonic()) < began + seconds:
            due = int((now - began) * a_second) - come
            for high in (True, False):
                count = sum((self.ground.rolls.random() < share_of_high) == high for _ in range(due))
                numbers = range(len(self.enqueued), len(self.enqueued) + count)
                task = works.using(priority="high" if high else "low")
                task.enqueue_many([(number, SECONDS_A_JOB) for number in numbers])
                self.enqueued |= dict.fromkeys(numbers, time.monotonic())
                self.high |= set(numbers) if high else set()
            come += due
            time.sleep(0.02)
        return began, time.monotonic()


def row(ground: Ground, report: Report) -> None:
    seconds = max(5.0, 300 * ground.scale)
    worker = ground.worker("--slots", str(SLOTS))
    ground.ready(worker)
    works.enqueue_many([(-1 - n, SECONDS_A_JOB) for n in range(20)])  # it measures how long a job takes
    ground.wait(ground.settled, 20)
    load = Load(ground)
    _, over = load.come(seconds, 0.1)
    waits = [
        line.at - load.enqueued[line.number]
        for line in ground.evidence.said("begins")
        if line.number in load.high and line.at < over
    ]
    unstarted = len(load.high) - len(waits)
    report.figure("high jobs among low ones", len(load.high))
    report.figure("high: seconds to the start, p50", percentile(waits, 0.5))
    report.must("high: seconds to the start, p99", percentile(waits, 0.99), "<=", 1.0)
    report.must("high: waiting at the end", unstarted, "<=", 20)
    ground.sql("DELETE FROM outbox_message")
    ground.sql("DELETE FROM jobs_job WHERE state = 'ready'")

    began, over = load.come(seconds, 0.9)
    started = [line for line in ground.evidence.said("begins") if began + 1 < line.at < over and line.number >= 0]
    low = sum(line.number not in load.high for line in started)
    report.figure("started above capacity", len(started))
    report.must("low: share of the starts", low / max(1, len(started)), ">=", 0.05)
