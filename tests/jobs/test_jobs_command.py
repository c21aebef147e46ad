"""`manage.py jobs` says how it stands, and is the probe of a container."""

from __future__ import annotations

import json
import socket
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from jobs.ids import new_id
from jobs.models import Queue, Worker
from outbox.models import Message
from tests.factories import FinishedJobFactory, JobFactory, StatFactory, WorkerFactory
from tests.support.sql import a_cursor

pytestmark = pytest.mark.django_db

LONG_AGO = timedelta(minutes=5)


def told(*arguments: str) -> str:
    out = StringIO()
    call_command("jobs", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def health(*arguments: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("jobs", "--health", *arguments, stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue().strip()
    return 0, out.getvalue().strip()


def lines_with(text: str, said: str) -> list[list[str]]:
    return [line.split() for line in said.splitlines() if text in line]


def test_a_person_sees_states_queues_and_workers() -> None:
    job = JobFactory(state="running", worker=1, claimer=1, source_name="checkout")
    JobFactory.create_batch(3, state="ready")
    FinishedJobFactory(state="dead")
    StatFactory(count=600)
    busy = json.dumps([[0, str(job.id), 75.0]])
    WorkerFactory(name="web-1:77", slots=4, running=busy)
    Queue.objects.create(name="mail")

    said = told()

    assert ["ready", "3"] in lines_with("ready ", said)
    assert ["dead", "1"] in lines_with("dead", said)
    (default,) = lines_with("default", said)
    assert default[:3] == ["default", "3", "1"]
    assert default[5:6] == ["2/s"]
    assert lines_with("mail", said)[0][-1] == "paused"
    assert lines_with("web-1:77", said)[0][1] == "1/4"
    assert f"slot 0: checkout for 1 min 15 s  {job.id}" in said


def test_a_program_gets_everything_as_one_object() -> None:
    JobFactory(state="ready", ready_at=timezone.now() - LONG_AGO)
    Message.objects.create(uid=new_id(), headers="{}", body="{}")
    WorkerFactory(name="web-1:77", wish="quiet")

    said = json.loads(told("--json"))

    assert said["healthy"] is False
    assert said["ailments"] == ["the eldest job of queue default waits for 300 s"]
    assert said["outbox"]["depth"] == 1
    assert said["states"]["ready"] == {"count": 1, "exact": True}
    queue = said["queues"]["default"]
    assert 300 <= queue.pop("lag") < 310
    assert queue == {"ready": 1, "running": 0, "per_second": 0.0, "paused": False, "late": True}
    (worker,) = said["workers"]
    assert (worker["name"], worker["alive"], worker["wish"], worker["executes"]) == ("web-1:77", True, "quiet", [])


def dead_worker() -> None:
    WorkerFactory(heartbeat_at=timezone.now() - LONG_AGO)


def late_queue() -> None:
    WorkerFactory()
    JobFactory(state="ready", ready_at=timezone.now() - LONG_AGO)


def held_queue() -> None:
    WorkerFactory()
    JobFactory(state="ready", ready_at=timezone.now() - LONG_AGO)
    Queue.objects.create(name="default")


def stuck_outbox() -> None:
    WorkerFactory()
    Message.objects.create(uid=new_id(), headers="{}", body="{}", written_at=timezone.now() - LONG_AGO)


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        (lambda: None, 1, "no worker is alive"),
        (WorkerFactory, 0, "healthy"),
        (dead_worker, 1, "no worker is alive"),
        (late_queue, 1, "the eldest job of queue default waits for 300 s"),
        (held_queue, 0, "healthy"),
        (stuck_outbox, 1, "the eldest message has not been relayed for 300 s"),
    ],
    ids=["nobody", "a worker", "a dead worker", "a late queue", "a paused queue", "nothing relayed"],
)
def test_a_probe_gets_an_exit_status(given: Any, status: int, words: str) -> None:
    given()

    assert health() == (status, words)


def test_a_container_asks_for_its_own_worker() -> None:
    here = socket.gethostname()
    WorkerFactory(name="another-host:1")

    assert health() == (0, "healthy")
    assert health("--here") == (1, f"no worker of {here} is alive")

    own = WorkerFactory(name=f"{here}:12")
    assert health("--here") == (0, "healthy")

    Worker.objects.filter(pk=own.pk).update(heartbeat_at=timezone.now() - LONG_AGO)
    assert health("--here")[0] == 1


def test_here_alone_is_refused() -> None:
    with pytest.raises(CommandError, match="give --health too"):
        told("--here")


def test_a_database_without_the_tables_is_another_status() -> None:
    with a_cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_worker RENAME TO elsewhere")

    with pytest.raises(CommandError, match="jobs_worker") as caught:
        told("--health")
    assert caught.value.returncode == 2
