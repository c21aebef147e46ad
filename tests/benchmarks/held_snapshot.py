"""S9: a REPEATABLE READ snapshot held open, behind which nothing can be vacuumed, at 200 jobs a second.

The claim is timed all the while. Beside those 200 a second a batch of jobs is drained before the snapshot and another
under it, when it is nearly over; by us, and by the raw loop under a snapshot as old. Then it is released, and the
backlog has to go.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.benchmarks import fill, marks, programs, tally
from tests.benchmarks.head_of_line import percentiles
from tests.benchmarks.measures import Figures, compare, rate, tidy
from tests.benchmarks.plan import Plan, tell
from tests.benchmarks.programs import Program
from tests.benchmarks.raw import CHANNEL
from tests.benchmarks.server import Database

PER_SECOND = 200

WAIT_BEFORE = 0.85
"""Share of the time after which the second batch comes."""


def run(plan: Plan) -> Figures:
    seconds = plan.choose(full=180.0, quick=8.0, smallest=0.5)
    batch = plan.choose(full=20_000, quick=10_000, smallest=100)
    ours = held(plan, seconds, batch, raw=False)
    raw = held(plan, seconds, batch, raw=True)
    took = ours["took"]
    figures: Figures = {
        "seconds": seconds,
        "per_second_meanwhile": PER_SECOND,
        **compare([ours["under"]], [raw["under"]]),
        "before_per_second": tidy(ours["before"]),
        "throughput_kept": tidy(ours["under"] / ours["before"]),
        "raw_throughput_kept": tidy(raw["under"] / raw["before"]),
        **percentiles("claim", took),
        **percentiles("late_claim", took[-max(1, len(took) // 4) :]),
        "backlog_gone_seconds": tidy(ours["gone"]),
    }
    tell(f"held-snapshot: {figures}")
    return figures


def held(plan: Plan, seconds: float, batch: int, *, raw: bool) -> dict[str, Any]:
    """Rates before and under the snapshot, the times of the claims, and how long the backlog stayed."""
    lead = plan.choose(full=6.0, quick=4.0, smallest=0.5)
    flowing = int((lead + seconds) * PER_SECOND)
    with plan.server.database() as database, _workers(database, raw=raw) as workers:
        flow = ("rate", PER_SECOND, flowing, *(["--raw"] if raw else []))
        first = flowing + 1
        with programs.module(database.url, database.folder, "writer", *flow) as writer:
            workers.wait_for(lambda: marks.count(database.folder) > 0, within=60, what="the first job")
            time.sleep(lead / 2)
            before = began(database, workers, first, batch, raw=raw)
            time.sleep(lead / 2)
            size = hot_bytes(database, raw=raw)
            with snapshot(database):
                if raw:
                    time.sleep(seconds * WAIT_BEFORE)
                    under = began(database, workers, first + batch, batch, raw=raw)
                    took = [0.0]
                else:
                    probe = ("prober", seconds, 20, 1)
                    with programs.module(database.url, database.folder, *probe) as prober:
                        time.sleep(seconds * WAIT_BEFORE)
                        under = began(database, workers, first + batch, batch, raw=raw)
                        took = prober.answer()
            released = time.monotonic()
            grown = hot_bytes(database, raw=raw) / size
            writer.ended()
        total = first + 2 * batch - 1
        workers.wait_for(lambda: marks.count(database.folder) >= total, within=120, what="the backlog gone")
        gone = time.monotonic() - released
        if raw:
            tally.ran_once(database, total)
        else:
            workers.terminate()
            tally.ended_once(database, total)
    return {"before": before, "under": under, "took": took, "gone": gone, "grown": grown}


def hot_bytes(database: Database, *, raw: bool) -> int:
    """What the table that is claimed from takes on disk, with its indexes."""
    table = "raw_job" if raw else "jobs_job"
    ((size,),) = database.execute("SELECT pg_total_relation_size(%s::regclass)", (table,))
    return int(size)


@contextmanager
def _workers(database: Database, *, raw: bool) -> Iterator[Program]:
    if raw:
        started = programs.module(database.url, database.folder, "raw", "drain", "--processes", 2, "--listen")
    else:
        started = programs.manage(database.url, database.folder, "runworkers", "--slots", "2")
    with started as program:
        yield program


@contextmanager
def snapshot(database: Database) -> Iterator[None]:
    """Somebody's report that takes long: what it may still want to see, nobody can clear away."""
    with database.connect() as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM jobs_job")
        yield
        connection.execute("ROLLBACK")


def began(database: Database, workers: Program, first: int, jobs: int, *, raw: bool) -> float:
    """Put jobs into the queue of workers that wait, and see all of them begin: jobs per second."""
    last = first + jobs - 1
    tail, found = marks.Tail(database.folder), list[marks.Mark]()
    with database.connect() as connection, connection.transaction():
        if raw:
            connection.execute(fill.RAW_JOBS, (0, first, last))
            connection.execute(f"NOTIFY {CHANNEL}")
        else:
            connection.execute(fill.JOBS, (fill.TASK, "ready", first, last))
            connection.execute("NOTIFY jobs_ready")

    def all_began() -> bool:
        found.extend(mark for mark in tail.read() if first <= mark.index <= last)
        return len(found) >= jobs

    workers.wait_for(all_began, within=120, what=f"jobs {first} to {last}")
    return rate(sorted(found, key=lambda mark: mark.at))
