"""The one loop: it steps, waits, survives every error, and ends when it is told to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import psycopg
import pytest
from django.db import OperationalError

from outbox import loop


class Film:
    """A loop that runs through a list of what each step does, and keeps what happened."""

    def __init__(self, *scenes: float | BaseException | Callable[[], float]) -> None:
        self.scenes = list(scenes)
        self.waited: list[float] = []
        self.dropped = 0

    def step(self) -> float:
        scene = self.scenes.pop(0)
        if isinstance(scene, BaseException):
            raise scene
        return scene() if callable(scene) else scene

    def drop(self) -> None:
        self.dropped += 1

    def run(self) -> None:
        loop.run(
            "film",
            self.step,
            wait=self.waited.append,
            stopping=lambda: not self.scenes,
            on_error=self.drop,
        )


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No real backoff; what it was asked for."""
    asked: list[int] = []

    def none(failures: int) -> float:
        asked.append(failures)
        return 0.0

    monkeypatch.setattr(loop, "backoff", none)
    return asked


def test_it_waits_as_long_as_the_step_says_and_not_when_there_is_more() -> None:
    film = Film(0.0, 0.5, 0.0, 2.0, 0.0)

    film.run()

    assert film.waited == [0.5, 2.0]


def test_it_does_not_wait_when_it_is_to_end() -> None:
    film = Film(3600.0)

    film.run()

    assert film.waited == []


def test_told_to_end_at_once_it_does_nothing() -> None:
    film = Film()

    film.run()

    assert film.waited == []


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (psycopg.OperationalError("the server is gone\n"), logging.WARNING),
        (OperationalError("the server is gone"), logging.WARNING),
        (ValueError("a bug"), logging.ERROR),
        (MemoryError(), logging.ERROR),
        (RecursionError(), logging.ERROR),
    ],
)
def test_no_error_ends_it(error: Exception, level: int, caplog: pytest.LogCaptureFixture) -> None:
    film = Film(error, 0.5, 0.0)

    film.run()

    assert film.waited == [0.5]
    assert film.dropped == 1
    (record,) = caplog.records
    assert record.levelno == level
    assert record.getMessage().startswith("film: ")
    assert (record.exc_info is not None) == (level == logging.ERROR)


def test_an_error_of_the_wait_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    film = Film(0.5, 0.5, 0.0)

    def wait(seconds: float) -> None:
        film.waited.append(seconds)
        raise psycopg.OperationalError("cut while listening")

    loop.run("film", film.step, wait=wait, stopping=lambda: not film.scenes)

    assert film.waited == [0.5, 0.5]
    assert "cut while listening" in caplog.text


def test_it_backs_off_further_with_each_failure_in_a_row_and_anew_after_a_success(impatient: list[int]) -> None:
    Film(*[ValueError()] * 3, 0.0, ValueError(), 0.0).run()

    assert impatient == [1, 2, 3, 1]


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(1)])
def test_what_ends_a_process_ends_it(end: BaseException) -> None:
    with pytest.raises(type(end)):
        Film(end, 0.0).run()


def test_it_ends_in_the_middle_of_a_long_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "backoff", lambda failures: 3600.0)
    until = time.monotonic() + 0.15

    def step() -> float:
        raise ValueError

    loop.run("film", step, wait=lambda seconds: None, stopping=lambda: time.monotonic() > until)

    assert time.monotonic() < until + 5
