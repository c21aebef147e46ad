"""kill -9 at any point: an outcome and its callbacks are one, both there or neither. Rows D2, B4 and H9."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from jobs.models import FinishedJob
from tests import tasks
from tests.process.test_crashes import QUICK, all_finished, killed, pids_of
from tests.support.database import on_sqlite
from tests.support.observer import observer
from tests.support.processes import Program, named
from tests.support.side_file import SideFile
from tests.support.sql import a_cursor
from tests.support.wait import wait_until

Start = Callable[..., Program]

pytestmark = pytest.mark.kills

WAYS = ["returns", "fails", "fails once", "gives up", "kills once", "kills", "hangs"]

# One statement sees one moment: each job that has ended has one callback, wherever that is, and no other job has any.
UNEVEN = """SELECT coalesce(ended.id, called.parent), count(called.parent) FROM
  (SELECT id FROM jobs_finishedjob WHERE task = 'tests.tasks.end_somehow') AS ended
  FULL JOIN (SELECT (headers::json->>'parent')::uuid AS parent FROM outbox_message WHERE headers LIKE '%"parent"%'
    UNION ALL SELECT parent FROM jobs_job WHERE parent IS NOT NULL
    UNION ALL SELECT parent FROM jobs_finishedjob WHERE parent IS NOT NULL) AS called ON called.parent = ended.id
  GROUP BY 1 HAVING count(called.parent) <> 1 OR count(ended.id) = 0"""
if on_sqlite():  # where a UUID is text without dashes
    UNEVEN = UNEVEN.replace("(headers::json->>'parent')::uuid", "replace(json_extract(headers, '$.parent'), '-', '')")


def uneven() -> list[object]:
    with a_cursor() as cursor:
        cursor.execute(UNEVEN)
        return list(cursor.fetchall())


def test_each_end_has_its_callback_whatever_is_killed(runworkers: Start, side_file: SideFile) -> None:
    handles = {tasks.end_somehow.enqueue(WAYS[n % len(WAYS)] if n < 28 else "returns").id for n in range(250)}
    workers = [runworkers("--slots", "2", jobs=QUICK) for _ in range(2)]
    looks = 0

    def over() -> bool:
        nonlocal looks, workers
        looks += 1
        assert uneven() == []
        if looks < 40 and looks % 2:
            for worker in workers:
                for _, pid in random.sample(sorted(named(worker.pid).items()), k=1) if named(worker.pid) else []:
                    killed(pid)
        if looks == 20:
            workers[0].kill()
            workers[0] = runworkers("--slots", "2", jobs=QUICK)
        return looks >= 40 and all_finished(500)

    wait_until(over, within=90)

    assert uneven() == []
    ended = {job.id: job.state for job in FinishedJob.objects.filter(parent=None)}
    assert set(ended) == handles
    assert set(ended.values()) == {"succeeded", "dead"}
    callbacks = FinishedJob.objects.exclude(parent=None)
    assert sorted(callbacks.values_list("parent", flat=True)) == sorted(handles)
    said = {tuple(line.split()[1:3]) for line in side_file.lines()}
    assert said == {(str(job), state) for job, state in ended.items()}


@pytest.mark.postgresql("LOCK TABLE, and who waits for whom")
def test_killed_while_the_outcome_is_being_written(runworkers: Start, side_file: SideFile, tmp_path: Path) -> None:
    """The statement has moved the job and waits at the outbox for its callback when the process is killed."""
    runworkers("--slots", "1", jobs=QUICK)
    task = tasks.tell_pid_and_wait_for_file.using(on_success=tasks.tell_end.callback("ended"))
    handle = task.enqueue(str(tmp_path / "go"), "job")
    (slot,) = wait_until(lambda: pids_of(side_file, "job"))

    with observer() as other, suppress(RuntimeError), other.transaction():
        other.execute("LOCK TABLE outbox_message IN SHARE MODE")
        (tmp_path / "go").touch()
        wait_until(waits_at_the_outbox)
        os.kill(slot, signal.SIGKILL)
        raise RuntimeError

    wait_until(lambda: all_finished(2), within=30)
    done = FinishedJob.objects.get(pk=handle.id)
    (callback,) = FinishedJob.objects.filter(parent=handle.id)
    assert (done.state, callback.task, callback.state) == ("succeeded", "tests.tasks.tell_end", "succeeded")
    assert side_file.count(f"ended {handle.id} succeeded None") == 1


def waits_at_the_outbox() -> bool:
    with a_cursor() as cursor:
        cursor.execute("""SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE NOT granted AND relation = 'outbox_message'::regclass AND query LIKE 'WITH gone AS%'""")
        return bool(cursor.fetchall())
