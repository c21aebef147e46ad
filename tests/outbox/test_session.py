"""A connection of our own: each verb a transaction, no state that a pooler could lose, back after every loss."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connections, transaction
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from outbox.models import Message
from outbox.postgresql import Patient, own_params
from outbox.session import Query, Session, backoff, process_name, session_on
from outbox.terms import PLANS
from tests.factories import MessageFactory
from tests.support.committing import _django_db_helper, on_default  # noqa: F401
from tests.support.observer import beside, observer
from tests.support.sql import a_cursor

pytestmark = [on_default, pytest.mark.postgresql("the session over psycopg: the one on SQLite is in test_lite.py")]

PID = Query("SELECT pg_backend_pid()")
INSERT = Query("INSERT INTO outbox_message (uid, headers, body) VALUES (gen_random_uuid(), '{}', 'x')")
BROKEN = Query("SELECT 1 / 0")


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The OPTIONS of the default database, to be changed by the test."""
    changed = dict(connections["default"].settings_dict["OPTIONS"])
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", changed)
    return changed


@contextmanager
def opened(**changed: Any) -> Iterator[Session]:
    session = session_on("default", **changed)
    try:
        yield session
    finally:
        session.close()


def cut(session: Session) -> None:
    """End the session's backend, as a restart of the server would."""
    with observer() as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (session.connection.info.backend_pid,))


def show(session: Session, name: str, *, durable: bool = True) -> str:
    return str(session.run(Query(f"SHOW {name}"), durable=durable)[0][0])


def test_a_verb_gives_its_rows(session: Session) -> None:
    assert session.run(Query("SELECT %s::int, %s::text", (1, "a"))) == [(1, "a")]
    assert session.run(INSERT) == []


def test_several_verbs_give_the_rows_of_each(session: Session) -> None:
    assert session.run_all([Query("SELECT 1"), INSERT, Query("SELECT 2")]) == [[(1,)], [], [(2,)]]


def test_several_verbs_are_one_transaction(session: Session) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        session.run_all([INSERT, BROKEN])

    assert not Message.objects.exists()


def test_after_an_error_the_next_verb_works_on_the_same_connection(session: Session) -> None:
    before = session.run(PID)

    with pytest.raises(psycopg.errors.DivisionByZero):
        session.run(BROKEN)

    assert session.run(PID) == before
    assert session.connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_an_error_of_python_inside_a_transaction_undoes_it(session: Session) -> None:
    def interrupted() -> None:
        with session.transaction(durable=True) as own:
            own.execute(INSERT.sql)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert session.run(Query("SELECT count(*) FROM outbox_message")) == [(0,)]


def test_a_lost_connection_is_an_error_once_and_then_a_new_connection(session: Session) -> None:
    before = session.run(PID)
    cut(session)

    with pytest.raises(psycopg.OperationalError):
        session.run(PID)

    assert session.run(PID) != before


def test_a_glance_survives_an_error_and_a_loss(session: Session) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        session.glance(BROKEN)
    assert session.glance(Query("SELECT 1")) == [(1,)]

    cut(session)
    with pytest.raises(psycopg.OperationalError):
        session.glance(Query("SELECT 1"))
    assert session.glance(Query("SELECT 1")) == [(1,)]


def test_closed_twice_and_opened_again(session: Session) -> None:
    session.run(PID)
    session.close()
    session.close()

    assert not session.connected
    assert session.run(Query("SELECT 1")) == [(1,)]


def test_a_statement_ends_at_its_timeout() -> None:
    with opened(statement_timeout=0.05) as session, pytest.raises(psycopg.errors.QueryCanceled):
        session.run(Query("SELECT pg_sleep(10)"))


def test_nothing_is_left_in_the_session_for_a_pooler_to_pass_on(session: Session, settings: Any) -> None:
    settings.OUTBOX = {"NOTIFY": False}
    names = ["enable_seqscan", "enable_sort", "statement_timeout", "synchronous_commit", "jit", "lock_timeout"]
    with observer() as other:
        fresh = [other.execute(f"SHOW {name}").fetchone() for name in names]

    session.run(Query("SELECT 1"), durable=False)

    assert show(session, "enable_sort") == "off"
    assert [session.connection.execute(f"SHOW {name}").fetchone() for name in names] == fresh


@pytest.mark.parametrize("notify", [True, False])
def test_its_terms_hold_in_each_transaction(settings: Any, options: dict[str, Any], notify: bool) -> None:
    """Said as the connection is opened, or by each transaction where that cannot be."""
    settings.OUTBOX = {"NOTIFY": notify}
    options["options"] = "-c enable_sort=on -c lock_timeout=5 -c search_path=public"
    names = [*PLANS, "statement_timeout", "search_path"]
    with opened(statement_timeout=3.0) as session:
        for durable in (True, False):
            found = session.run_all([Query(f"SHOW {name}") for name in names], durable=durable)
            assert [rows[0][0] for rows in found] == [*PLANS.values(), "3s", "public"]
        assert session._told is notify


def test_a_direct_connection_says_its_terms_once(session: Session) -> None:
    session.run(Query("SELECT 1"))
    with session.transaction(durable=True) as own:
        said = own.execute("SELECT statement FROM pg_prepared_statements").fetchall()

    assert not [text for (text,) in said if "set_config" in text]
    assert session._told


@pytest.mark.parametrize(
    "way",
    [
        lambda *_, **__: False,  # a pooler that ignores what it does not know
        None,  # one that refuses
    ],
    ids=["ignored", "refused"],
)
def test_where_its_terms_are_not_taken_each_transaction_says_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: Any
) -> None:
    if way is None:
        connect = Patient.connect

        def refuse(*args: Any, **params: Any) -> Any:
            if "enable_sort" in params.get("options", ""):
                raise psycopg.OperationalError("FATAL: unsupported startup parameter in options: enable_sort")
            return connect(*args, **params)

        monkeypatch.setattr(Patient, "connect", refuse)
    else:
        monkeypatch.setattr("outbox.terms.hold", way)
    with opened() as session:
        assert show(session, "enable_sort") == "off"
        assert not session._told
        assert session.connection.execute("SHOW enable_sort").fetchone() == ("on",)
        assert session.connection.prepare_threshold is None
    assert "a pooler in transaction mode" in caplog.text


def test_a_server_that_is_away_is_no_pooler(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise psycopg.OperationalError("connection refused")

    with opened() as session, monkeypatch.context() as patched:
        patched.setattr(Patient, "connect", away)
        with pytest.raises(psycopg.OperationalError, match="refused"):
            session.run(PID)
        patched.undo()
        assert session.run(Query("SELECT 1")) == [(1,)]
        assert session._told


@pytest.mark.parametrize(
    ("role", "durable", "said"),
    [
        ("on", True, "on"),
        ("on", False, "off"),
        ("off", True, "on"),
        ("off", False, "off"),
        ("local", True, "local"),
        ("remote_apply", True, "remote_apply"),
    ],
)
@pytest.mark.parametrize("notify", [True, False])
def test_durable_is_never_less_than_on(
    settings: Any, options: dict[str, Any], notify: bool, role: str, durable: bool, said: str
) -> None:
    settings.OUTBOX = {"NOTIFY": notify}
    options["options"] = f"-c synchronous_commit={role}"
    with opened() as session:
        assert show(session, "synchronous_commit", durable=durable) == said
        assert show(session, "synchronous_commit", durable=durable) == said


@pytest.mark.parametrize("notify", [True, False])
def test_whatever_the_application_chose_its_verbs_are_read_committed_and_write(
    settings: Any, options: dict[str, Any], notify: bool
) -> None:
    settings.OUTBOX = {"NOTIFY": notify}
    options["options"] = r"-c default_transaction_isolation=serializable -c default_transaction_read_only=on"
    with opened() as session:
        for durable in (True, False):
            assert show(session, "transaction_isolation", durable=durable) == "read committed"
            assert show(session, "transaction_read_only", durable=durable) == "off"


@pytest.mark.parametrize(
    "given",
    [
        {"isolation_level": IsolationLevel.SERIALIZABLE},
        {"server_side_binding": True},
        {"prepare_threshold": 1},
        {"pool": {"min_size": 1}},
        {"application_name": "shop"},
        {"options": "-c search_path=public"},
    ],
    ids=lambda given: next(iter(given)),
)
def test_any_option_of_djangos_is_taken(options: dict[str, Any], given: dict[str, Any]) -> None:
    options.update(given)

    with opened() as session:
        for _ in range(8):
            assert session.run_all([Query("SELECT %s::int", (1,)), Query("SELECT 2")]) == [[(1,)], [(2,)]]


def test_the_role_that_django_assumes_is_assumed(options: dict[str, Any]) -> None:
    with a_cursor() as cursor:
        cursor.execute("CREATE ROLE somebody")
    try:
        options["assume_role"] = "somebody"
        with opened() as session:
            assert session.run(Query("SELECT current_user")) == [("somebody",)]
    finally:
        with a_cursor() as cursor:
            cursor.execute("DROP ROLE somebody")


def test_its_rows_are_of_plain_types_whatever_django_has_registered(session: Session) -> None:
    MessageFactory()

    ((uid, written_at),) = session.run(Query("SELECT uid, written_at FROM outbox_message"))

    assert type(uid).__module__ == "uuid"
    assert written_at.tzinfo is not None


def test_what_a_statement_is_given_is_not_in_its_text(session: Session) -> None:
    query = Query("SELECT query, %s::text FROM pg_stat_activity WHERE pid = pg_backend_pid()", ("canary",))

    ((text, given),) = session.run(query)

    assert given == "canary"
    assert "canary" not in text


def test_its_name_is_seen_by_the_server() -> None:
    with opened(application_name="outbox-test") as session:
        assert show(session, "application_name") == "outbox-test"


def test_every_wait_for_the_network_has_a_limit() -> None:
    assert own_params("default")["connect_timeout"] == 5
    assert own_params("default")["tcp_user_timeout"] == 20_000


def test_a_limit_that_the_site_has_set_is_kept(options: dict[str, Any]) -> None:
    options["connect_timeout"] = 1

    assert own_params("default")["connect_timeout"] == 1


def test_a_wait_ends_when_somebody_notifies(session: Session) -> None:
    session.listen("rooster")
    session.run(PID)

    def crow() -> None:
        with a_cursor() as cursor:
            cursor.execute("NOTIFY rooster")

    began = time.monotonic()
    with beside(crow):
        assert session.wait(10) is True
    assert time.monotonic() - began < 5
    assert session.wait(0) is False


def test_a_notification_that_came_before_the_wait_is_not_lost(session: Session) -> None:
    session.listen("rooster")
    session.run(PID)
    with a_cursor() as cursor:
        cursor.execute("NOTIFY rooster")
    session.run(Query("SELECT 1"))  # reads it from the socket

    began = time.monotonic()
    session.wait(3)

    assert time.monotonic() - began < 2


def test_listening_goes_on_over_a_lost_connection(session: Session) -> None:
    session.listen("rooster")
    session.run(PID)
    cut(session)
    with pytest.raises(psycopg.OperationalError):
        session.run(PID)
    session.run(PID)

    with a_cursor() as cursor:
        cursor.execute("NOTIFY rooster")

    assert session.wait(10) is True


def test_listening_starts_also_on_an_open_connection(session: Session) -> None:
    session.run(PID)
    session.listen("rooster")

    with a_cursor() as cursor:
        cursor.execute("NOTIFY rooster")

    assert session.wait(10) is True


def test_a_wait_ends_when_there_is_something_to_read(session: Session) -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, b"x")
        began = time.monotonic()

        assert session.wait(10, reading) is False
        assert time.monotonic() - began < 5
    finally:
        os.close(reading)
        os.close(writing)


def test_a_wait_without_anything_to_wait_for_opens_no_connection() -> None:
    with opened() as session:
        session.wait(0)

        assert not session.connected


def test_a_verb_sees_nothing_of_an_open_transaction_of_django(session: Session) -> None:
    with transaction.atomic():
        MessageFactory()

        assert session.run(Query("SELECT count(*) FROM outbox_message")) == [(0,)]


@pytest.mark.parametrize("failures", [1, 2, 5, 10, 1000])
def test_the_wait_after_a_failure_grows_and_has_an_end(failures: int) -> None:
    waits = [backoff(failures) for _ in range(100)]

    assert all(0.05 <= wait <= min(5.0, 0.1 * 2 ** min(failures, 10)) for wait in waits)
    assert len(set(waits)) > 50


def test_a_process_says_where_it_runs() -> None:
    assert process_name() == f"{os.uname().nodename}:{os.getpid()}"


def test_a_prepared_statement_that_a_pooler_has_lost_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    with opened() as session:
        query = Query("SELECT 1")
        for _ in range(4):
            session.run(query)
        session.connection.pgconn.exec_(b"DEALLOCATE ALL")  # as if the next transaction were elsewhere

        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            session.run(query)
        for _ in range(5):
            assert session.run(query) == [(1,)]

        assert session.glance(Query("SELECT count(*) FROM pg_prepared_statements")) == [(0,)]
    assert "a pooler in transaction mode" in caplog.text


def test_behind_a_pooler_nothing_is_prepared(settings: Any) -> None:
    settings.OUTBOX = {"NOTIFY": False}
    with opened() as session:
        for _ in range(5):
            session.run(Query("SELECT 1"))

        assert session.glance(Query("SELECT count(*) FROM pg_prepared_statements")) == [(0,)]


def test_a_connection_that_says_nothing_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """A network that swallows packets keeps the socket open; a server that is busy looks the same from here."""
    with opened(statement_timeout=30) as session:
        assert session.run(Query("SELECT 1")) == [(1,)]
        session.connection.patience = 0.3
        began = time.monotonic()

        with pytest.raises(psycopg.OperationalError):
            session.run(Query("SELECT pg_sleep(2)"))

        assert 0.3 < time.monotonic() - began < 1.5
        assert "has not answered in 0.3 s" in caplog.text
        assert not session.connected
        assert session.run(Query("SELECT 2")) == [(2,)]


def test_it_waits_longer_than_a_statement_may_take() -> None:
    with opened(statement_timeout=0.4) as session:
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.run(Query("SELECT pg_sleep(5)"))

        assert session.connection.patience == 2.4
        assert session.connected
