"""Metrics: what Prometheus reads is what stands in the tables, and a scrape harms nothing."""

from __future__ import annotations

import json
from datetime import UTC, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from jobs.compact import compact
from jobs.finish import tell
from jobs.histogram import SIZE, bucket_of, pack
from jobs.ids import new_id
from jobs.metrics import registry
from jobs.models import Queue
from jobs.tally import tally
from outbox.models import Message
from outbox.session import Session
from tests.factories import FinishedJobFactory, JobFactory, StatFactory, WorkerFactory
from tests.support.floor import a_claimed, outcome
from tests.support.sql import a_cursor

pytest_plugins = ["tests.support.ours"]
pytestmark = pytest.mark.django_db

LABELS = ("queue", "task", "outcome", "state", "le")

LONG_AGO = timedelta(minutes=5)


def scraped() -> dict[tuple[str, ...], float]:
    """Every sample, by name and the values of its labels."""
    out = StringIO()
    call_command("jobmetrics", stdout=out)
    return {
        (sample.name, *(sample.labels[name] for name in LABELS if name in sample.labels)): sample.value
        for family in text_string_to_metric_families(out.getvalue())
        for sample in family.samples
    }


def histogram(*seconds: float) -> str:
    counts = [0] * SIZE
    for each in seconds:
        counts[bucket_of(each)] += 1
    return pack(counts)


def test_what_stands_now() -> None:
    """Row P86: depth, lag, dead jobs."""
    JobFactory.create_batch(3, state="ready", ready_at=timezone.now() - LONG_AGO)
    JobFactory(state="running", worker=1, claimer=1)
    FinishedJobFactory.create_batch(2, state="dead")
    Message.objects.create(uid=new_id(), headers="{}", body="{}", written_at=timezone.now() - LONG_AGO)
    WorkerFactory(slots=4, running=json.dumps([[slot, str(new_id()), 1.0] for slot in (0, 2)]))
    WorkerFactory(slots=1, running='[[0, "not an id", 1.0]]')
    WorkerFactory(slots=8, heartbeat_at=timezone.now() - LONG_AGO)
    Queue.objects.create(name="mail")

    found = scraped()

    assert found["jobs_up",] == 1
    assert found["outbox_messages",] == 1
    assert 300 <= found["outbox_lag_seconds",] < 320
    assert (found["jobs_jobs", "ready"], found["jobs_jobs", "running"], found["jobs_jobs", "dead"]) == (3, 1, 2)
    assert (found["jobs_queue_ready", "default"], found["jobs_queue_running", "default"]) == (3, 1)
    assert 300 <= found["jobs_queue_lag_seconds", "default"] < 320
    assert (found["jobs_queue_paused", "mail"], found["jobs_queue_paused", "default"]) == (1, 0)
    assert (found["jobs_workers",], found["jobs_slots",], found["jobs_slots_busy",]) == (2, 5, 2)


def test_what_has_ended_today_also_after_it_was_added_up(ours: Session) -> None:
    today = timezone.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for at in (today, today + timedelta(seconds=1)):
        StatFactory(at=at, count=5, queue="mail", task="a.b", waits=histogram(0.5, 0.5), runs=histogram(3.0), ran=3.0)
    StatFactory(at=today - timedelta(seconds=1), count=1000, queue="mail", task="a.b", waits=histogram(9.0))
    StatFactory(at=today, count=2, queue="mail", task="a.b", outcome="crashed", waits="", runs="", ran=0.0)

    for _ in range(2):
        found = scraped()

        assert found["jobs_outcomes_total", "mail", "a.b", "succeeded"] == 10
        assert found["jobs_outcomes_total", "mail", "a.b", "crashed"] == 2
        assert found["jobs_wait_seconds_count", "mail"] == 4
        assert (
            found["jobs_wait_seconds_bucket", "mail", "0.256"],
            found["jobs_wait_seconds_bucket", "mail", "1.024"],
        ) == (0, 4)
        assert found["jobs_wait_seconds_bucket", "mail", "+Inf"] == 4
        assert (found["jobs_run_seconds_count", "a.b"], found["jobs_run_seconds_sum", "a.b"]) == (2, 6.0)
        compact(ours)


def test_a_refused_outcome_is_counted_apart() -> None:
    tally.take()
    job = a_claimed()

    tell([outcome(job, "succeeded")], set())
    tell([outcome(job, "succeeded")], set(), doubtful=True)

    (((_, task, kind), sums),) = tally.take().items()
    assert (task, kind, sums.count) == (job.task, "stale", 1)


def test_a_database_that_cannot_be_asked_makes_one_gauge_zero() -> None:
    with a_cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_stat RENAME TO elsewhere")

    assert scraped() == {("jobs_up",): 0}


def test_nothing_is_read_when_it_is_registered(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        registry()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "jobs.prom"
    path.write_text("old")

    call_command("jobmetrics", "--textfile", str(path))
    assert "jobs_up 1.0\n" in path.read_text()
    assert [each.name for each in tmp_path.iterdir()] == ["jobs.prom"]

    with pytest.raises(CommandError, match="No such file or directory"):
        call_command("jobmetrics", "--textfile", str(tmp_path / "nowhere" / "jobs.prom"))
