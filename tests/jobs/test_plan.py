"""`@every`: what it takes, and what it refuses where it is written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from jobs import every, plan
from jobs.errors import InvalidArguments, InvalidOption, InvalidSchedule
from tests import tasks


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> dict[str, plan.Plan]:
    known: dict[str, plan.Plan] = {}
    monkeypatch.setattr("jobs.plan.declared", known)
    return known


def test_it_gives_the_task_back_and_keeps_the_schedule(declared: dict[str, plan.Plan]) -> None:
    assert every("0 2 * * *", timezone="Europe/Paris")(tasks.noop) is tasks.noop

    made = declared["tests.tasks.noop"]
    assert (made.rhythm.cron, made.rhythm.timezone, made.missed, made.overlap) == (
        "0 2 * * *", "Europe/Paris", "once", "allow",
    )  # fmt: skip


@override_settings(TIME_ZONE="Asia/Kolkata")
def test_without_a_zone_it_is_that_of_the_site(declared: dict[str, plan.Plan]) -> None:
    every("@daily")(tasks.noop)

    assert declared["tests.tasks.noop"].rhythm.timezone == "Asia/Kolkata"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [((timedelta(minutes=3),), 180), ((), 90)],
)
def test_intervals(declared: dict[str, plan.Plan], given: tuple[Any, ...], seconds: int) -> None:
    every(*given, **({} if given else {"minutes": 1, "seconds": 30}))(tasks.noop)

    assert declared["tests.tasks.noop"].rhythm.every == timedelta(seconds=seconds)


def test_several_for_one_task(declared: dict[str, plan.Plan]) -> None:
    every("@daily", name="fr", args=[1])(every("@daily", name="us", kwargs={"n": 2})(tasks.noop))

    assert [(made.name, made.args, made.kwargs) for made in declared.values()] == [
        ("us", (), {"n": 2}), ("fr", [1], {}),
    ]  # fmt: skip
    assert len({made.id for made in declared.values()}) == 2


def test_a_second_one_without_a_name_of_its_own_is_refused() -> None:
    with pytest.raises(InvalidSchedule, match=r"two schedules are named 'tests\.tasks\.noop'"):
        every("@daily")(every("@hourly")(tasks.noop))
    every("@daily", name="x")(tasks.noop)
    with pytest.raises(InvalidSchedule, match="two schedules are named 'x'"):
        every("@daily", name="x", args=[1, 2])(tasks.add)


def test_the_digest_tells_versions_apart(declared: dict[str, plan.Plan]) -> None:
    digests = set()
    for n, options in enumerate(
        [
            {"cron": "@daily"}, {"cron": "@hourly"}, {"minutes": 5}, {"cron": "@daily", "args": [1]},
            {"cron": "@daily", "priority": "high"}, {"cron": "@daily", "missed": "all"},
            {"cron": "@daily", "overlap": "skip"}, {"cron": "@daily", "timezone": "Asia/Kolkata"},
        ]
    ):  # fmt: skip
        every(options.pop("cron", None), name=f"n{n}", **options)(tasks.noop)  # type: ignore[arg-type]
        digests.add(declared[f"n{n}"].digest)

    assert len(digests) == 8


@pytest.mark.parametrize(
    ("given", "options", "error", "words"),
    [
        ("0 25 * * *", {}, InvalidSchedule, "Bad hour"),
        ("daily", {}, InvalidSchedule, "five fields"),
        ("", {}, InvalidSchedule, "cron expression as text"),
        (5, {}, InvalidSchedule, "cron expression as text"),
        (None, {}, InvalidSchedule, "needs a cron expression"),
        ("@daily", {"minutes": 5}, InvalidSchedule, "one of the two"),
        (None, {"minutes": "5"}, InvalidSchedule, "made of numbers"),
        (None, {"days": 1e12}, InvalidSchedule, "made of numbers"),
        (None, {"seconds": 0.2}, InvalidSchedule, "too short or too long"),
        (None, {"minutes": -5}, InvalidSchedule, "too short or too long"),
        (timedelta(0), {}, InvalidSchedule, "at least a second"),
        ("@daily", {"timezone": "Europe/Pariss"}, InvalidSchedule, "not known here"),
        ("@daily", {"name": "two words"}, InvalidSchedule, "letters, digits"),
        ("@daily", {"missed": "never"}, InvalidSchedule, "'once', 'skip', 'all'"),
        ("@daily", {"overlap": "kill"}, InvalidSchedule, "'allow', 'skip', 'queue'"),
        ("@daily", {"missed_limit": 0}, InvalidSchedule, "from 1 to"),
        ("@daily", {"tick_as": "a b"}, InvalidSchedule, "name of a parameter"),
        ("@daily", {"tick_as": "n", "kwargs": {"n": 1}}, InvalidSchedule, "one of the two"),
        ("@daily", {"tick_as": "at"}, InvalidArguments, "unexpected keyword argument 'at'"),
        ("@daily", {"args": [1, 2]}, InvalidArguments, "too many positional"),
        ("@daily", {"kwargs": {"m": 1}}, InvalidArguments, "unexpected keyword"),
        ("@daily", {"args": [object()]}, InvalidArguments, "args"),
        ("@daily", {"queue_name": "nowhere"}, InvalidOption, "not declared"),
        ("@daily", {"priority": "urgent"}, InvalidOption, "priority"),
        ("@daily", {"max_attempts": 99}, InvalidOption, "max_attempts"),
        ("@daily", {"delay": -1}, InvalidOption, "delay"),
    ],
)
def test_what_cannot_be_is_refused_at_import(
    declared: dict[str, plan.Plan], given: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        every(given, **options)(tasks.noop)
    assert declared == {}


def test_the_order_of_the_decorators_is_told() -> None:
    with pytest.raises(InvalidSchedule, match="Put @every above @task"):
        every("@daily")(lambda: None)  # type: ignore[type-var]
