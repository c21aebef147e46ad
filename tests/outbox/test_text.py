"""Whatever was said, it can be stored."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from outbox.text import clean, describe
from tests.support.sql import a_cursor

any_text = st.text(st.characters(exclude_categories=()), max_size=40)


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Mumbling(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("plain", "plain"),
        ("äöü 漢字 😀", "äöü 漢字 😀"),
        ("a\x00b", "a\ufffdb"),
        ("a\ud800b\udfffc", "a\ufffdb\ufffdc"),
        ("12345678901", "123456789…"),
        ("1234567890", "1234567890"),
    ],
)
def test_cleaned_text(text: str, cleaned: str) -> None:
    assert clean(text, 10) == cleaned


@pytest.mark.django_db
@examples(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=any_text, limit=st.integers(1, 50))
def test_any_text_can_be_stored_once_it_is_clean(text: str, limit: int) -> None:
    cleaned = clean(text, limit)

    with a_cursor() as cursor:
        cursor.execute("SELECT %s::text", [cleaned])
        assert cursor.fetchone() == (cleaned,)
    assert len(cleaned) <= limit


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no"), "ValueError: no"),
        (ValueError(), "ValueError"),
        (KeyError("a"), "KeyError: 'a'"),
        (psycopg.OperationalError("gone"), "psycopg.OperationalError: gone"),
        (Speechless(), f"{__name__}.Speechless: (its message could not be read)"),
        (Mumbling(), f"{__name__}.Mumbling: (its message could not be read)"),
        (ValueError("a\x00\ud800"), "ValueError: a\ufffd\ufffd"),
    ],
)
def test_an_error_described(error: Exception, said: str) -> None:
    assert describe(error) == said


def test_a_long_error_is_cut() -> None:
    said = describe(ValueError("x" * 1_000_000))

    assert len(said) == 2000
    assert said.endswith("x…")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r", "\u2028", "\x0b"])
def test_an_error_is_described_in_one_line_so_that_it_cannot_pass_for_another_line_of_a_log(newline: str) -> None:
    error = ValueError(f"no{newline}2026-01-01 INFO job 5 succeeded")

    assert len(describe(error).splitlines()) == 1
