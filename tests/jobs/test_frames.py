"""Tracebacks as text: the application's function that a failure is known by, and what to fold away."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest

from jobs.execute import execute, traceback_of
from jobs.frames import folds, short, top_frame
from jobs.outcome import Outcome
from jobs.redact import HIDDEN, is_secret, redacted, redacted_call, restored
from tests.support.floor import DEFAULTS, a_claimed, a_task

LIBRARY = "/srv/.venv/lib/python3.13/site-packages/httpx/_client.py"

TEXT = f"""Traceback (most recent call last):
  File "/srv/shop/tasks.py", line 88, in confirm
    ask(order)
  File "/srv/shop/supplier.py", line 12, in ask
    http.post(url)
  File "{LIBRARY}", line 1144, in post
    return self.request()
           ^^^^^^^^^^^^^^
  File "{LIBRARY}", line 825, in request
    raise Timeout
httpx.Timeout: no answer
"""


def parse(text: str) -> object:
    return json.loads(text)


def test_the_frame_is_the_last_one_of_the_application() -> None:
    assert top_frame(TEXT) == "/srv/shop/supplier.py in ask"


def test_a_real_failure_is_known_by_its_function_and_not_by_its_line() -> None:
    def fail() -> Outcome:
        return execute(a_claimed(args=["{"]), a_task(parse), DEFAULTS, 0.0)

    frames = {top_frame(fail().traceback) for _ in range(2)}

    assert frames == {"tests/jobs/test_frames.py in parse"}


def test_of_a_chain_the_last_error_counts() -> None:
    def broken() -> None:
        try:
            parse("{")
        except ValueError as error:
            raise RuntimeError("no") from error

    with pytest.raises(RuntimeError) as caught:
        broken()

    assert top_frame(traceback_of(caught.value)) == "tests/jobs/test_frames.py in broken"


@pytest.mark.parametrize("text", ["", "no traceback", 'File "', '  File "x", line 1, in \n', "x" * 100_000, "\x00"])
def test_any_text_can_be_read(text: str) -> None:
    assert isinstance(top_frame(text), str)
    assert "\n".join(fold.text for fold in folds(text)).strip("\n") == "\n".join(text.splitlines()).strip("\n")


def test_without_a_frame_of_the_application_the_last_one_is_told() -> None:
    text = f'  File "{LIBRARY}", line 3, in post\n    x\nValueError'

    assert top_frame(text).endswith("in post")
    assert [fold.folded for fold in folds(text)] == [False]


def test_frames_of_libraries_are_folded() -> None:
    found = folds(TEXT)

    assert [(fold.folded, fold.frames) for fold in found] == [(False, 2), (True, 2), (False, 0)]
    assert "^^^^" in found[1].text
    assert found[2].text == "httpx.Timeout: no answer"


def test_the_stack_of_a_killed_job_names_the_task() -> None:
    here = "".join(traceback.format_stack())

    assert top_frame(here) == "tests/jobs/test_frames.py in test_the_stack_of_a_killed_job_names_the_task"


def test_paths_are_as_python_imports_them() -> None:
    assert short(__file__) == "tests/jobs/test_frames.py"
    assert short("/nowhere/x.py") == "/nowhere/x.py"
    assert Path(short(json.__file__)).name == "__init__.py"


# Secrets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "secret"),
    [("password", True), ("userPassword", True), ("API_KEY", True), ("card", True), ("cardholder", True), ("pan", True),
     ("order", False), ("", False)],
)  # fmt: skip
def test_names_that_are_hidden(name: str, secret: bool) -> None:
    assert is_secret(name, ("pan",)) is secret


def test_secrets_are_hidden_at_any_depth_by_name_and_position() -> None:
    def pay(order: int, pan: str, *rest: str, note: object = None) -> None: ...

    task = a_task(pay, redact=("pan",))

    args, kwargs = redacted_call([1, "4111", "x"], {"note": {"list": [{"token": "t", "n": 1}]}}, task)

    assert args == [1, HIDDEN, "x"]
    assert kwargs == {"note": {"list": [{"token": HIDDEN, "n": 1}]}}
    assert redacted_call([1, "4111"], {"password": 1}, None) == ([1, "4111"], {"password": HIDDEN})


def test_what_was_hidden_comes_back_from_an_edit() -> None:
    before = {"args": [{"card": "4111", "n": 1}, "x"], "kwargs": {"token": "t"}}
    shown = redacted(before)

    assert restored(shown, before) == before
    shown["args"][0]["n"] = 2
    assert restored(shown, before)["args"][0] == {"card": "4111", "n": 2}
    assert restored({"args": [HIDDEN], "new": HIDDEN}, {"args": ["a"]}) == {"args": ["a"], "new": HIDDEN}
