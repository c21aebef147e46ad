"""What a type checker says of a call: wrong arguments are found where they are written, right ones pass."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CALLS = Path(__file__).resolve().parent / "types" / "calls.py"
ROOT = CALLS.parent.parent.parent


def wrong() -> set[int]:
    lines = CALLS.read_text().splitlines()
    return {n for n, line in enumerate(lines, 1) if line.endswith("# wrong")}


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is in the group lint: --group lint")


@needs("mypy")
def test_mypy_finds_the_wrong_calls_and_no_others() -> None:
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", "--no-pretty", str(CALLS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    found = {int(n) for n in re.findall(r"calls\.py:(\d+): error", done.stdout)}
    assert found == wrong(), done.stdout + done.stderr
    assert len(found) >= 30


@needs("basedpyright")
def test_pyright_finds_the_wrong_calls_and_no_others(tmp_path: Path) -> None:
    project = tmp_path / "pyrightconfig.json"
    project.write_text(json.dumps({"include": [str(CALLS)], "extraPaths": [str(ROOT)], "typeCheckingMode": "standard"}))
    command = [
        sys.executable, "-m", "basedpyright", "-p", str(project), "--pythonpath", sys.executable, "--outputjson",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    said = json.loads(done.stdout)
    found = {one["range"]["start"]["line"] + 1 for one in said["generalDiagnostics"] if one["severity"] == "error"}
    assert said["summary"]["filesAnalyzed"] == 1
    assert found == wrong(), done.stdout
