"""The trust scorecard in small: one test a row, by the very command that runs it in full.

`uv run python -m tests.trust R01` is the full size. What a row needs of the machine and does not find it says itself,
with how to get it; that is the only thing that is skipped here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT
from tests.trust.finding import Finding
from tests.trust.rows import ROWS

pytestmark = [pytest.mark.kills, pytest.mark.slow]

SMALL = {
    "R01": 0.1,
    "R02": 0.02,
    "R04": 0.02,
    "R05": 0.02,
    "R07": 0.01,
    "R10": 0.01,
    "R11": 0.02,
    "R12": 0.02,
    "R14": 0.02,
    "R15": 0.05,
    "R21": 0.06,
    "R24": 0.03,
    "R25": 0.02,
    "R27": 0.01,
    "R31": 0.01,
}
"""R01 is 10,000 jobs and 100 kills, which is what `python -m tests.chaos` plays by itself. Left out: R08, R09 and R30,
whose tests are run here anyway; R03, of which tests/process/test_crashes.py has both halves, and R22, of which
tests/process/test_deploys.py has the worker's; R06 and R28, which crash servers of their own for a minute; R16 to R20
and R26, which say something only after minutes on a quiet machine; R13, the suite through PgBouncer, which takes two
minutes and has a step of its own in .ci/run."""


def play(row: str) -> subprocess.CompletedProcess[str] | str:
    """Run a row; why it cannot be run here, where it cannot."""
    if missing := ROWS[row].missing():
        return missing
    return subprocess.run(
        [sys.executable, "-m", "tests.trust", row, "--scale", str(SMALL[row]), "--json"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[subprocess.CompletedProcess[str] | str]]]:
    """All rows that were asked for, two at a time: each has a database of its own, and most of it is waiting."""
    asked = {item.callspec.params["row"] for item in request.session.items if is_row(item)}
    with ThreadPoolExecutor(2) as pool:
        yield {row: pool.submit(play, row) for row in SMALL if row in asked}


def is_row(item: Any) -> bool:
    return item.path == Path(__file__) and "row" in getattr(getattr(item, "callspec", None), "params", {})


@pytest.mark.parametrize("row", SMALL)
def test_a_row_of_the_scorecard_is_met(
    row: str, played: dict[str, Future[subprocess.CompletedProcess[str] | str]]
) -> None:
    done = played[row].result()
    if isinstance(done, str):
        pytest.skip(done)
    figures = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}

    if figures.get("skipped"):
        pytest.skip(figures["skipped"])
    assert done.returncode == 0, f"{json.dumps(figures, indent=1)}\n{done.stderr[-3000:]}"


KEPT = {
    "jobs": 9, "kills": 3, "stops": 1, "backends_killed": 1, "restarts": 1, "lost": 0, "atomic_duplicated": 0,
    "atomic_missing": 0, "at_most_once_repeated": 0, "stale_writes": 0, "external_duplicates": 2,
    "in_flight_at_kills": 2, "stuck": 0, "seconds": 1.5, "seed": 7,
}  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "kept"),
    [
        ({}, True),
        *(
            ({name: 1}, False)
            for name in (
                "lost",
                "atomic_duplicated",
                "atomic_missing",
                "at_most_once_repeated",
                "stale_writes",
                "stuck",
            )
        ),
        ({"external_duplicates": 3}, False),
    ],
    ids=str,
)
def test_a_soak_with_one_broken_promise_is_no_good(wrong: dict[str, int], kept: bool) -> None:
    found = Finding(**{**KEPT, **wrong})

    assert found.kept is kept
    assert found.said().keys() == KEPT.keys()


def test_every_row_has_its_module() -> None:
    assert all((ROOT / f"tests/trust/{row.module}.py").exists() for row in ROWS.values())
