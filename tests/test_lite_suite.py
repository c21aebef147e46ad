"""A part of the suite on SQLite, in the test command that plays on PostgreSQL: what is broken there is seen at once.

All of it: `DATABASE_URL=sqlite:////tmp/x.db uv run pytest`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

SOME = [
    "tests/outbox/test_lite.py",
    "tests/jobs/test_lite.py",
    "tests/process/test_lite.py",
]


@pytest.mark.kills
@pytest.mark.postgresql("the suite that plays on SQLite anyway needs no part of itself")
def test_some_of_the_suite_on_sqlite(tmp_path: Path) -> None:
    played = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-k", "not six_processes", *SOME],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/x.db"},
        capture_output=True,
        text=True,
        timeout=150,
    )

    assert played.returncode == 0, played.stdout[-5000:]
    assert "skipped" not in played.stdout.splitlines()[-1] or int(played.stdout.split(" passed")[0].split()[-1]) > 50
