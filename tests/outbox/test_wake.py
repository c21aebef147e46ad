"""The wake-up comes after the commit, never inside the business transaction, and never costs more than a delay."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connection, connections, transaction
from django.test import Client
from pytest_django import DjangoCaptureOnCommitCallbacks

from outbox import wake
from outbox.models import Message
from outbox.write import Draft, write, write_many
from tests.support.committing import _django_db_helper, on_both, on_default  # noqa: F401
from tests.support.observer import beside, committed, listener, observer

pytestmark = pytest.mark.postgresql("NOTIFY, which SQLite has not: see test_lite.py for what wakes there")

Heard = Callable[[float], int]


@pytest.fixture(autouse=True)
def nobody_was_woken_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "_woken_at", {})


@pytest.fixture
def heard(transactional_db: None) -> Iterator[Heard]:
    with listener(wake.CHANNEL) as heard:
        yield heard


def put(database: str | None = None) -> None:
    write(Draft(uuid4(), "{}", "x"), database=database)


@on_default
def test_a_commit_wakes_the_relay(heard: Heard) -> None:
    with transaction.atomic():
        put()

    assert heard(5) == 1


@on_default
def test_many_at_once_wake_it_once(heard: Heard) -> None:
    with transaction.atomic():
        write_many([Draft(uuid4(), "{}", "x")] * 3)
        put()
        put()

    assert heard(5) == 1
    assert heard(0.05) == 0


@on_default
def test_a_message_outside_a_transaction_wakes_it_too(heard: Heard) -> None:
    put()

    assert heard(5) == 1


@on_default
def test_the_wake_up_is_no_part_of_the_business_transaction(heard: Heard) -> None:
    at_the_commit: list[int] = []

    with transaction.atomic():
        transaction.on_commit(lambda: at_the_commit.append(heard(0.1)))  # runs before the hook of the message
        put()
        inside = heard(0.05)

    assert inside == 0
    assert at_the_commit == [0]
    assert heard(5) == 1


@on_default
def test_the_wake_up_waits_for_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "WAKE", wake.WAKE.replace("COMMIT", "SHOW synchronous_commit; COMMIT"))
    said: list[Any] = []
    execute = psycopg.Connection.execute

    def listening(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        cursor = execute(self, query, *args, **kwargs)
        if query == wake.WAKE:
            while cursor.description is None:
                cursor.nextset()
            said.extend(cursor.fetchone())
        return cursor

    monkeypatch.setattr(psycopg.Connection, "execute", listening)

    put()

    assert said == ["off"]


@on_default
def test_a_rollback_wakes_nobody(heard: Heard) -> None:
    with transaction.atomic():
        put()
        transaction.set_rollback(True)

    assert heard(0.1) == 0


@on_default
def test_a_savepoint_that_was_rolled_back_wakes_nobody(heard: Heard) -> None:
    with transaction.atomic(), transaction.atomic():
        put()
        transaction.set_rollback(True)

    assert heard(0.1) == 0


@on_default
def test_a_burst_of_commits_wakes_it_once(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "QUIET_FOR", 3600.0)

    for _ in range(10):
        put()

    assert heard(5) == 1
    assert heard(0.05) == 0


@on_default
def test_after_the_quiet_time_a_commit_wakes_it_again(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "QUIET_FOR", 0.0)

    put()
    first = heard(5)
    put()

    assert (first, heard(5)) == (1, 1)


@on_both
def test_another_database_is_woken_for_itself(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "QUIET_FOR", 3600.0)

    put("other")
    of_the_other = heard(0.05)
    put("default")

    assert of_the_other == 0
    assert heard(5) == 1


@on_default
def test_a_site_behind_pgbouncer_sends_none(heard: Heard, settings: Any) -> None:
    settings.OUTBOX = {"NOTIFY": False}

    put()

    assert heard(0.1) == 0


@on_default
def test_a_transaction_by_hand_is_left_alone(heard: Heard) -> None:
    transaction.set_autocommit(False)
    try:
        put()
        with transaction.atomic():
            put()
        inside = committed()
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)

    assert inside == []
    assert heard(0.1) == 0
    assert committed() == []


@on_default
def test_a_request_whose_connection_dies_before_the_wake_up_is_not_an_error(
    settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ROOT_URLCONF = "tests.support.site"
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)

    answer = Client().get("/lost")

    assert answer.status_code == 200
    assert len(committed()) == 1
    assert [record.levelname for record in caplog.records if record.name == "outbox"] == ["WARNING"]
    assert "the relay finds it by itself" in caplog.text


@on_default
def test_a_wake_up_that_the_database_refuses_is_not_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wake, "WAKE", "BEGIN; SELECT 1 / 0; COMMIT")

    with transaction.atomic():
        put()

    assert len(committed()) == 1
    assert Message.objects.count() == 1  # the connection is as good as before
    assert "was lost" in caplog.text


@on_default
def test_a_refused_wake_up_leaves_no_transaction_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "WAKE", "BEGIN; SELECT 1 / 0; COMMIT")

    put()

    assert connection.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    Message.objects.create(uid=uuid4(), headers="{}", body="after")
    assert committed() == ["x", "after"]


@on_default
def test_with_prepared_statements_switched_on_it_wakes_all_the_same(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wake, "QUIET_FOR", 0.0)
    monkeypatch.setitem(connections["default"].settings_dict["OPTIONS"], "prepare_threshold", 1)
    connections["default"].close()

    for _ in range(4):
        put()
        assert heard(5) == 1

    assert caplog.records == []


@pytest.mark.django_db
@pytest.mark.parametrize("many", [False, True])
def test_commit_hooks_that_a_testcase_runs_inside_its_transaction_do_not_commit_it(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks, many: bool
) -> None:
    try:
        with django_capture_on_commit_callbacks(execute=True) as callbacks, transaction.atomic():
            if many:
                write_many([Draft(uuid4(), "{}", "x")])
            else:
                put()

        assert len(callbacks) == 1
        assert connection.connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        assert committed() == []
    finally:
        with observer() as other:
            other.execute("SET lock_timeout = '100ms'; DELETE FROM outbox_message" if committed() else "SELECT 1")


@on_default
def test_a_request_never_waits_for_another_ones_slow_commit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "outbox")
    done = threading.Event()

    def request() -> None:
        put()
        done.set()

    with transaction.atomic():
        put()
        with beside(request):
            assert done.wait(5)

    assert caplog.records == []
