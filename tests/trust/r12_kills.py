"""R12. Jobs that never end, each in its own way, with a limit of 1 s: gone in time with all they left.

Then the slot has to work again. Full size: each of the 17 torture tasks twelve times;
`tests/process/test_kills.py` has one of each, one after another.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from jobs.tasks import Task
from tests import hangs
from tests.support.processes import alive
from tests.trust.ground import Ground
from tests.trust.report import Report, percentile

NO_HANGS = ("cleans_up", "say_and_die")
TASKS = [value for value in vars(hangs).values() if isinstance(value, Task) and value.func.__name__ not in NO_HANGS]

# A task that swallows its cancellation and the like may leave a session idle; what counts is one that still works.
SESSIONS = """SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'jobs-slot-%%'
AND (query LIKE '%%pg_sleep%%' OR query LIKE '%%tests_effect%%') AND pid <> pg_backend_pid()"""


def begun(ground: Ground, seen: int) -> Iterator[tuple[str, float, list[int]]]:
    """Hanging tasks that have said which processes they are, after the first `seen` lines."""
    for line in ground.evidence.path.read_text().splitlines()[seen:]:
        name, at, *pids = line.split()
        yield name, float(at), [int(pid) for pid in pids]


def row(ground: Ground, report: Report) -> None:
    worker = ground.worker("--slots", "2")
    ground.ready(worker)
    lateness: list[float] = []
    sessions: list[float] = []
    reuse: list[float] = []
    survivors = 0
    order = TASKS * 12
    ground.rolls.shuffle(order)
    order = order[: ground.size(len(order), 4)]
    for task in order:
        seen = len(ground.evidence.path.read_text().splitlines())
        job = task.enqueue()
        name, at, pids = ground.wait(lambda seen=seen: next(begun(ground, seen), None), 20, task.name)
        if task is hangs.awaits_for_ever:
            pids = []  # it lets itself be cancelled, and the slot lives on
        limit = at + hangs.LIMIT
        while any(map(alive, pids)) and time.monotonic() < limit + 5:
            time.sleep(0.005)
        lateness.append(time.monotonic() - limit)
        left = [pid for pid in pids if alive(pid)]
        survivors += len(left)
        if lateness[-1] > 2.0:
            report.note(f"late by {lateness[-1]:.1f} s: {name}, {len(left)} of its processes are left")
        ground.wait(lambda: not ground.value(SESSIONS), 10, f"the session of {name}")
        sessions.append(time.monotonic() - limit)
        ended = f"SELECT 1 FROM jobs_finishedjob WHERE id = '{job.id}'"
        ground.wait(lambda ended=ended: ground.sql(ended), 10, f"{name} is recorded")
        ground.wait(lambda: len(worker.slots()) == 2, 10, "the slot is back")
        reuse.append(time.monotonic() - limit)
    kinds = ground.sql(
        "SELECT job, count(*) FILTER (WHERE kind = 'timed_out'), count(*) FROM jobs_attempt GROUP BY job"
    )
    report.figure("kills", len(order))
    report.figure("ways to hang", len(set(map(id, order))))
    report.must("processes that survived", survivors, "==", 0)
    report.must("seconds past the limit, p50", percentile(lateness, 0.5), "<=", 1.5)
    report.must("seconds past the limit, max", max(lateness), "<=", 2.0)
    report.must("seconds to the end on the server, max", max(sessions), "<=", 3.0)
    report.must("seconds to the record and a new slot, max", max(reuse), "<=", 3.0)
    report.must(
        "jobs with exactly one timeout recorded", sum(one == all_ == 1 for _, one, all_ in kinds), "==", len(order)
    )
    report.must("effects after the end", ground.value("SELECT count(*) FROM tests_effect"), "==", 0)
