"""Settings: documented defaults, and a wrong one is said with its name and what to write."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from jobs.conf import JobsSettings, band_of, jobs_settings
from outbox.conf import OutboxSettings, outbox_settings, read


def test_without_settings_there_are_the_documented_defaults(settings: Any) -> None:
    settings.JOBS = settings.OUTBOX = {}  # forgets what has been read; taking them away alone does not
    del settings.JOBS
    del settings.OUTBOX

    jobs, outbox = jobs_settings(), outbox_settings()

    assert (jobs.DATABASE, jobs.QUEUES, jobs.MAX_ATTEMPTS_LIMIT, jobs.MAX_DEPTH) == ("default", ("default",), 5, 100)
    assert [jobs.timeout(band) for band in ("high", "default", "low")] == [60, 300, 14_400]
    assert (jobs.BACKOFF, jobs.MAX_CRASHES, jobs.DRAIN_TIMEOUT) == ((5, 30, 120, 600), 3, 25)
    assert (jobs.WARN_PAYLOAD, jobs.MAX_PAYLOAD) == (100_000, 1_000_000)
    assert (outbox.REQUIRE_TRANSACTION, outbox.NOTIFY, outbox.poll_interval) == (False, True, 0.5)
    assert jobs.problems() == outbox.problems() == []


def test_a_site_that_does_not_notify_polls_more_often() -> None:
    assert OutboxSettings(NOTIFY=False).poll_interval == 0.1


def test_they_are_read_once_and_again_when_a_test_changes_them(settings: Any) -> None:
    assert jobs_settings() is jobs_settings()

    settings.JOBS = {"MAX_DEPTH": 7}
    settings.OUTBOX = {"BATCH": 8}

    assert (jobs_settings().MAX_DEPTH, outbox_settings().BATCH) == (7, 8)


def test_they_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        jobs_settings().MAX_DEPTH = 5  # type: ignore[misc]


def test_one_timeout_can_be_changed_alone() -> None:
    changed = JobsSettings(TIMEOUTS={"low": 5})

    assert [changed.timeout(band) for band in ("high", "default", "low")] == [60, 300, 5]


@pytest.mark.parametrize(
    ("priority", "band"),
    [(-100, "low"), (-50, "low"), (-49, "default"), (0, "default"), (49, "default"), (50, "high"), (100, "high")],
)
def test_the_band_of_a_priority(priority: int, band: str) -> None:
    assert band_of(priority) == band


@pytest.mark.parametrize("name", ["JOBS", "OUTBOX"])
@pytest.mark.parametrize("given", [[], "x", 5, None, [("NOTIFY", True)]])
def test_they_must_be_a_dict(settings: Any, name: str, given: Any) -> None:
    setattr(settings, name, given)

    with pytest.raises(ImproperlyConfigured, match=f"settings.{name} must be a dict, not {type(given).__name__}"):
        read(name, JobsSettings)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("MAX_ATTEMPT_LIMIT", "Did you mean 'MAX_ATTEMPTS_LIMIT'?"),
        ("max_depth", "Did you mean 'MAX_DEPTH'?"),
        ("QUEUE", "Did you mean 'QUEUES'?"),
        ("COLOUR", "The keys are DATABASE, QUEUES, TIMEOUTS"),
        (5, "The keys are DATABASE, QUEUES, TIMEOUTS"),
        (None, "The keys are"),
    ],
)
def test_an_unknown_key_is_said_with_the_nearest_one(settings: Any, key: Any, hint: str) -> None:
    settings.JOBS = {key: 1}

    with pytest.raises(ImproperlyConfigured) as caught:
        jobs_settings()

    assert str(caught.value).startswith(f"settings.JOBS has an unknown key {key!r}.")
    assert hint in str(caught.value)


def test_an_unknown_key_of_the_outbox(settings: Any) -> None:
    settings.OUTBOX = {"REQUIRE_TRANSACTIONS": True}

    with pytest.raises(ImproperlyConfigured, match="Did you mean 'REQUIRE_TRANSACTION'"):
        outbox_settings()


WRONG: dict[str, list[Any]] = {
    "DATABASE": [None, 5, ["default"]],
    "QUEUES": ["default", 5, None, {"default"}],
    "TIMEOUTS": [60, [60], None],
    "MAX_ATTEMPTS_LIMIT": ["5", 5.0, None, True],
    "BACKOFF": [5, "5", None, {5}],
    "BACKOFF_JITTER": ["0.2", None, True],
    "SLOTS": ["2", 2.5, True],
    "DRAIN_TIMEOUT": [timedelta(5), "25", True],
    "KEEP_SUCCEEDED": [7, "7 days"],
    "KEEP_DEAD": [7],
    "KEEP_KEYS": [7],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_value_of_the_wrong_type_is_said_with_the_right_one(settings: Any, name: str, value: Any) -> None:
    settings.JOBS = {name: value}

    with pytest.raises(ImproperlyConfigured) as caught:
        jobs_settings()

    assert str(caught.value).startswith(f"settings.JOBS[{name!r}] is {value!r}; it must be ")
    assert "typing" not in str(caught.value) and "<class" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("QUEUES", "mail", "list or tuple"),
        ("SLOTS", "2", "int or None"),
        ("KEEP_KEYS", 5, "timedelta or None"),
        ("MAX_DEPTH", "5", "int"),
        ("TIMEOUTS", 5, "dict"),
    ],
)
def test_the_right_type_is_spelled_so_that_it_can_be_written(settings: Any, name: str, value: Any, right: str) -> None:
    settings.JOBS = {name: value}

    with pytest.raises(ImproperlyConfigured) as caught:
        jobs_settings()

    said = str(caught.value).removesuffix(".").split("it must be ")[1]
    assert said.replace("[str]", "").replace("[str, ...]", "").replace("[str, float]", "") == right


@pytest.mark.parametrize(
    ("name", "value"),
    [("DRAIN_TIMEOUT", 5), ("SLOTS", None), ("QUEUES", []), ("QUEUES", ("a", "b")), ("KEEP_KEYS", None)],
)
def test_values_that_are_fine(settings: Any, name: str, value: Any) -> None:
    settings.JOBS = {name: value}

    assert getattr(jobs_settings(), name) == value
    assert jobs_settings().problems() == []


PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"QUEUES": ["two words"]}, "JOBS[\"QUEUES\"] has 'two words': a queue name is 1 to 64 letters"),
    ({"QUEUES": [""]}, "JOBS[\"QUEUES\"] has ''"),
    ({"QUEUES": [5]}, 'JOBS["QUEUES"] has 5'),
    ({"QUEUES": ["a,b"]}, "JOBS[\"QUEUES\"] has 'a,b'"),
    ({"TIMEOUTS": {"urgent": 5}}, "JOBS[\"TIMEOUTS\"] has 'urgent': the bands are high, default and low"),
    ({"TIMEOUTS": {"high": 0}}, "JOBS[\"TIMEOUTS\"]['high'] is 0: give seconds"),
    ({"TIMEOUTS": {"high": "60"}}, "JOBS[\"TIMEOUTS\"]['high'] is '60'"),
    ({"TIMEOUTS": {"high": float("nan")}}, "JOBS[\"TIMEOUTS\"]['high'] is nan"),
    ({"TIMEOUTS": {"low": 1e9}}, "at most 30 days"),
    ({"MAX_ATTEMPTS_LIMIT": 0}, 'JOBS["MAX_ATTEMPTS_LIMIT"] is 0: give a number from 1 to 1000'),
    ({"BACKOFF": []}, 'JOBS["BACKOFF"] is []'),
    ({"BACKOFF": [-1]}, 'JOBS["BACKOFF"] is [-1]'),
    ({"BACKOFF": ["5"]}, "JOBS[\"BACKOFF\"] is ['5']"),
    ({"BACKOFF_JITTER": 1.5}, 'JOBS["BACKOFF_JITTER"] is 1.5: give a number from 0 to 1'),
    ({"MAX_CRASHES": 0}, 'JOBS["MAX_CRASHES"] is 0'),
    ({"MAX_DEPTH": 0}, 'JOBS["MAX_DEPTH"] is 0'),
    ({"MAX_PAYLOAD": 5, "WARN_PAYLOAD": 5}, 'JOBS["MAX_PAYLOAD"] is 5'),
    ({"MAX_PAYLOAD": 1000}, 'JOBS["WARN_PAYLOAD"] is above JOBS["MAX_PAYLOAD"]'),
    ({"MAX_RESULT": -1}, 'JOBS["MAX_RESULT"] is -1'),
    ({"SLOTS": 0}, 'JOBS["SLOTS"] is 0'),
    ({"ASYNC_CONCURRENCY": 0}, 'JOBS["ASYNC_CONCURRENCY"] is 0'),
    ({"DRAIN_TIMEOUT": -1}, 'JOBS["DRAIN_TIMEOUT"] is -1'),
    ({"KILL_GRACE": 2.0}, 'JOBS["KILL_GRACE"] is 2.0'),
    ({"HEARTBEAT": 0}, 'JOBS["HEARTBEAT"] is 0'),
    ({"DEAD_AFTER": 5}, "one late heartbeat would take a living worker's jobs away"),
    ({"POLL_INTERVAL": 0}, 'JOBS["POLL_INTERVAL"] is 0'),
    ({"POLL_INTERVAL": float("nan")}, 'JOBS["POLL_INTERVAL"] is nan'),
    ({"CONN_MAX_AGE": -1}, 'JOBS["CONN_MAX_AGE"] is -1'),
    ({"KEEP_SUCCEEDED": timedelta(-1)}, 'JOBS["KEEP_SUCCEEDED"] is'),
    ({"KEEP_DEAD": timedelta(-1)}, 'JOBS["KEEP_DEAD"] is'),
    ({"KEEP_KEYS": timedelta(-1)}, 'JOBS["KEEP_KEYS"] is'),
    ({"KEEP_KEYS": timedelta.max}, 'JOBS["KEEP_KEYS"] is'),
]


@pytest.mark.parametrize(("given", "said"), PROBLEMS, ids=str)
def test_a_value_that_makes_no_sense_is_said(settings: Any, given: dict[str, Any], said: str) -> None:
    settings.JOBS = given

    (problem,) = jobs_settings().problems()

    assert said in problem


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"BATCH": 0}, 'OUTBOX["BATCH"] is 0: give a whole number from 1 to 10000'),
        ({"BATCH": 10_001}, 'OUTBOX["BATCH"] is 10001'),
        ({"POLL_INTERVAL": 0}, 'OUTBOX["POLL_INTERVAL"] is 0: give seconds'),
        ({"POLL_INTERVAL": 61}, 'OUTBOX["POLL_INTERVAL"] is 61'),
        ({"POLL_INTERVAL": float("nan")}, 'OUTBOX["POLL_INTERVAL"] is nan'),
        ({"POLL_INTERVAL_WITHOUT_NOTIFY": -1}, 'OUTBOX["POLL_INTERVAL_WITHOUT_NOTIFY"] is -1'),
    ],
    ids=str,
)
def test_a_value_of_the_outbox_that_makes_no_sense_is_said(settings: Any, given: dict[str, Any], said: str) -> None:
    settings.OUTBOX = given

    (problem,) = outbox_settings().problems()

    assert said in problem


@pytest.mark.parametrize("cls", [JobsSettings, OutboxSettings])
def test_every_setting_is_in_capitals_and_has_a_default(cls: Any) -> None:
    cls()

    assert all(field.name.isupper() for field in fields(cls))
