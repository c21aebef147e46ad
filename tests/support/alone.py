"""Run a few lines in a Python of their own: what forks, dies or adopts orphans must not do so in the tests' process."""

from __future__ import annotations

import json
import subprocess
import sys
from textwrap import dedent
from typing import Any

from tests.support.processes import ROOT


def run_alone(code: str, *, within: float = 20.0) -> Any:
    """What the code prints in its last line, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
