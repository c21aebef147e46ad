"""The conformance suite for task backends: ours passes all of it, on a real worker; Django's own for comparison."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

if not settings.TASKS:
    pytest.skip("Django before 6.0 without django-tasks has no tasks", allow_module_level=True)

from tests.conformance import suite
from tests.conformance.ground import telling
from tests.support.processes import Program
from tests.support.side_file import SideFile


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, side_file: SideFile) -> Any:
    monkeypatch.setenv("TELL_SIGNALS", "1")
    with telling():
        yield side_file


def test_ours_does_all_of_it(runworkers: Callable[..., Program], told: SideFile) -> None:
    runworkers("--slots", "1", jobs={"POLL_INTERVAL": 0.1})
    ground = suite.Ground("default", told)

    verdicts = {one.text: suite.judge(ground, one) for one in suite.BEHAVIOURS}

    wrong = {text: verdict.why for text, verdict in verdicts.items() if verdict.word == "no"}
    assert not wrong, "\n".join(f"{text}:\n{why}" for text, why in wrong.items())
    assert all(verdict.word == "yes" for verdict in verdicts.values())
    assert len(verdicts) > 40


@pytest.mark.parametrize("alias", ["immediate", "dummy"])
def test_the_suite_can_tell_backends_apart(alias: str, transactional_db: None, told: SideFile) -> None:
    ground = suite.Ground(alias, told, runs=alias != "dummy")

    words = {one.text: suite.judge(ground, one) for one in suite.BEHAVIOURS}

    wrong = {text: verdict.why for text, verdict in words.items() if verdict.word == "no"}
    beyond = {one.text for one in suite.BEHAVIOURS if one.topic.startswith("Transactions")}
    assert set(wrong) <= beyond, "\n".join(wrong.values())
    assert bool(wrong) is (alias == "immediate")  # it runs within `enqueue`, whatever becomes of the transaction
    assert any(verdict.word == "unasked" for verdict in words.values())


def test_the_table_in_the_documentation_is_of_this_suite_and_has_no_no_for_ours() -> None:
    said = (Path(__file__).resolve().parent.parent / "docs" / "django-tasks.md").read_text()
    rows = re.findall(r"^\| (?!\*\*|---)(.+?) \| (yes|\*\*no\*\*|) \| (yes|\*\*no\*\*|) \|", said, re.MULTILINE)

    assert [text for text, *_ in rows] == [one.text for one in suite.BEHAVIOURS]
    assert {ours for _, ours, _ in rows} == {"yes"}
