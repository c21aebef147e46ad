"""How much a slot claims at once, from what its last jobs were like."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.appetite import MOST, Appetite
from tests.support.floor import a_claimed


def hungry(**given: Any) -> int:
    return given.pop("appetite", Appetite(100)).wants(**{"waiting": 0, "free": 100, "busy_for": None, **given})


def after(*jobs: dict[str, Any]) -> Appetite:
    appetite = Appetite(100)
    appetite.had([a_claimed(**job) for job in jobs])
    return appetite


def test_it_begins_small_and_grows_with_the_pace() -> None:
    appetite = after({})
    wanted = [hungry(appetite=appetite)]
    for _ in range(5):
        appetite.paced(1000, 0.01)
        wanted.append(hungry(appetite=appetite))

    assert wanted == [4, 16, 64, 256, MOST, MOST]


def test_slow_jobs_are_claimed_one_by_one_and_never_beside_one_that_runs() -> None:
    appetite = after({})
    appetite.paced(2, 1.0)

    assert hungry(appetite=appetite) == 1
    assert hungry(appetite=appetite, busy_for=0.001) == 0


def test_what_waits_is_enough_until_half_of_it_is_gone() -> None:
    appetite = after({})

    assert [hungry(appetite=appetite, waiting=n) for n in range(5)] == [4, 3, 2, 0, 0]


def test_before_anything_is_known_all_may_be_async() -> None:
    assert hungry(free=3) == 3
    assert hungry(free=0) == 0


def test_async_jobs_are_claimed_for_every_free_place() -> None:
    appetite = after({"task": "tests.tasks.async_wait"})

    assert hungry(appetite=appetite, free=100) == 100
    assert hungry(appetite=appetite, free=60) == 60
    assert hungry(appetite=appetite, free=49, waiting=1) == 0  # a claim for a few places is not worth it
    assert hungry(appetite=appetite, free=1) == 1  # unless nothing waits


@pytest.mark.parametrize("given", [{"crashes": 1}, {"at_most_once": True}])
def test_what_has_to_be_alone_is_named_and_so_are_the_next_ones(given: dict[str, Any]) -> None:
    appetite = Appetite(100)
    jobs = [a_claimed(), a_claimed(**given), a_claimed()]

    assert appetite.had(jobs) is jobs[1]
    assert appetite.alone
    assert (hungry(appetite=appetite), hungry(appetite=appetite, waiting=1)) == (1, 0)
    assert appetite.had([a_claimed()]) is None
    assert not appetite.alone


def test_a_task_that_is_not_known_is_passed_over_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    appetite = after({"task": "gone.b"}, {"task": "gone.a"}, {})

    assert appetite.passed_over() == ["gone.a", "gone.b"]
    monkeypatch.setattr("jobs.appetite.time.monotonic", lambda: 1e12)
    assert appetite.passed_over() == []


@pytest.mark.parametrize(("seconds", "expected"), [(1.0, []), (0.001, ["gone.a"])])
def test_nothing_is_passed_over_any_more_where_that_takes_long(seconds: float, expected: list[str]) -> None:
    appetite = after({"task": "gone.a"})

    appetite.passed(appetite.passed_over(), seconds)

    assert appetite.passed_over() == expected
