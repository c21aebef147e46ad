"""What processes count and tasks say reaches its tables: summed, bounded, fenced, and never at a job's expense."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from jobs import notebook as notes
from jobs.claim import Claimed
from jobs.compact import compact, start_of, sums_of
from jobs.conf import JobsSettings
from jobs.context import JobContext, current
from jobs.execute import context_of, execute
from jobs.finish import tell
from jobs.hear import Ear
from jobs.histogram import SIZE, bucket_of, merged, pack, percentile, upper
from jobs.journal import Journal
from jobs.models import LogLine, Progress, Stat
from jobs.notebook import Notebook, notebook
from jobs.tally import tally
from outbox.session import Session
from tests.factories import JobFactory
from tests.support.floor import a_claimed, a_task, claim, conclude, fill, outcome, value

pytest_plugins = ["tests.support.ours"]


@pytest.fixture(autouse=True)
def nothing_said() -> Iterator[None]:
    notebook.take()
    tally.take()
    yield
    notebook.take()
    tally.take()


# Histograms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 0.0005, 0.001, 0.0011, 0.02, 1.0, 59.9, 3600.0, 90_000.0, 1e9])
def test_a_duration_lies_in_its_bucket(seconds: float) -> None:
    bucket = bucket_of(seconds)

    assert bucket == SIZE - 1 or seconds <= upper(bucket) * 1.0001
    assert bucket == 0 or seconds > upper(bucket - 1) * 0.9999


def test_percentiles_are_right_to_a_fifth() -> None:
    counts = [0] * SIZE
    for n in range(1, 1001):
        counts[bucket_of(n / 100)] += 1

    for share in (0.5, 0.95, 0.99):
        found = percentile(counts, share)
        assert found is not None
        assert abs(found - share * 10) / (share * 10) < 0.2
    assert percentile([0] * SIZE, 0.5) is None


def test_a_packed_histogram_comes_back_and_garbage_is_left_out() -> None:
    counts = [0] * SIZE
    counts[3], counts[SIZE - 1] = 7, 1

    assert merged([pack(counts), pack(counts)])[3] == 14
    assert sum(merged(["x:1 3:y :: 99:1 -1:2", "5:2"])) == 2


# Counts ---------------------------------------------------------------------------------------------------------------


def test_what_was_written_is_counted_and_what_was_stale_is_not() -> None:
    tally.take()
    job = a_claimed(ready_at=timezone.now() - timedelta(seconds=4))
    now = time.monotonic()
    done = [
        outcome(job, "succeeded", started=now - 2),
        outcome(a_claimed(), "failed", retry_in=None),
        outcome(a_claimed(), "crashed"),
        outcome(a_claimed(), "handed_back"),
        outcome(a_claimed(), "unknown"),
    ]
    stale = outcome(a_claimed(), "succeeded")

    tell([*done, stale], {each.id for each in done})

    sums = tally.take()
    assert {key[2]: row.count for key, row in sums.items()} == {"succeeded": 1, "dead": 1, "crashed": 1, "stale": 1}
    row = sums["default", "tests.tasks.noop", "succeeded"]
    assert row.ran == pytest.approx(2, abs=0.2)
    assert row.waited == pytest.approx(2, abs=0.2)
    assert not tally


def test_counts_reach_the_table_and_are_added_up(ours: Session) -> None:
    fill(ours, 5)
    journal = Journal("v7")
    for job in claim(ours, 5):
        result = outcome(job, "succeeded", started=time.monotonic() - 0.1)
        conclude(ours, [result])
        tally.count([result])
        journal.step(ours, hurry=True)

    assert Stat.objects.count() == 5
    assert abs(tally.skew) < 60
    Stat.objects.update(at=datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC))
    assert compact(ours) is False

    row = Stat.objects.get()
    assert (row.count, row.outcome, row.version, row.span) == (5, "succeeded", "v7", 21_600)
    assert row.at == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert sum(merged([row.runs])) == 5 and sum(merged([row.waits])) == 5


def test_rows_of_the_last_seconds_are_left_alone(ours: Session) -> None:
    Stat.objects.create(queue="q", task="t", outcome="dead", count=1, waited=0, ran=0, at=timezone.now())

    compact(ours)

    assert Stat.objects.get().span == 0


def test_sums_keep_what_tells_rows_apart() -> None:
    at = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
    row = (at, "q", "t", "dead", "", 1, 1.0, 2.0, "0:1", "1:1")

    columns = sums_of([row, row, (*row[:4], "v2", *row[5:])], 60)

    assert columns[4:6] == [["", "v2"], [2, 1]]
    assert columns[0] == [start_of(at, 60)] * 2


# What tasks say -------------------------------------------------------------------------------------------------------


def a_context(job: Claimed | None = None) -> JobContext:
    return context_of(job or a_claimed())


def test_a_line_and_the_progress_of_a_running_job_are_kept(ours: Session) -> None:
    fill(ours, 1)
    (job,) = claim(ours, 1)
    context = context_of(job)

    context.log("packed \x00 1", logging.WARNING)
    context.progress(1, 10, "one")
    context.progress(3, 10, "three")
    Journal("").step(ours, hurry=True)

    line, progress = LogLine.objects.get(), Progress.objects.get()
    assert (line.job, line.lease, line.number, line.level, line.text) == (job.id, 1, 1, 30, "packed \ufffd 1")
    assert (progress.job, progress.done, progress.total, progress.text) == (job.id, 3, 10, "three")


def test_a_worker_that_lost_its_lease_reports_no_progress(ours: Session) -> None:
    fill(ours, 1)
    (old,) = claim(ours, 1)
    conclude(ours, [outcome(old, "handed_back")])
    (new,) = claim(ours, 1, claimer=12)
    journal = Journal("")

    context_of(old).progress(9, 10)
    journal.step(ours, hurry=True)
    assert not Progress.objects.exists()
    context_of(new).progress(1, 10)
    journal.step(ours, hurry=True)
    context_of(old).progress(9, 10)
    journal.step(ours, hurry=True)

    assert Progress.objects.get().done == 1


def test_progress_is_written_at_most_once_a_second(ours: Session) -> None:
    fill(ours, 1)
    (job,) = claim(ours, 1)
    journal = Journal("")
    writes = 0
    until = time.monotonic() + 1.2
    while time.monotonic() < until:
        context_of(job).progress(writes, 10)
        before = value(ours, "SELECT count(*) FROM jobs_progress WHERE done = %s", writes)
        journal.step(ours)
        writes += before != value(ours, "SELECT count(*) FROM jobs_progress WHERE done = %s", writes)

    assert writes <= 2


@pytest.mark.parametrize("told", [(float("nan"), 10, ""), (1, float("inf"), ""), (1, None, "x" * 10_000), (-5, 0, "")])
def test_any_progress_can_be_said(ours: Session, told: tuple[Any, ...]) -> None:
    fill(ours, 1)
    (job,) = claim(ours, 1)

    context_of(job).progress(*told)
    Journal("").step(ours, hurry=True)

    assert Progress.objects.count() <= 1


def test_outside_a_worker_nothing_is_kept() -> None:
    context = JobContext(uuid4(), "k", 1, 1, "t", "default", 0, "t", 0)

    context.log("hello")
    context.progress(1, 2)

    assert not notebook


def test_an_attempt_that_logs_without_end_is_cut_and_says_so() -> None:
    book = Notebook()
    context = a_context()
    for n in range(5 * notes.MOST_LINES):
        book.line(context, logging.INFO, "", str(n))
    for n in range(5 * notes.MOST_LINES):
        book.line(context, logging.ERROR, "", f"error {n}")
    book.line(a_context(), logging.INFO, "", "a neighbour")

    lines, _ = book.take()

    texts = [line.text for line in lines]
    assert len(lines) <= 2 * notes.MOST_LINES + 2
    assert texts.count(notes.FULL) == 1
    assert "error 0" in texts and texts[-1] == "a neighbour"


def test_long_lines_are_cut_and_the_whole_is_bounded() -> None:
    book = Notebook()
    context = a_context()
    for _ in range(200):
        book.line(context, logging.ERROR, "", "x" * 100_000)

    lines, _ = book.take()

    assert sum(len(line.text) for line in lines) <= 2 * notes.MOST_BYTES + notes.LONGEST
    assert max(len(line.text) for line in lines) <= notes.LONGEST


def test_the_pump_is_rung_once_until_the_notebook_is_emptied() -> None:
    book = Notebook()
    rung = []
    book.ring = lambda: rung.append(1)

    for _ in range(3):
        book.line(a_context(), logging.INFO, "", "x")
    book.take()
    book.stand(a_context(), 1, 2, "")

    assert len(rung) == 2


def test_ordinary_logging_in_a_task_is_heard_and_that_of_others_is_not() -> None:
    root, ear = logging.getLogger(), Ear("INFO")
    root.addHandler(ear)
    log = logging.getLogger("shop.mail")
    log.setLevel(logging.DEBUG)

    def work() -> None:
        log.debug("too quiet")
        log.info("sent %s", 5)
        try:
            raise ValueError("inside")
        except ValueError:
            log.exception("went wrong")

    try:
        log.info("nobody's")
        execute(a_claimed(), a_task(work), JobsSettings(), 0.0)
        log.info("nobody's")
    finally:
        root.removeHandler(ear)

    lines, _ = notebook.take()
    assert [(line.logger, line.text.splitlines()[0]) for line in lines] == [
        ("shop.mail", "sent 5"),
        ("shop.mail", "went wrong"),
    ]
    assert "ValueError: inside" in lines[1].text
    assert current.get() is None


@pytest.mark.postgresql("a column that refuses what is longer than it says")
def test_what_the_database_refuses_is_dropped_and_the_journal_goes_on(
    ours: Session, caplog: pytest.LogCaptureFixture
) -> None:
    job = JobFactory()
    context = a_context(a_claimed(id=job.id, task="t" * 300))
    journal = Journal("")
    context.log("its task's name is too long for the table")

    journal.step(ours, hurry=True)
    assert "could not be kept" in caplog.text
    a_context().log("good")
    journal.step(ours, hurry=True)

    assert LogLine.objects.get().text == "good"
