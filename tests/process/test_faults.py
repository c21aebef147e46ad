"""Faults that were first found on paper: each is staged once, and shown to do no harm."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from django.db import transaction

from jobs import operate
from jobs.models import Attempt, FinishedJob, Job, LogLine, Progress, Worker
from outbox.models import Message
from tests import tasks
from tests.models import Effect
from tests.process.test_crashes import QUICK, all_finished, pids_of
from tests.support.observer import observer
from tests.support.processes import Program, named
from tests.support.side_file import SideFile
from tests.support.wait import wait_until
from tests.trust.ground import make_database, with_name
from tests.trust.server import Server

Start = Callable[..., Program]

pytestmark = pytest.mark.kills


def family(worker: Program) -> list[int]:
    return [worker.pid, *named(worker.pid).values()]


def send(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def test_a_kill_that_its_keeper_did_not_live_to_write_down_is_a_timeout_and_no_crash(
    runworkers: Start, side_file: SideFile
) -> None:
    worker = runworkers("--slots", "1", jobs=QUICK)
    wait_until(Worker.objects.exists, what=worker.said())
    handle = tasks.hang_once.enqueue("job")
    wait_until(lambda: side_file.count("job 1"))
    slot, keeper = worker.child("slot-0"), worker.child("keeper")

    os.kill(keeper, signal.SIGSTOP)  # the verdict is sent to it and never read
    wait_until(lambda: named(worker.pid).get("slot-0") not in (None, slot), what=worker.said())
    assert Job.objects.get(pk=handle.id).state == "running"
    os.kill(keeper, signal.SIGKILL)

    wait_until(lambda: all_finished(1), what=worker.said())
    done = FinishedJob.objects.get(pk=handle.id)
    assert (done.state, done.attempts, done.crashes) == ("succeeded", 2, 0)
    assert [attempt.kind for attempt in Attempt.objects.filter(job=handle.id)] == ["timed_out"]


def claimed_fifty_and_started_one(worker: Program, side_file: SideFile, go: Path) -> list[UUID]:
    """Freeze a worker that has one job running and many claimed behind it; the ids. It hands back what waits for half a
    second behind a slow job, so on a busy machine the moment may be missed, and then it is tried again."""
    for turn in range(5):
        with transaction.atomic():
            first = tasks.tell_pid_and_wait_for_file.using(priority=60).enqueue(str(go), f"first {turn}")
            others = tasks.leave_mark.using(priority=60).enqueue_many([(f"other {turn} {n}",) for n in range(59)])
        wait_until(lambda turn=turn: pids_of(side_file, f"first {turn}") or side_file.count(f"first {turn}"))
        send(family(worker), signal.SIGSTOP)
        if Job.objects.filter(state="running").count() >= 50:
            return [first.id, *(handle.id for handle in others)]
        send(family(worker), signal.SIGCONT)
        go.touch()
        wait_until(lambda: not Job.objects.exists() and not Message.objects.exists(), what=worker.said())
        go.unlink()
    pytest.fail("fifty were never claimed at once")


def test_a_host_that_is_lost_with_fifty_claimed_and_one_started_costs_each_a_crash_and_none_its_life(
    runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    worker = runworkers("--slots", "1", jobs=QUICK)
    tasks.noop.enqueue_many([(n,) for n in range(500)])  # it learns how quick its jobs are
    wait_until(lambda: all_finished(500), what=worker.said())
    ids = claimed_fifty_and_started_one(worker, side_file, tmp_path / "go")
    running = set(Job.objects.filter(state="running").values_list("pk", flat=True))
    worker.kill()
    (tmp_path / "go").touch()

    second = runworkers("--slots", "1", jobs=QUICK)

    wait_until(lambda: FinishedJob.objects.filter(pk__in=ids).count() == 60, what=second.said())
    done = FinishedJob.objects.filter(pk__in=ids)
    assert {(job.state, job.crashes, job.attempts) for job in done if job.pk in running} == {("succeeded", 1, 1)}
    starts = Counter(line for line in side_file.lines() if line.startswith("other"))
    assert set(starts.values()) == {1}
    assert Attempt.objects.filter(job__in=running, kind="lost").count() == len(running) >= 50


def test_a_zombie_says_nothing_of_a_job_that_was_requeued_in_the_meantime(
    runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    mortal = {**QUICK, "MAX_CRASHES": 1}
    first = runworkers("--slots", "1", jobs=mortal)
    handle = tasks.tell_pid_and_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    (zombie,) = wait_until(lambda: pids_of(side_file, "job"))
    send(family(first), signal.SIGSTOP)
    second = runworkers("--slots", "1", jobs=mortal)
    wait_until(lambda: FinishedJob.objects.filter(pk=handle.id, state="dead").exists(), what=second.said())

    assert operate.requeue([handle.id]) == 1  # attempts and crashes are 0 again, the lease is not
    wait_until(lambda: len(pids_of(side_file, "job")) == 2, what=second.said())
    held = Job.objects.filter(pk=handle.id).values().get()
    (now_running,) = set(pids_of(side_file, "job")) - {zombie}
    os.kill(now_running, signal.SIGSTOP)
    (tmp_path / "go").touch()
    os.kill(zombie, signal.SIGCONT)

    wait_until(lambda: "no longer ours" in first.said(), what=first.said())
    assert Job.objects.filter(pk=handle.id).values().get() == held
    assert (held["state"], held["lease"], held["attempts"], held["crashes"]) == ("running", 2, 0, 0)
    os.kill(now_running, signal.SIGCONT)
    wait_until(lambda: all_finished(1), what=second.said())
    done = FinishedJob.objects.get(pk=handle.id)
    assert (done.state, done.lease, done.attempts) == ("succeeded", 2, 1)


@pytest.fixture
def no_effects(transactional_db: None) -> Iterator[None]:
    yield
    Effect.objects.all().delete()


@pytest.mark.postgresql("isolation levels")
def test_what_an_atomic_task_says_of_itself_does_not_spoil_its_snapshot(
    runworkers: Start, side_file: SideFile, tmp_path: Path, no_effects: None
) -> None:
    """Progress and lines are written beside it by the slot's own session; the row it will delete stays untouched."""
    worker = runworkers("--slots", "1", jobs=QUICK)
    handle = tasks.atomic_on_one_snapshot_then_wait_for_file.enqueue(str(tmp_path / "go"), "job")
    beats = lambda: Worker.objects.get().heartbeat_at  # noqa: E731
    wait_until(lambda: Progress.objects.filter(job=handle.id).exists(), what=worker.said())
    seen, beat = Progress.objects.get(job=handle.id).done, beats()

    wait_until(lambda: Progress.objects.get(job=handle.id).done > seen and beats() > beat)
    (tmp_path / "go").touch()

    wait_until(lambda: all_finished(1), what=worker.said())
    done = FinishedJob.objects.get(pk=handle.id)
    assert (done.state, done.lease, done.attempts, done.error) == ("succeeded", 1, 1, "")
    assert side_file.lines() == ["job"]
    assert Effect.objects.get().job == handle.id
    assert LogLine.objects.filter(job=handle.id).exists()


@pytest.mark.postgresql("LOCK TABLE")
def test_while_relay_and_retention_are_blocked_hearts_beat_and_nobody_is_rescued(
    runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    workers = [runworkers("--slots", "1", jobs=QUICK) for _ in range(2)]
    leases = lambda: set(Job.objects.values_list("pk", "state", "lease"))  # noqa: E731
    for n in range(2):
        tasks.tell_pid_and_wait_for_file.enqueue(str(tmp_path / "go"), f"job{n}")
    wait_until(lambda: all(pids_of(side_file, f"job{n}") for n in range(2)))
    numbers, held = set(Worker.objects.values_list("pk", flat=True)), leases()

    with observer() as blocks:
        blocks.execute("BEGIN")
        blocks.execute("LOCK TABLE outbox_message, jobs_key IN ACCESS EXCLUSIVE MODE")
        began = blocks.execute("SELECT clock_timestamp()").fetchall()[0][0]
        # More than twice as long as it takes to bury a worker.
        over = "SELECT min(heartbeat_at) > %s + interval '3.5 seconds' FROM jobs_worker"
        wait_until(lambda: blocks.execute(over, (began,)).fetchall()[0][0], within=30, what=workers[0].said())
        assert (set(Worker.objects.values_list("pk", flat=True)), leases()) == (numbers, held)
        blocks.execute("COMMIT")

    (tmp_path / "go").touch()
    tasks.leave_mark.enqueue("after it")
    wait_until(lambda: all_finished(3), within=30, what=workers[0].said())
    assert set(FinishedJob.objects.values_list("state", "crashes")) == {("succeeded", 0)}
    assert [len(pids_of(side_file, f"job{n}")) for n in range(2)] == [1, 1]


@pytest.fixture
def server(runworkers: Start) -> Iterator[tuple[Server, str]]:
    """A server that may be crashed, and the URL of a migrated database on it; what is not waited for is not on disk."""
    made = Server(settings={"wal_writer_delay": "10s"})
    try:
        make_database(made.url(), "crashed")
        yield made, with_name(made.url(), "crashed")
    finally:
        made.close()


def test_a_claim_survives_the_crash_of_the_database_that_comes_right_after_it(
    server: tuple[Server, str], runworkers: Start, side_file: SideFile, tmp_path: Path
) -> None:
    """Else the same lease would be given out twice, and the fence would let two through."""
    base, url = server
    worker = runworkers("--slots", "1", env={"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "tests.trust.settings"})
    with psycopg.connect(url, autocommit=True) as connection:
        wait_until(lambda: connection.execute("SELECT 1 FROM jobs_worker").fetchall(), what=worker.said())
        connection.execute(READY, (f'{{"args":[0,"{tmp_path}","succeed"],"kwargs":{{}}}}',))
        connection.execute("NOTIFY jobs_ready")
        wait_until(lambda: any(line.startswith("begins") for line in side_file.lines()), what=worker.said())
        base.crash()
    base.start()

    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT state, lease FROM jobs_job").fetchall() == [("running", 1)]
        (tmp_path / "go").touch()
        ended = "SELECT state, lease, attempts, crashes FROM jobs_finishedjob"
        wait_until(lambda: connection.execute(ended).fetchall(), what=worker.said())
        assert connection.execute(ended).fetchall() == [("succeeded", 1, 1, 0)]
    assert [line.split()[0] for line in side_file.lines()] == ["begins", "ends"]


READY = """INSERT INTO jobs_job (id, task, queue, priority, state, source_name, arguments, max_attempts, attempts,
  crashes, lease, depth, idempotency_key, enqueued_at, ready_at, error)
VALUES (gen_random_uuid(), 'tests.trust.tasks.ends_when_told', 'default', 0, 'ready', '', %s, 1, 0, 0, 0, 0, '',
  clock_timestamp(), clock_timestamp(), '')"""
