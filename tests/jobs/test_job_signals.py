"""Signals about jobs: after the commit, best effort, and nothing a receiver does harms anybody."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.dispatch import Signal

from jobs import announce, operate
from jobs.board import Board
from jobs.claim import Claimed
from jobs.conf import JobsSettings
from jobs.finish import tell
from jobs.intake import accept
from jobs.models import FinishedJob, Job
from jobs.orders import Orders
from jobs.rescue import carry_out
from jobs.signals import ALL, job_cancelled, job_died, job_retried, job_succeeded
from jobs.verdict import Fated
from outbox.relay import step
from outbox.session import Query, Session
from tests import tasks
from tests.support.floor import a_claimed, claim, conclude, fill, outcome
from tests.support.sql import a_cursor
from tests.support.wait import wait_until

pytest_plugins = ["tests.support.ours"]


@pytest.fixture
def heard() -> Iterator[list[tuple[Signal, dict[str, Any]]]]:
    """What a receiver of all four has been told."""
    told: list[tuple[Signal, dict[str, Any]]] = []

    def receive(signal: Signal, **given: Any) -> None:
        told.append((signal, given))

    for signal in ALL:
        signal.connect(receive)
    yield told
    for signal in ALL:
        signal.disconnect(receive)


def a_job(ours: Session) -> Claimed:
    fill(ours, 1)
    (job,) = claim(ours, 1)
    return job


@pytest.mark.parametrize(
    ("happened", "details", "signal", "state"),
    [
        ("succeeded", {}, job_succeeded, "succeeded"),
        ("failed", {"retry_in": 5.0}, job_retried, "retrying"),
        ("crashed", {}, job_retried, "ready"),
        ("failed", {"retry_in": None}, job_died, "dead"),
        ("cancelled", {}, job_cancelled, "cancelled"),
        ("handed_back", {}, None, ""),
        ("unknown", {}, None, ""),
    ],
)
def test_what_is_sent_for_what(heard: list[Any], happened: str, details: Any, signal: Any, state: str) -> None:
    job = a_claimed(max_attempts=3, attempts=1)
    ended = outcome(job, happened, **{"started": time.monotonic() - 2, **details})

    tell([ended], {job.id})

    assert announce.drain(5)
    if signal is None:
        assert heard == []
        return
    ((sent, given),) = heard
    assert sent is signal
    assert 2 <= given.pop("duration") < 10
    assert given == {
        "sender": tasks.noop, "task": "tests.tasks.noop", "job_id": job.id, "queue": "default", "attempt": 2,
        "outcome": state, "error": ended.error,
    }  # fmt: skip


def test_a_receiver_may_want_one_task_only() -> None:
    told: list[Any] = []

    def receive(**given: Any) -> None:
        told.append(given["task"])

    job_died.connect(receive, sender=tasks.add)
    try:
        for name in ("tests.tasks.noop", "tests.tasks.add", "gone.tasks.old"):
            tell([outcome(a_claimed(task=name), "failed", retry_in=None)], None)
        announce.drain(5)
    finally:
        job_died.disconnect(receive, sender=tasks.add)

    assert told == ["tests.tasks.add"]


def test_a_stale_outcome_is_no_news(heard: list[Any]) -> None:
    stale, written = a_claimed(), a_claimed()

    tell([outcome(stale, "succeeded"), outcome(written, "succeeded")], {written.id})

    assert announce.drain(5)
    assert [given["job_id"] for _, given in heard] == [written.id]


def test_without_a_receiver_nobody_is_started() -> None:
    before = threading.active_count()
    assert not any(signal.receivers for signal in ALL)

    tell([outcome(a_claimed(), "succeeded")], None)

    assert threading.active_count() == before
    assert announce.drain(0)


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_one_that_raises_is_logged_and_the_next_signal_is_sent(
    heard: list[Any], caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def bad(**_: Any) -> None:
        raise error("bad receiver")

    job_succeeded.connect(bad)
    try:
        tell([outcome(a_claimed(), "succeeded"), outcome(a_claimed(), "succeeded")], None)
        assert announce.drain(5)
    finally:
        job_succeeded.disconnect(bad)

    assert len(heard) == 2
    assert "bad receiver" in caplog.text


def test_one_that_hangs_holds_up_nobody_but_signals(heard: list[Any]) -> None:
    go = threading.Event()

    def slow(**_: Any) -> None:
        go.wait(20)

    job_succeeded.connect(slow)
    try:
        tell([outcome(a_claimed(), "succeeded")], None)  # and comes back at once
        assert not announce.drain(0.01)
        go.set()
        assert announce.drain(5)
    finally:
        go.set()
        job_succeeded.disconnect(slow)


def test_too_many_that_wait_are_not_kept(
    heard: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(announce, "_waiting", announce.queue.Queue(1))
    monkeypatch.setattr(announce, "_thread", threading.current_thread())  # nobody who takes them

    tell([outcome(a_claimed(), "succeeded"), outcome(a_claimed(), "succeeded")], None)

    assert "too slow" in caplog.text
    assert announce._waiting.qsize() == 1


@pytest.mark.postgresql("sessions that the server lists")
def test_what_a_receiver_opens_is_closed(ours: Session) -> None:
    pids: list[int] = []

    def look(**_: Any) -> None:
        with a_cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pids.append(cursor.fetchone()[0])

    job_succeeded.connect(look)
    try:
        tell([outcome(a_claimed(), "succeeded")], None)
        assert announce.drain(5)
    finally:
        job_succeeded.disconnect(look)

    query = Query("SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%s)", (pids,))
    wait_until(lambda: ours.glance(query) == [])
    assert len(pids) == 1


# Who sends ------------------------------------------------------------------------------------------------------------


def test_the_outcome_is_there_when_it_is_sent(ours: Session) -> None:
    seen: list[str] = []

    def receive(job_id: Any, **_: Any) -> None:
        seen.append(FinishedJob.objects.get(pk=job_id).state)

    job = a_job(ours)
    Job.objects.update(max_attempts=1)
    job_died.connect(receive)
    try:
        carry_out(ours, [Fated(str(job.id), job.lease, job.claimer, "timed_out", 1.0, "late")], 1, JobsSettings())
        assert announce.drain(5)
    finally:
        job_died.disconnect(receive)

    assert seen == ["dead"]  # by the keeper, which wrote it


def test_a_waiting_job_is_cancelled_where_a_person_does_it_and_after_the_commit(
    ours: Session, heard: list[Any]
) -> None:
    handles = tasks.noop.enqueue_many([(), ()])
    step(ours, accept, 10)

    with transaction.atomic():
        operate.cancel([handles[0].id])
        transaction.set_rollback(True)
    assert heard == []

    with transaction.atomic():
        operate.cancel([handles[1].id], by="anna", reason="no need")
        assert heard == []

    ((signal, given),) = heard
    assert signal is job_cancelled
    assert (given["job_id"], given["error"], given["attempt"]) == (handles[1].id, "cancelled by anna: no need", 0)
    assert (given["sender"], given["queue"], given["duration"]) == (tasks.noop, "default", None)


def test_a_wish_that_the_keeper_carries_out_is_sent_by_the_keeper(ours: Session, heard: list[Any]) -> None:
    job = a_job(ours)
    operate.cancel([job.id], reason="no")
    conclude(ours, [outcome(job, "handed_back")])

    Orders(Board(1, 1), channel=None).look(ours, 1)  # type: ignore[arg-type]

    assert announce.drain(5)
    assert [(signal, given["job_id"]) for signal, given in heard] == [(job_cancelled, job.id)]


def test_a_receiver_that_raises_in_a_request_is_logged(ours: Session, caplog: pytest.LogCaptureFixture) -> None:
    def bad(**_: Any) -> None:
        raise ValueError("bad receiver")

    handle = tasks.noop.enqueue()
    step(ours, accept, 10)
    job_cancelled.connect(bad)
    try:
        with caplog.at_level(logging.ERROR):
            assert operate.cancel([handle.id]).waiting == 1
    finally:
        job_cancelled.disconnect(bad)

    assert "bad receiver" in caplog.text
