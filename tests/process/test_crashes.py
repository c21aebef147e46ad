"""kill -9 of anything at any point: no job is lost, and what a crash leaves is healed in time."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest

from jobs.models import Attempt, FinishedJob, Job, Worker
from outbox.models import Message, SetAsideMessage
from tests import tasks
from tests.support.processes import Program, alive, named
from tests.support.side_file import SideFile
from tests.support.wait import wait_until

Start = Callable[..., Program]

pytestmark = pytest.mark.kills

QUICK = {"HEARTBEAT": 0.3, "DEAD_AFTER": 1.0}


def pids_of(side_file: SideFile, mark: str) -> list[int]:
    """The processes in which the job with that mark has begun, one for each time it began."""
    return [int(line.split()[1]) for line in side_file.lines() if line.startswith(f"{mark} ")]


def all_finished(count: int) -> bool:
    return FinishedJob.objects.count() >= count and not Job.objects.exists() and not Message.objects.exists()


def killed(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_a_dead_slots_job_runs_again_within_a_second(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    """Row P37: at least once."""
    worker = runworkers("--slots", "2")
    handle = tasks.tell_pid_and_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    (slot,) = wait_until(lambda: pids_of(side_file, "job"))

    os.kill(slot, signal.SIGKILL)

    wait_until(lambda: len(pids_of(side_file, "job")) == 2, within=1.0, what=worker.said())
    (tmp_path / "go").touch()
    wait_until(lambda: all_finished(1))
    done = FinishedJob.objects.get(pk=handle.id)
    assert (done.state, done.attempts, done.crashes, done.lease) == ("succeeded", 1, 1, 2)
    assert [(a.kind, a.error) for a in Attempt.objects.filter(job=handle.id)] == [
        ("crashed", "its process died: killed by SIGKILL")
    ]


def test_a_job_that_kills_its_process_is_dead_after_three_crashes_and_no_other_suffers(
    runworkers: Start, side_file: SideFile
) -> None:
    good = [tasks.leave_mark.enqueue(f"good {n}") for n in range(100)]
    pill = tasks.kill_itself.enqueue("pill")
    good += [tasks.leave_mark.enqueue(f"good {n}") for n in range(100, 200)]

    runworkers("--slots", "2")
    wait_until(lambda: all_finished(201), within=30)

    dead = FinishedJob.objects.get(pk=pill.id)
    assert (dead.state, dead.attempts, dead.crashes) == ("dead", 0, 3)
    assert side_file.count("pill") == 3
    assert FinishedJob.objects.filter(pk__in=[h.id for h in good], state="succeeded", crashes=0).count() == 200
    assert all(side_file.count(f"good {n}") for n in range(200))


def test_slots_and_jobs_go_on_without_a_keeper(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    worker = runworkers("--slots", "1", jobs=QUICK)
    tasks.tell_pid_and_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    wait_until(lambda: pids_of(side_file, "job"))
    number = Worker.objects.get().pk
    keeper = worker.child("keeper")

    os.kill(keeper, signal.SIGKILL)
    new = wait_until(lambda: named(worker.pid).get("keeper") not in (None, keeper) and named(worker.pid)["keeper"])

    assert alive(new)
    (tmp_path / "go").touch()
    wait_until(lambda: all_finished(1))
    beat = Worker.objects.get().heartbeat_at
    wait_until(lambda: Worker.objects.get().heartbeat_at > beat)
    assert Worker.objects.get().pk == number
    assert len(pids_of(side_file, "job")) == 1


def test_a_verdict_survives_the_keeper(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    worker = runworkers("--slots", "1", jobs=QUICK)
    handle = tasks.tell_pid_and_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    (slot,) = wait_until(lambda: pids_of(side_file, "job"))
    keeper = worker.child("keeper")

    # The keeper is stopped, so the verdict about the slot is sent to it and never read; then it dies.
    os.kill(keeper, signal.SIGSTOP)
    os.kill(slot, signal.SIGKILL)
    wait_until(lambda: named(worker.pid).get("slot-0") not in (None, slot))
    assert Job.objects.get(pk=handle.id).state == "running"
    os.kill(keeper, signal.SIGKILL)

    wait_until(lambda: len(pids_of(side_file, "job")) == 2, what=worker.said())
    (tmp_path / "go").touch()
    wait_until(lambda: all_finished(1))
    assert [a.kind for a in Attempt.objects.filter(job=handle.id)] == ["crashed"]


def test_the_relay_is_replaced_and_every_message_arrives_once(runworkers: Start, side_file: SideFile) -> None:
    worker = runworkers("--slots", "1")
    rolls = random.Random(1)

    for burst in range(8):
        tasks.leave_mark.enqueue_many([(f"{burst}-{n}",) for n in range(100)])
        wait_until(lambda: "relay" in named(worker.pid))
        time.sleep(rolls.random() * 0.02)  # to hit it at another point each time, not to wait for anything
        killed(named(worker.pid).get("relay", 2**22))

    wait_until(lambda: all_finished(800), within=60, what=worker.said())
    assert sorted(side_file.lines()) == sorted(f"{b}-{n}" for b in range(8) for n in range(100))
    assert not SetAsideMessage.objects.exists()


def test_children_die_with_their_supervisor_and_another_worker_takes_over(
    runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    first = runworkers("--slots", "2", jobs=QUICK)
    handle = tasks.tell_pid_and_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    wait_until(lambda: pids_of(side_file, "job"))
    children = first.children()
    assert len(children) == 4

    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    wait_until(lambda: not any(map(alive, children)), within=1.0)
    second = runworkers("--slots", "1", jobs=QUICK)

    wait_until(lambda: len(pids_of(side_file, "job")) == 2, within=10, what=second.said())
    (tmp_path / "go").touch()
    wait_until(lambda: all_finished(1))
    done = FinishedJob.objects.get(pk=handle.id)
    assert (done.state, done.crashes) == ("succeeded", 1)
    assert [a.kind for a in Attempt.objects.filter(job=handle.id)] == ["lost"]
    assert Worker.objects.count() == 1


def test_with_default_settings_a_dead_hosts_job_runs_again_within_thirty_seconds(
    runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    first = runworkers("--slots", "1")
    tasks.tell_pid_and_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    wait_until(lambda: pids_of(side_file, "job"))
    runworkers("--slots", "1").child("slot-0")

    os.kill(first.pid, signal.SIGKILL)

    wait_until(lambda: len(pids_of(side_file, "job")) == 2, within=30)


def test_a_worker_that_was_declared_dead_starts_anew(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    worker = runworkers("--slots", "1", jobs=QUICK)
    handle = tasks.tell_pid_and_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    (slot,) = wait_until(lambda: pids_of(side_file, "job"))

    Worker.objects.all().delete()

    wait_until(lambda: len(pids_of(side_file, "job")) == 2, what=worker.said())
    assert not alive(slot)
    (tmp_path / "go").touch()
    wait_until(lambda: all_finished(1))
    assert FinishedJob.objects.get(pk=handle.id).state == "succeeded"


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_while_everything_is_killed(runworkers: Start, side_file: SideFile, seed: int) -> None:
    rolls = random.Random(seed)
    workers = [runworkers("--slots", "2", jobs=QUICK)]
    wait_until(lambda: len(named(workers[0].pid)) == 4)
    total, kills = 3000, 0

    handles = tasks.leave_mark.enqueue_many([(str(n),) for n in range(total)])
    while not all_finished(total):
        assert kills < 300
        if rolls.random() < 0.04:
            workers[0].kill()
            workers[0] = runworkers("--slots", "2", jobs=QUICK)
            wait_until(lambda: "slot-0" in named(workers[0].pid))
        else:
            children = list(named(workers[0].pid).values())
            if children:
                killed(rolls.choice(children))
        kills += 1
        time.sleep(rolls.random() * 0.1)  # between two kills, not to wait for anything
        if kills > 40:
            wait_until(lambda: all_finished(total), within=60, what=workers[0].said()[-3000:])

    ids = [handle.id for handle in handles]
    ended = dict(FinishedJob.objects.filter(pk__in=ids).values_list("pk", "state"))
    assert len(ended) == total
    ran = set(side_file.lines())
    lost = [n for n, job in enumerate(ids) if ended[job] == "succeeded" and str(n) not in ran]
    assert lost == []
    dead: list[UUID] = [job for job, state in ended.items() if state != "succeeded"]
    assert all(FinishedJob.objects.get(pk=job).crashes >= 3 for job in dead)
    assert not SetAsideMessage.objects.exists()
