"""Jobs that a slot has claimed together: what one of them takes is no matter of the others."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from jobs.models import FinishedJob, Job
from tests import tasks
from tests.support.processes import Program
from tests.support.side_file import SideFile
from tests.support.wait import wait_until

Start = Callable[..., Program]

FOR_MINUTES = 120.0

SEEN_WITHIN = 0.05
"""Seconds within which a finished job's outcome is visible."""

HELD_UP = 1.0
"""Seconds for which a slow job may hold up the short ones that were claimed with it."""

BUSY_MACHINE = 1.0
"""Seconds more, because these tests share two cores with others."""


def marked(side_file: SideFile, what: str) -> dict[int, float]:
    """When which job began or ended."""
    words = [line.split() for line in side_file.lines()]
    return {int(number): float(at) for said, number, at in words if said == what}


def make_hungry(side_file: SideFile) -> None:
    """A slot that knows only quick jobs claims many at once."""
    tasks.mark_start_and_end.enqueue_many([(1000 + n, 0.0) for n in range(200)])
    wait_until(lambda: len(marked(side_file, "end")) == 200)


def test_a_slow_job_does_not_hold_up_the_short_ones_claimed_with_it(runworkers: Start, side_file: SideFile) -> None:
    short = 60
    runworkers("--slots", "2")
    make_hungry(side_file)

    tasks.mark_start_and_end.enqueue_many([(0, FOR_MINUTES), *((n, 0.0) for n in range(1, short + 1))])
    wait_until(lambda: len(marked(side_file, "start")) == 200 + short + 1)

    began = marked(side_file, "start")
    waited = [began[n] - began[0] for n in range(1, short + 1)]
    assert max(waited) <= HELD_UP + BUSY_MACHINE
    assert 0 not in marked(side_file, "end")


def test_an_outcome_is_visible_at_once_although_the_next_job_runs_for_minutes(
    runworkers: Start, side_file: SideFile
) -> None:
    """All are claimed by the one slot in one go, so each long one has begun before the one before it is written."""
    pairs = 16
    runworkers("--slots", "1")
    make_hungry(side_file)
    wait_until(lambda: FinishedJob.objects.count() == 200)
    FinishedJob.objects.all().delete()
    tasks.mark_start_and_end.enqueue_many(
        [call for n in range(pairs) for call in ((2 * n, 0.0), (2 * n + 1, 0.1 if n < pairs - 1 else FOR_MINUTES))]
    )

    seen: dict[int, float] = {}
    while len(seen) < 2 * pairs - 1:
        ended = FinishedJob.objects.values_list("arguments", flat=True)
        now = time.time()
        for arguments in ended:
            seen.setdefault(int(arguments.split("[")[1].split(",")[0]), now)
        assert not seen or now - max(seen.values()) < 15, "nothing has been written for 15 s"
        time.sleep(0.001)

    ends = marked(side_file, "end")
    assert Job.objects.get().lease == 1
    lags = [seen[2 * n] - ends[2 * n] for n in range(pairs)]
    assert set(seen) == set(range(2 * pairs - 1)), "the last one is still running"
    assert statistics.median(lags) <= SEEN_WITHIN + 0.02, lags
