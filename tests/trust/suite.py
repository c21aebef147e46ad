"""Tests of the ordinary suite as a row's material: run in a process of their own, and counted from what pytest says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

from tests.support.processes import ROOT


@dataclass
class Played:
    """What came of it."""

    passed: int
    failed: int
    """With errors, and 1 more where pytest itself could not run."""
    skipped: int
    examples: int
    """That property tests have drawn and that passed."""
    names: list[str] = field(default_factory=list)
    """Of what failed."""


def play(*arguments: str, env: dict[str, str] | None = None) -> Played:
    """Run pytest with these arguments. `env` is added to an environment without what belongs to the row."""
    bare = {key: value for key, value in os.environ.items() if key not in ("DJANGO_SETTINGS_MODULE", "SIDE_FILE")}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**bare, **(env or {})}, capture_output=True, text=True, check=False)
    last = done.stdout[-400:]
    counts = {word.rstrip("s"): int(n) for n, word in re.findall(r"(\d+) (passed|failed|errors?|skipped)", last)}
    return Played(
        passed=counts.get("passed", 0),
        failed=counts.get("failed", 0) + counts.get("error", 0) + (done.returncode not in (0, 1)),
        skipped=counts.get("skipped", 0),
        examples=sum(int(n) for n in re.findall(r"^ +- (\d+) passing, \d+ failing", done.stdout, re.MULTILINE)),
        names=re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE),
    )
