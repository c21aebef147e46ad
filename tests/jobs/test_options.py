"""`using`: a copy with other options, each checked where it is written."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import TextChoices

from jobs.errors import InvalidOption
from jobs.options import UNSET
from jobs.tasks import Task
from tests import tasks
from tests.support.values import named

LATER = datetime(2999, 1, 1, tzinfo=UTC)


class Number(enum.IntEnum):
    FIVE = 5


class Name(TextChoices):
    MAIL = "mail"


def test_it_gives_a_copy_and_leaves_the_task_alone() -> None:
    changed = tasks.noop.using(
        priority="high", max_attempts=3, queue_name="mail", source_name="shop", idempotency_key="k", database="other",
        delay=1,
    )  # fmt: skip

    assert changed is not tasks.noop
    assert (changed.priority, changed.max_attempts, changed.queue_name, changed.source_name) == (50, 3, "mail", "shop")
    assert (changed.idempotency_key, changed.database, changed.delay) == ("k", "other", 60.0)
    assert (tasks.noop.priority, tasks.noop.max_attempts, tasks.noop.queue_name) == (0, 1, "default")
    assert (tasks.noop.idempotency_key, tasks.noop.database, tasks.noop.delay) == (None, None, 0.0)


def test_what_is_not_given_stays() -> None:
    first = tasks.fail_always.using(priority=7, delay=1)

    second = first.using(queue_name="mail")

    assert (second.priority, second.delay, second.queue_name) == (7, 60.0, "mail")
    assert (second.func, second.name, second.max_attempts) == (first.func, first.name, 5)
    assert second.backoff == first.backoff


def test_nothing_given_is_the_same_task() -> None:
    assert tasks.noop.using() == tasks.noop


def test_a_copy_has_headers_of_its_own() -> None:
    tasks.noop.fixed_headers  # noqa: B018  made and kept

    assert '"queue":"mail"' in tasks.noop.using(queue_name="mail").fixed_headers


def test_a_task_cannot_be_changed_in_place() -> None:
    with pytest.raises(AttributeError):
        tasks.noop.priority = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "number"),
    [("low", -50), ("default", 0), ("normal", 0), ("high", 50), (-100, -100), (100, 100), (0, 0), (7, 7)],
)
def test_priorities(given: str | int, number: int) -> None:
    assert tasks.noop.using(priority=given).priority == number


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (0, 0.0),
        (5, 300.0),
        (0.5, 30.0),
        (1 / 60, 1.0),
        (timedelta(seconds=90), 90.0),
        (timedelta(0), 0.0),
        (timedelta(milliseconds=1), 0.001),
        (-0.0, 0.0),
        (timedelta(days=3660), 3660 * 86_400.0),
    ],
)
def test_a_bare_delay_is_minutes(given: float | timedelta, seconds: float) -> None:
    assert tasks.noop.using(delay=given).delay == pytest.approx(seconds, abs=1e-9)


def test_delay_and_run_after_replace_one_another() -> None:
    """Row P15: an absolute time besides a delay."""
    delayed = tasks.noop.using(delay=5)
    timed = delayed.using(run_after=LATER)

    assert (timed.delay, timed.run_after) == (0.0, LATER)
    assert (timed.using(delay=1).delay, timed.using(delay=1).run_after) == (60.0, None)
    assert (timed.using(run_after=None).delay, timed.using(run_after=None).run_after) == (0.0, None)


@pytest.mark.parametrize("delay", [5, 0, timedelta(0)])
def test_delay_and_run_after_together_are_refused(delay: Any) -> None:
    with pytest.raises(InvalidOption, match="give one of the two"):
        tasks.noop.using(delay=delay, run_after=LATER)


def test_none_takes_a_key_and_a_database_away_again() -> None:
    named = tasks.noop.using(idempotency_key="k", database="other")

    bare = named.using(idempotency_key=None, database=None)

    assert (bare.idempotency_key, bare.database) == (None, None)


@pytest.mark.parametrize("offset", [0, 5.5, -12, 14])
def test_a_time_in_any_zone_is_the_same_time(offset: float) -> None:
    given = datetime(2999, 1, 1, 12, tzinfo=timezone(timedelta(hours=offset)))

    assert tasks.noop.using(run_after=given).run_after == given


NO_NUMBER = ["5", None, b"5", [], {}, object(), Decimal(5), True, float("nan"), float("inf"), -float("inf")]
NO_NAME = [None, 5, b"mail", [], {}, object(), "", "two words", "ä", "a\n", "a\x00", "q" * 65, "<b>", "a:b", "a,b"]


def refused(**options: Any) -> Any:
    (option,) = options
    return [pytest.param({option: value}, id=f"{option}={named(value)[:30]}") for value in options[option]]


@pytest.mark.parametrize(
    "options",
    [
        *refused(delay=[*NO_NUMBER, -1, -0.001, timedelta(-1), 10**9, 1e300, 10**400, timedelta.max]),
        *refused(
            run_after=[
                5, "2999-01-01", date(2999, 1, 1), datetime(2999, 1, 1), timedelta(1), [], object(),
                datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
                datetime.min.replace(tzinfo=timezone(timedelta(hours=12))),
            ]
        ),
        *refused(priority=["urgent", "HIGH", "", 101, -101, 1.0, None, True, [], {}, b"high", Number.FIVE, Decimal(1)]),
        *refused(max_attempts=[*NO_NUMBER, 0, -1, 11, 1.0, 10**30, Number.FIVE]),
        *refused(queue_name=[*NO_NAME, "undeclared"]),
        *refused(source_name=[None, 5, b"a", [], object(), "two words", "ä", "a\n", "s" * 201, "<script>"]),
        *refused(idempotency_key=["", "k" * 201, 5, b"k", [], object(), "a\x00b", "a\ud800", ("a",)]),
        *refused(database=["nowhere", "", 5, [], {}, object()]),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_taken_is_refused_and_named(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(options))):
        tasks.noop.using(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"priority": "urgent"}, 'give "low", "default", "high" or a whole number -100 to 100'),
        ({"delay": -1}, "give 0 or more minutes"),
        ({"run_after": datetime(2999, 1, 1)}, "has no time zone: give an aware datetime"),
        ({"run_after": 5}, "for a wait from now, use delay="),
        ({"queue_name": "undeclared"}, r'JOBS\["QUEUES"\] has \'default\', \'mail\', \'reports\': add it there'),
        ({"max_attempts": 11}, r'from 1 to 10 \(JOBS\["MAX_ATTEMPTS_LIMIT"\] raises the cap\)'),
        ({"source_name": "two words"}, "at most 200 letters, digits"),
        ({"idempotency_key": ""}, "give 1 to 200 characters"),
        ({"database": "nowhere"}, r"settings.DATABASES has 'default', 'other'"),
    ],
)
def test_the_refusal_says_what_to_write(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        tasks.noop.using(**options)


def test_the_cap_of_attempts_is_five_unless_the_site_raises_it(settings: Any) -> None:
    settings.JOBS = {}
    assert tasks.noop.using(max_attempts=5).max_attempts == 5
    with pytest.raises(InvalidOption, match="from 1 to 5"):
        tasks.noop.using(max_attempts=6)

    settings.JOBS = {"MAX_ATTEMPTS_LIMIT": 50}
    assert tasks.noop.using(max_attempts=50).max_attempts == 50


def test_a_site_without_declared_queues_takes_any_name(settings: Any) -> None:
    settings.JOBS = {"QUEUES": []}

    assert tasks.noop.using(queue_name="a/b-c.d_5").queue_name == "a/b-c.d_5"
    with pytest.raises(InvalidOption, match="queue_name"):
        tasks.noop.using(queue_name="two words")


@pytest.mark.parametrize("name", ["", "a", "check/out-5.b_c", "s" * 200])
def test_source_names(name: str) -> None:
    assert tasks.noop.using(source_name=name).source_name == name


def test_text_of_a_choice_is_stored_as_the_text_it_is() -> None:
    made: Task[Any, Any] = tasks.noop.using(queue_name=Name.MAIL, source_name=Name.MAIL)

    assert '"queue":"mail"' in made.fixed_headers
    assert '"source_name":"mail"' in made.fixed_headers


def test_unset_says_what_it_is() -> None:
    assert repr(UNSET) == "UNSET"
