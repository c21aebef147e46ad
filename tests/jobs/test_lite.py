"""The jobs' own half of SQLite: reads that end, transactions that wait for their turn, and what a job leaves open."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.db import IntegrityError, connection, connections, transaction

from jobs import connections as module
from jobs import operate
from jobs.connections import tidy_connections
from jobs.dashboard import failures, look
from jobs.models import FinishedJob, Note
from outbox.ask import ask, writing
from outbox.session import Query, Session, session_on
from tests.factories import AttemptFactory, FinishedJobFactory, JobFactory
from tests.models import Effect
from tests.support.committing import _django_db_helper, on_default  # noqa: F401

pytestmark = [on_default, pytest.mark.sqlite]

FOR_EVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS n FROM n"


def test_a_read_that_takes_too_long_is_interrupted_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "MOST_SECONDS", 0.1)
    began = time.monotonic()

    with pytest.raises(look.TooSlow):
        look.rows(FOR_EVER)

    assert time.monotonic() - began < 5
    monkeypatch.setattr(look, "MOST_SECONDS", 0.0)
    assert ask("default", "SELECT count(*) FROM jobs_job") == [(0,)]  # nothing of the limit is left


def test_a_transaction_of_ours_waits_for_its_turn_past_djangos_own_patience(session: Session) -> None:
    """Django's patience is a tenth of a second here, and the turn comes after half a second."""
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    options["timeout"], before = 0.1, options["timeout"]
    session.connection.plainly("BEGIN IMMEDIATE")
    giving_way = threading.Timer(0.5, lambda: session.connection.plainly("COMMIT"))
    giving_way.start()
    try:
        with writing("default"):
            assert connection.in_atomic_block
            Effect.objects.create(note="mine")
    finally:
        options["timeout"] = before
        giving_way.join()
        connection.close()

    assert Effect.objects.get().note == "mine"
    assert connection.transaction_mode == "IMMEDIATE"  # type: ignore[attr-defined]  # as the tests' settings have it


def test_a_transaction_that_reads_first_is_the_writer_from_its_beginning(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deferred, its write after the read would be refused where another has written in between."""
    wrapper = connections["default"]
    wrapper.ensure_connection()
    monkeypatch.setattr(wrapper, "transaction_mode", None)
    hasty = session_on("default", statement_timeout=0.05)
    with writing("default"):
        assert not Effect.objects.exists()
        with pytest.raises(Exception, match="locked"):
            hasty.run(Query("DELETE FROM jobs_stat"))
        Effect.objects.create(note="mine")
    hasty.run(Query("DELETE FROM jobs_stat"))
    hasty.close()


def test_a_verb_of_several_statements_is_one_transaction_on_djangos_connection_too() -> None:
    first, second = FinishedJobFactory(state="dead"), FinishedJobFactory(state="dead")
    JobFactory(id=second.id)  # so its requeue is refused, after that of the other
    assert not connection.in_atomic_block

    with pytest.raises(IntegrityError):
        ask("default", operate.REQUEUE, ([first.id, second.id], "anna", ""))

    assert {job.id for job in FinishedJob.objects.all()} == {first.id, second.id}
    assert not Note.objects.exists()


def test_what_a_job_left_open_gives_the_turn_back(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_threads_with_connections", {threading.get_ident()})
    transaction.atomic().__enter__()
    Effect.objects.create(note="left open")

    tidy_connections()

    session.run(Query("DELETE FROM jobs_stat"))  # nobody has the turn
    assert not connections["default"].in_atomic_block
    assert not Effect.objects.exists()


def test_failures_are_grouped_without_arrays() -> None:
    for n in range(3):
        job = FinishedJobFactory(state="dead", lease=1)
        AttemptFactory(
            job=job.id,
            exception="ValueError",
            frame="shop.tasks.send",
            error=f"ValueError: {n}",
            task=f"t{n}",
            version="v1",
        )
    AttemptFactory(job=JobFactory().id, exception="KeyError", frame="", error="KeyError: 'a'", task="t")

    groups: dict[str, Any] = {group.exception: group for group in failures.groups("7d")}

    assert (groups["ValueError"].n, groups["ValueError"].jobs, groups["ValueError"].dead) == (3, 3, 3)
    assert (groups["ValueError"].tasks, groups["ValueError"].versions) == (["t0", "t1", "t2"], ["v1"])
    assert groups["ValueError"].message == "2"
    assert (groups["KeyError"].n, groups["KeyError"].dead, groups["KeyError"].versions) == (1, 0, [])
    assert [group.exception for group in failures.groups("7d", search="KEYERR")] == ["KeyError"]
    assert failures.groups("7d", task="nothing") == []
