"""Django's connections in a slot: what a job leaves open is ended, what is good is kept, and all carry the name."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import DatabaseError, connection, connections, reset_queries, transaction
from django.db.backends.signals import connection_created

from jobs import connections as module
from jobs.connections import any_connection, prepare_connections, tidy_connections
from outbox.session import Query, Session, session_on
from tests.factories import JobFactory
from tests.support.floor import everything, value
from tests.support.locks import together
from tests.support.sql import a_cursor
from tests.support.wait import wait_until

pytest_plugins = ["tests.support.ours"]

pytestmark = pytest.mark.postgresql("sessions on a server, by their names; what a job leaves open: test_lite.py")


@pytest.fixture
def slot(ours: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """This process as a slot named jobs-slot-7; undone at the end."""
    monkeypatch.setenv("PGAPPNAME", "")
    monkeypatch.setattr(connections, "settings", copy.deepcopy(connections.settings))
    monkeypatch.setattr(module, "_threads_with_connections", set())
    laid_aside = connections["default"]
    del connections["default"]
    prepare_connections("jobs-slot-7", 60.0)
    yield ours
    connection_created.disconnect(module._created)
    connections["default"].close()
    connections["default"] = laid_aside


def backend() -> int:
    """The server process of Django's connection."""
    with a_cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def alive(session: Session, pid: int) -> bool:
    return bool(session.glance(Query("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,))))


def ready_jobs(session: Session) -> int:
    return int(value(session, "SELECT count(*) FROM jobs_job"))


def in_a_thread(do: Callable[[], Any]) -> Any:
    """A thread has connections of its own; it closes them at its end."""

    def run() -> Any:
        try:
            return do()
        finally:
            connections.close_all()

    return together(run)[0]


# The name -----------------------------------------------------------------------------------------------------------


def test_every_connection_of_a_slot_carries_its_name(slot: Session) -> None:
    pid = backend()

    assert value(slot, "SELECT application_name FROM pg_stat_activity WHERE pid = %s", pid) == "jobs-slot-7"
    assert os.environ["PGAPPNAME"] == "jobs-slot-7"


def test_the_connections_of_other_threads_and_aliases_carry_it_too(slot: Session) -> None:
    assert in_a_thread(
        lambda: value(slot, "SELECT application_name FROM pg_stat_activity WHERE pid = %s", backend())
    ) == ("jobs-slot-7")
    assert connections.settings["other"]["OPTIONS"]["application_name"] == "jobs-slot-7"


def test_other_options_of_an_alias_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGAPPNAME", "")
    given = copy.deepcopy(connections.settings)
    given["default"]["OPTIONS"] = {"connect_timeout": 3, "application_name": "mine"}
    monkeypatch.setattr(connections, "settings", given)

    prepare_connections("jobs-slot-1", 60.0)
    connection_created.disconnect(module._created)

    assert given["default"]["OPTIONS"] == {"connect_timeout": 3, "application_name": "jobs-slot-1"}


@pytest.mark.parametrize(("own", "used"), [(0, 45.0), (10, 10), (None, None)])
def test_a_connection_is_kept_as_long_as_the_alias_says_else_as_the_jobs_do(
    monkeypatch: pytest.MonkeyPatch, own: float | None, used: float | None
) -> None:
    monkeypatch.setenv("PGAPPNAME", "")
    given = copy.deepcopy(connections.settings)
    given["default"]["CONN_MAX_AGE"] = own
    monkeypatch.setattr(connections, "settings", given)

    prepare_connections("jobs-slot-1", 45.0)
    connection_created.disconnect(module._created)

    assert given["default"]["CONN_MAX_AGE"] == used
    assert given["default"]["CONN_HEALTH_CHECKS"] is True


def test_a_pool_keeps_its_connections_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django refuses a pool with persistent connections."""
    given = copy.deepcopy(connections.settings)
    given["default"] |= {"CONN_MAX_AGE": 0, "OPTIONS": {"pool": True}}
    monkeypatch.setattr(connections, "settings", given)
    monkeypatch.setenv("PGAPPNAME", "")

    prepare_connections("jobs-slot-7", 60.0)
    connection_created.disconnect(module._created)

    assert given["default"]["CONN_MAX_AGE"] == 0
    assert given["default"]["OPTIONS"]["application_name"] == "jobs-slot-7"


def test_the_pumps_own_session_carries_it_too(slot: Session) -> None:
    its_own = session_on("default")
    name = its_own.glance(Query("SELECT current_setting('application_name')"))
    its_own.close()

    assert name == [("jobs-slot-7",)]


# Between two jobs ---------------------------------------------------------------------------------------------------


def test_a_good_connection_is_kept_for_the_next_job(slot: Session) -> None:
    first = backend()

    tidy_connections()

    assert backend() == first


def test_a_transaction_that_a_job_left_open_is_rolled_back(slot: Session) -> None:
    transaction.atomic().__enter__()
    JobFactory()
    pid = backend()

    tidy_connections()

    wait_until(lambda: not alive(slot, pid), what="the connection is closed")
    assert ready_jobs(slot) == 0
    JobFactory()
    assert ready_jobs(slot) == 1


def test_nested_transactions_that_a_job_left_open_are_rolled_back(slot: Session) -> None:
    for _ in range(3):
        transaction.atomic().__enter__()
        JobFactory()

    tidy_connections()

    assert ready_jobs(slot) == 0
    assert not connection.in_atomic_block
    with transaction.atomic():
        JobFactory()
    assert ready_jobs(slot) == 1


def test_a_broken_transaction_that_a_job_left_open_is_rolled_back(slot: Session) -> None:
    transaction.atomic().__enter__()
    JobFactory()
    with pytest.raises(DatabaseError), a_cursor() as cursor:
        cursor.execute("SELECT 1 / 0")

    tidy_connections()

    assert ready_jobs(slot) == 0
    JobFactory()
    assert ready_jobs(slot) == 1


def test_a_job_that_switched_autocommit_off_commits_nothing_and_leaves_it_on(slot: Session) -> None:
    transaction.set_autocommit(False)
    JobFactory()

    tidy_connections()

    assert ready_jobs(slot) == 0
    assert transaction.get_autocommit() is True
    JobFactory()
    assert ready_jobs(slot) == 1


def test_hooks_of_a_transaction_that_was_left_open_never_run(slot: Session) -> None:
    ran = []
    transaction.atomic().__enter__()
    transaction.on_commit(lambda: ran.append(1))

    tidy_connections()
    with transaction.atomic():
        JobFactory()

    assert ran == []


def test_a_connection_whose_server_is_gone_is_dropped(slot: Session) -> None:
    pid = backend()
    slot.glance(Query("SELECT pg_terminate_backend(%s, 2000)", (pid,)))
    with pytest.raises(DatabaseError):
        JobFactory()

    tidy_connections()

    JobFactory()
    assert ready_jobs(slot) == 1


def test_a_connection_that_broke_between_two_jobs_is_not_noticed_by_the_second(slot: Session) -> None:
    pid = backend()
    tidy_connections()
    slot.glance(Query("SELECT pg_terminate_backend(%s, 2000)", (pid,)))

    JobFactory()

    assert backend() != pid
    assert ready_jobs(slot) == 1


def test_an_old_connection_is_closed(slot: Session) -> None:
    pid = backend()
    connection.close_at = 0.0

    tidy_connections()

    wait_until(lambda: not alive(slot, pid), what="the connection is closed")


def test_a_job_that_closed_its_connection_leaves_nothing_to_do(slot: Session) -> None:
    backend()
    connection.close()

    tidy_connections()

    assert connection.connection is None


def test_a_thread_that_never_had_a_connection_is_not_given_one(slot: Session) -> None:
    before = everything(slot)

    opened = in_a_thread(lambda: (tidy_connections(), list(connections.all(initialized_only=True)))[1])

    assert opened == []
    assert everything(slot) == before


def test_what_another_thread_left_open_is_its_own_to_end(slot: Session) -> None:
    here = backend()

    def leave_open() -> int:
        transaction.atomic().__enter__()
        JobFactory()
        tidy_connections()
        return backend()

    there = in_a_thread(leave_open)

    assert there != here
    assert backend() == here
    assert ready_jobs(slot) == 0


def test_whether_any_connection_was_opened(slot: Session) -> None:
    before = any_connection()
    backend()

    assert (before, any_connection()) == (False, True)


def test_queries_kept_for_debugging_do_not_pile_up(slot: Session, settings: LazySettings) -> None:
    settings.DEBUG = True
    backend()
    assert connection.queries

    tidy_connections()
    kept = list(connection.queries)
    reset_queries()

    assert kept == []


def test_tidying_again_and_again_is_harmless(slot: Session) -> None:
    pid = backend()

    for _ in range(5):
        tidy_connections()

    assert backend() == pid
    assert threading.get_ident() in module._threads_with_connections
