"""R02. A whole worker is stopped past its lease, another takes its jobs, and then the first one wakes and writes.

Full size: 500 jobs stopped with their worker, and 200 taken away by hand while they ran. Each kind of write is tried
by a zombie: succeeded, retrying, dead, the verdict over a slot that died, handing back at a shutdown, and the
heartbeat. While the zombie writes, the job runs under its new lease: nothing of the row may change.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tests.support.processes import alive, named
from tests.trust.ground import QUICK, Ground, Worker
from tests.trust.report import Report
from tests.trust.tasks import ends_when_told

SLOTS = 6
HOWS = ("succeed", "retry", "die")
ROWS = """SELECT id::text, state, lease, claimer, attempts, crashes FROM jobs_job WHERE state = 'running'
UNION ALL SELECT id::text, state, lease, NULL, attempts, crashes FROM jobs_finishedjob"""

RESET = """UPDATE jobs_job SET state = 'ready', worker = NULL, claimer = NULL, claimed_at = NULL
WHERE id = %s AND state = 'running'"""


class Zombies:
    """Plays rounds of one worker that sleeps and one that takes over."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.workers = [self._worker(), self._worker()]
        self.numbers = 0
        self.zombies = self.stale = self.resets = self.revived = 0
        self.tried = dict.fromkeys((*HOWS, "verdict", "hand back", "heartbeat"), 0)
        ground.ready(*self.workers)

    def _worker(self) -> Worker:
        return self.ground.worker("--slots", str(SLOTS), jobs=QUICK, env={"PYTHONDEVMODE": ""})

    def begin(self, count: int) -> tuple[Path, dict[str, tuple[int, str]]]:
        """Enqueue jobs and wait until each has begun; where each is and how its zombie will end."""
        folder = self.ground.folder / f"round-{self.numbers}"
        folder.mkdir()
        before = self.ground.evidence.count("begins")
        hows = {}
        for n in range(count):
            how = HOWS[n % len(HOWS)]
            job = ends_when_told.enqueue(self.numbers, str(folder), how)
            hows[str(job.id)] = how
            self.numbers += 1
        self.ground.wait(lambda: self.ground.evidence.count("begins") >= before + count, 20, "all begin")
        lines = self.ground.evidence.lines["begins"][before:]
        return folder, {line.job: (line.pid, hows[line.job]) for line in lines}

    def sleeping_worker(self, act: str) -> None:
        """One round: stop, be rescued, wake, write."""
        ground = self.ground
        folder, begun = self.begin(SLOTS)
        sleeper = max(self.workers, key=lambda worker: sum(pid in worker.slots() for pid, _ in begun.values()))
        number = self.number_of(sleeper)
        family = named(sleeper.pid)
        theirs = {job: pid for job, (pid, _) in begun.items() if pid in family.values()}
        before = ground.evidence.count("begins")
        for pid in (sleeper.pid, *family.values()):
            os.kill(pid, signal.SIGSTOP)
        ground.wait(
            lambda: {line.job for line in ground.evidence.said("begins")[before:]} >= set(theirs), 30, "rescued"
        )
        held = self.rows(begun)
        self.zombies += len(theirs)
        if act == "outcome":
            self._wake_slots(folder, theirs, begun)
        elif act == "verdict":
            for pid in theirs.values():
                os.kill(pid, signal.SIGKILL)
            self.tried["verdict"] += len(theirs)
            self._continue([sleeper.pid, family["keeper"]])
            ground.wait(lambda: self.number_of(sleeper) not in (0, number), 20, "registered anew")
        else:
            self.tried["hand back"] += len(theirs)
            os.kill(sleeper.pid, signal.SIGQUIT)
            self._continue([sleeper.pid, *family.values()])
            sleeper.ended(within=20)
        time.sleep(0.15)  # what a zombie has to say it has said by then: outcomes wait for 20 ms at most
        self.stale += sum(held[job] != now for job, now in self.rows(begun).items())
        self._continue([sleeper.pid, *family.values()])
        self.tried["heartbeat"] += 1
        if sleeper.process.poll() is not None:
            self.workers[self.workers.index(sleeper)] = self._worker()
        ground.wait(lambda: all(self.number_of(w) not in (0, number) for w in self.workers), 20, "two workers again")
        self.revived += ground.value("SELECT count(*) FROM jobs_worker WHERE id = %s", number)
        (folder / "go").touch()
        ground.wait(ground.settled, 20, "the round is over")

    def taken_away(self) -> None:
        """One round of jobs that a person makes ready again while they run."""
        folder, begun = self.begin(SLOTS)
        before = self.ground.evidence.count("begins")
        for job in begun:
            self.ground.sql(RESET, job)
        self.ground.sql("NOTIFY jobs_ready")
        self.ground.wait(lambda: self.ground.evidence.count("begins") >= before + len(begun), 20, "begun again")
        held = self.rows(begun)
        again = {line.job: line.pid for line in self.ground.evidence.lines["begins"][before:]}
        self.resets += len(begun)
        self._wake_slots(folder, {job: pid for job, (pid, _) in begun.items() if again[job] != pid}, begun)
        time.sleep(0.15)
        self.stale += sum(held[job] != now for job, now in self.rows(begun).items())
        (folder / "go").touch()
        self.ground.wait(self.ground.settled, 20, "the round is over")

    def _wake_slots(self, folder: Path, theirs: dict[str, int], begun: dict[str, tuple[int, str]]) -> None:
        ended = self.ground.evidence.count("ends")
        for job, pid in theirs.items():
            (folder / f"go-{pid}").touch()
            self.tried[begun[job][1]] += 1
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.ground.wait(lambda: self.ground.evidence.count("ends") >= ended + len(theirs), 20, "zombies end")

    def _continue(self, pids: list[int]) -> None:
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGCONT)

    def rows(self, jobs: object) -> dict[str, tuple[object, ...]]:
        return {row[0]: row[1:] for row in self.ground.sql(ROWS) if row[0] in jobs}  # type: ignore[operator]

    def number_of(self, worker: Worker) -> int:
        """The worker's number in the tables; 0 while it has none."""
        keeper = named(worker.pid).get("keeper")
        found = self.ground.sql("SELECT id FROM jobs_worker WHERE name LIKE %s ORDER BY id DESC", f"%:{keeper}")
        return int(found[0][0]) if found else 0


def row(ground: Ground, report: Report) -> None:
    stops, resets = ground.size(500, 6), ground.size(200, 6)
    play = Zombies(ground)
    acts = ("outcome", "verdict", "hand back", "outcome", "outcome")
    turn = 0
    while play.zombies < stops:
        play.sleeping_worker(acts[turn % len(acts)])
        turn += 1
    while play.resets < resets:
        play.taken_away()
    wrong = ground.sql(
        "SELECT id FROM jobs_finishedjob WHERE state <> 'succeeded' OR lease < 1 OR attempts <> 1 OR result = 'null'"
    )
    report.figure("stopped past the lease", play.zombies)
    report.figure("taken away by hand", play.resets)
    for kind, count in play.tried.items():
        report.figure(f"tried by a zombie: {kind}", count)
    report.must("stale writes accepted", play.stale, "==", 0)
    report.must("dead workers back to life", play.revived, "==", 0)
    report.must("jobs that did not end as their last lease said", len(wrong), "==", 0)
