"""R21. TERM, INT, QUIT and TERM twice, to a worker that idles, runs a job, finishes one or starts; as PID 1; under sh.

It has to end within its grace and 2 s, with nothing left behind; unfinished jobs are runnable within 1 s of the exit,
and nothing is charged to them. Full size: the matrix four times.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import product

from jobs import child
from tests.support.processes import alive, title_of
from tests.trust.ground import Ground, RowFailed, Worker
from tests.trust.report import Report
from tests.trust.tasks import works

GRACE = 0.5
ARGUMENTS = ("--slots", "2", "--drain-timeout", str(GRACE))
SIGNALS: dict[str, tuple[int, ...]] = {
    "TERM": (signal.SIGTERM,),
    "INT": (signal.SIGINT,),
    "QUIT": (signal.SIGQUIT,),
    "TERM twice": (signal.SIGTERM, signal.SIGTERM),
}
STATES = ("idle", "in a job", "finishing", "starting")
CHARGED = "SELECT count(*) FROM jobs_job WHERE attempts > 0 OR crashes > 0"


class Matrix:
    """Plays one cell after the other."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.number = 0
        self.exits: list[float] = []
        self.back: list[float] = []
        self.bad: list[str] = []
        self.charged = self.left = 0

    def play(
        self,
        name: str,
        signals: tuple[int, ...],
        state: str,
        start: Callable[[], Worker],
        find: Callable[[Worker], int],
    ) -> None:
        ground = self.ground
        worker = start()
        jobs = []
        if state == "starting":
            # From its first line on: before that it is Python's own start, which TERM ends like any program's.
            ground.wait(lambda: "slots," in worker.said() or worker.process.poll() is not None, 20)
            time.sleep(ground.rolls.random() * 0.1)
        else:
            ground.wait(
                lambda: len(self.slots(worker)) == 2 and ground.value("SELECT count(*) FROM jobs_worker"),
                20,
                worker.said,
            )
        if state in ("in a job", "finishing"):
            seconds = 3600.0 if state == "in a job" else 0.3
            before = ground.evidence.count("begins")
            jobs = [str(works.enqueue(self.number + n, seconds).id) for n in range(2)]
            self.number += 2
            ground.wait(lambda: ground.evidence.count("begins") == before + 2, 20, worker.said)
            time.sleep(0 if state == "in a job" else 0.28)
        below = child.descendants(worker.pid)
        began = time.monotonic()
        for number in signals:
            if worker.process.poll() is None:
                os.kill(find(worker), number)
            time.sleep(0.02)
        try:
            ground.wait(lambda: worker.process.poll() is not None, GRACE + 10)
        except RowFailed:
            self.bad.append(f"{name}, {state}: still there")
            worker.kill()
            return
        self.exits.append(time.monotonic() - began)
        status = worker.process.returncode
        if status not in (0, -signals[0], 128 + signals[0]) or (status and state != "starting" and name != "sh -c"):
            self.bad.append(f"{name}, {state}: exit status {status}")
        # The kernel ends them with their parent, a moment later; a shell is gone long before its worker.
        with suppress(RowFailed):
            ground.wait(lambda: not any(map(alive, below)), GRACE + 2 if name == "sh -c" else 1.0)
        if left := list(filter(alive, below)):
            self.left += len(left)
            self.bad.append(f"{name}, {state}: {len(left)} processes left behind")
            for pid in left:
                child.kill_tree(pid)
        if jobs:
            ended = "SELECT count(*) FROM jobs_finishedjob WHERE state = 'succeeded' AND id = ANY(%s::uuid[])"
            ready = "SELECT count(*) FROM jobs_job WHERE state = 'ready' AND id = ANY(%s::uuid[])"
            gone = time.monotonic()
            ground.wait(lambda: ground.value(ended, jobs) + ground.value(ready, jobs) == 2, 30, f"{name}, {state}")
            self.back.append(time.monotonic() - gone)
        self.charged += ground.value(CHARGED)
        ground.sql("DELETE FROM jobs_job")

    def slots(self, worker: Worker) -> list[int]:
        """The slots below a worker, however many programs stand between."""
        return [pid for pid in child.descendants(worker.pid) if title_of(pid).startswith("slot")]


def itself(worker: Worker) -> int:
    return worker.pid


def whole_group(worker: Worker) -> int:
    """As a terminal and systemd do it."""
    return -worker.pid


def below(worker: Worker) -> int:
    """The first process below: the supervisor where another program has started it."""
    return (child.descendants(worker.pid) or [worker.pid])[0]


def row(ground: Ground, report: Report) -> None:
    matrix = Matrix(ground)
    cells = list(product(SIGNALS.items(), STATES)) * 4
    ground.rolls.shuffle(cells)
    for (name, signals), state in cells[: ground.size(len(cells), 4)]:
        matrix.play(name, signals, state, lambda: ground.worker(*ARGUMENTS), itself)
    report.figure("cells of the matrix", min(len(cells), ground.size(len(cells), 4)))

    command = shlex.join([sys.executable, "manage.py", "runworkers", *ARGUMENTS])
    outer: dict[str, tuple[tuple[str, ...], Callable[[Worker], int]]] = {
        # A shell passes no signal on. Where it stands in between, whoever stops the group reaches the worker; who
        # stops the shell alone does not, which is why the documentation asks for exec.
        "sh -c": (("sh", "-c", f"{command}; exit $?"), whole_group),
        "sh -c exec": (("sh", "-c", f"exec {command}"), itself),
        "PID 1": (("unshare", "--fork", "--pid", "--mount-proc", "--kill-child"), below),
    }
    for name, (prefix, find) in outer.items():
        for state in ("idle", "in a job")[: 2 if ground.scale >= 0.2 else 1]:
            whole = name != "PID 1"
            start = partial(ground.shell, prefix) if whole else partial(ground.worker, *ARGUMENTS, prefix=prefix)
            matrix.play(name, SIGNALS["TERM"], state, start, find)
    report.must("seconds to the exit, max", max(matrix.exits, default=99.0), "<=", GRACE + 2)
    report.must("seconds from the exit until runnable, max", max(matrix.back, default=0.0), "<=", 1.0)
    report.must("cells that ended otherwise than they should", len(matrix.bad), "==", 0)
    report.must("processes left behind", matrix.left, "==", 0)
    report.must("jobs that were charged", matrix.charged, "==", 0)
    for text in matrix.bad:
        report.note(text)
