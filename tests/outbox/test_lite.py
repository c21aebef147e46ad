"""The outbox in SQLite's words: respelled statements, values there and back, and our session on a file."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from django.db import DataError, IntegrityError, OperationalError, connections
from hypothesis import given
from hypothesis import strategies as st

from outbox.arrays import plain, quoted
from outbox.ask import ask
from outbox.lite.fitness import in_memory, may_corrupt, too_old
from outbox.lite.spell import spell
from outbox.lite.values import parsed, read, stored, time_text
from outbox.relay import replay
from outbox.session import Query, Session, session_on
from tests.factories import SetAsideMessageFactory
from tests.support.database import on_sqlite
from tests.support.floor import properties

NUMBER = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("SELECT 1 WHERE id = ANY(%s::uuid[])", "SELECT 1 WHERE id IN (SELECT value FROM json_each(%s))"),
        ("SELECT x::float8, NULL::int", "SELECT x, NULL"),
        ("SELECT a IS NOT DISTINCT FROM %s", "SELECT a IS %s"),
        (
            "DELETE FROM t WHERE ctid = ANY(ARRAY(SELECT ctid FROM t LIMIT %s FOR UPDATE SKIP LOCKED)) RETURNING id",
            "DELETE FROM t WHERE rowid IN (SELECT rowid FROM t LIMIT coalesce(%s, -1)) RETURNING id",
        ),
        ("SELECT clock_timestamp() - %s * interval '1 second'", "SELECT later(clock_timestamp(), -%s)"),
        ("SELECT statement_timestamp() - %s::interval", "SELECT later(statement_timestamp(), -%s / 1e6)"),
        ("SELECT clock_timestamp() - interval '5 minutes'", "SELECT later(clock_timestamp(), -60.0 * 5)"),
        ("SELECT extract(epoch FROM max(a) - b)::float8", "SELECT (seconds(max(a)) - seconds(b))"),
        ("SELECT '100%%' || %s", "SELECT '100%%' || %s"),
        ("SELECT %(a)s FROM t", "SELECT %(a)s FROM t"),
        (
            "SELECT * FROM unnest(%s::int[], %s::text[]) AS o(a, b)",
            "SELECT * FROM (SELECT json_extract(value, '$[0]') AS a, json_extract(value, '$[1]') AS b"
            " FROM json_each(%s)) AS o",
        ),
        (
            "SELECT job FROM unnest(%s::uuid[]) AS job",
            "SELECT job FROM (SELECT value AS job FROM json_each(%s)) AS job",
        ),
    ],
)
def test_a_statement_respelled(ours: str, theirs: str) -> None:
    assert spell(ours).sql == theirs


def test_parameters_keep_their_places_when_arrays_become_one() -> None:
    words = spell("SELECT %s, a FROM unnest(%s::uuid[], %s::boolean[]) AS o(a, b) WHERE a = ANY(%s::int[]) AND c = %s")

    made = words.params([True, [NUMBER], "{f}", "{3,NULL}", timedelta(seconds=2)])

    assert made == [1, f'[["{NUMBER.hex}", 0]]', "[3, null]", 2_000_000]


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("SELECT 1", True),
        ("WITH a AS MATERIALIZED (SELECT 1) SELECT * FROM a", True),
        ("WITH a AS MATERIALIZED (SELECT 1) UPDATE t SET x = 1 FROM a", False),
        ("INSERT INTO t (a) SELECT 1", False),
        ("DELETE FROM t", False),
    ],
)
def test_what_only_reads_is_known(sql: str, reads: bool) -> None:
    assert spell(sql).reads is reads


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (NUMBER, "01890a5dac96774bbcceb302099a8057"),
        (True, 1),
        (timedelta(minutes=1), 60_000_000),
        (datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02 03:04:05.000006"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), "2026-01-02 01:04:05"),
        (None, None),
        ("ü", "ü"),
    ],
)
def test_a_value_as_django_keeps_it(value: Any, kept: Any) -> None:
    assert stored(value) == kept


@pytest.mark.parametrize("value", ["a\x00b", "\ud800", 2**63])
def test_what_postgresql_refuses_is_refused(value: Any) -> None:
    with pytest.raises(DataError):
        stored(value)


def test_rows_come_back_with_their_types() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    names = ["id", "ready_at", "at_most_once", "every", "until", "callbacks IS NOT NULL", "error"]

    (row,) = read(names, [(NUMBER.hex, time_text(at), 1, 60_000_000, "finished", 0, "2026-01-02 03:04:05")])

    assert row == (NUMBER, at, True, timedelta(minutes=1), "finished", False, "2026-01-02 03:04:05")


@properties
@given(st.lists(st.none() | st.text(st.characters(blacklist_characters="\x00", blacklist_categories=["Cs"]))))
def test_the_text_of_an_array_is_read_back(items: list[str | None]) -> None:
    assert parsed(quoted(items)) == items


def test_the_text_of_plain_items_is_read_back() -> None:
    assert parsed(plain([1, None, NUMBER])) == ["1", None, str(NUMBER)]
    assert parsed(plain([])) == []


@pytest.mark.parametrize(
    ("version", "old", "risky"),
    [
        ((3, 34, 1), True, True),
        ((3, 35, 0), False, True),
        ((3, 40, 1), False, True),
        ((3, 44, 5), False, True),
        ((3, 44, 6), False, False),
        ((3, 50, 6), False, True),
        ((3, 50, 7), False, False),
        ((3, 51, 2), False, True),
        ((3, 51, 3), False, False),
        ((3, 52, 0), False, False),
        ((4, 0, 0), False, False),
    ],
)
def test_a_version_judged(version: tuple[int, ...], old: bool, risky: bool) -> None:
    assert (too_old(version) is not None, may_corrupt(version) is not None) == (old, risky)


# On a file -----------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_the_session_is_the_one_for_the_file(session: Session) -> None:
    assert session.vendor == "sqlite" and on_sqlite() and not in_memory("default")
    assert session.glance(Query("SELECT clock_timestamp()"))[0][0].tzinfo is UTC
    assert session.connection.plainly("PRAGMA journal_mode") == [("wal",)]


@pytest.mark.sqlite
def test_a_durable_verb_waits_for_the_disk_and_another_does_not(session: Session) -> None:
    session.run(Query("DELETE FROM jobs_job"))
    assert session.connection.plainly("PRAGMA synchronous") == [(2,)]
    session.run(Query("DELETE FROM jobs_job"), durable=False)
    assert session.connection.plainly("PRAGMA synchronous") == [(1,)]


@pytest.mark.sqlite
def test_what_fails_is_rolled_back_and_the_session_goes_on(session: Session) -> None:
    put = Query("INSERT INTO jobs_queue (name, paused_at, reason, by) VALUES ('a', clock_timestamp(), '', '')")
    with pytest.raises(IntegrityError):
        session.run_all([put, put])

    assert session.glance(Query("SELECT count(*) FROM jobs_queue")) == [(0,)]
    assert session.connected


@pytest.mark.sqlite
def test_a_writer_waits_for_its_turn_and_says_so_when_it_takes_too_long(session: Session) -> None:
    patient, hasty = session_on("default", statement_timeout=20), session_on("default", statement_timeout=0.05)
    session.connection.plainly("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError, match="locked"):
        hasty.run(Query("DELETE FROM jobs_job"))
    assert hasty.connected  # nothing is lost, it may be tried again
    assert hasty.run(Query("SELECT count(*) FROM jobs_job")) == [(0,)]  # who reads waits for nobody

    waiting = threading.Thread(target=lambda: patient.run(Query("DELETE FROM jobs_job")))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    session.connection.plainly("COMMIT")
    waiting.join(10)
    assert not waiting.is_alive()
    patient.close()
    hasty.close()


@pytest.mark.sqlite
def test_a_listener_is_woken_by_what_another_connection_has_left(session: Session) -> None:
    session.listen("outbox_written")
    assert not session.wait(0.05)
    other = session_on("default")
    other.run(Query("DELETE FROM jobs_job"))
    assert not session.wait(0.05)  # a commit, and nothing for us

    write = "INSERT INTO outbox_message (uid, headers, body, written_at) VALUES (%s, '', '', clock_timestamp())"
    writing = threading.Timer(0.1, lambda: other.run(Query(write, (NUMBER,))))
    began = time.monotonic()
    writing.start()
    assert session.wait(10)
    assert time.monotonic() - began < 5
    assert not session.wait(0.05)  # that one is known
    writing.join()
    other.close()


@pytest.mark.sqlite
def test_a_wait_ends_when_a_descriptor_can_be_read(session: Session) -> None:
    reader, writer = os.pipe()
    session.listen("outbox_written")
    os.write(writer, b"!")
    began = time.monotonic()
    assert not session.wait(10, reader)
    assert time.monotonic() - began < 5
    os.close(reader)
    os.close(writer)


@pytest.mark.sqlite
def test_a_verb_of_several_statements_on_djangos_connection_is_one_transaction(transactional_db: None) -> None:
    connection = connections["default"]
    assert not connection.in_atomic_block
    row = SetAsideMessageFactory()
    assert ask("default", *replay([row.pk])) == [(row.uid,)]
    assert ask("default", "SELECT uid FROM outbox_message") == [(row.uid,)]
