"""Processor time for each job: of the workers and of the server.

Where others use the same processors, times of the clock say as much about them as about us; these do not.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jobs import child
from tests.benchmarks import marks, programs
from tests.benchmarks.measures import Figures, tidy
from tests.benchmarks.programs import Program
from tests.benchmarks.server import Database


class Cost(NamedTuple):
    """Microseconds for each job."""

    workers: float
    server: float

    @property
    def both(self) -> float:
        return self.workers + self.server


def metered(database: Database, program: Program, jobs: int) -> Cost:
    """Watch a program work off `jobs`: what each has cost from about the first to about the last."""
    server = _server(database)

    def begun(number: int) -> bool:
        return program.over or marks.count(database.folder) >= number  # who ended early is found out by the tally

    program.wait_for(lambda: begun(1), within=60, what="the first job")
    count, workers, backends = marks.count(database.folder), _used(program.pid), _used(server)
    program.wait_for(lambda: begun(jobs), within=600, what=f"{jobs} jobs")
    each = 1e6 / max(1, marks.count(database.folder) - count)
    return Cost(each * (_used(program.pid) - workers), each * (_used(server) - backends))


def figures(ours: Sequence[Cost], raw: Sequence[Cost]) -> Figures:
    return {
        "worker_cpu_us": tidy(statistics.median(cost.workers for cost in ours)),
        "server_cpu_us": tidy(statistics.median(cost.server for cost in ours)),
        "raw_worker_cpu_us": tidy(statistics.median(cost.workers for cost in raw)),
        "raw_server_cpu_us": tidy(statistics.median(cost.server for cost in raw)),
        "cpu_ratio": tidy(
            statistics.median(cost.both for cost in raw) / max(1e-9, statistics.median(cost.both for cost in ours))
        ),
    }


def _server(database: Database) -> int:
    """The server's own pid, of which all its processes are children; 0 where it runs elsewhere."""
    with database.connect() as connection:
        path = Path(f"/proc/{connection.info.backend_pid}/stat")
        if not path.exists() or "(postgres)" not in (stat := path.read_text()):
            return 0
        return int(stat.rpartition(")")[2].split()[1])


def _used(pid: int) -> float:
    """Of a process and everything below it, with what has ended."""
    return programs.cpu_seconds([pid, *child.descendants(pid)], ended=True) if pid else 0.0
