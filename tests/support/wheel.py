"""The package as users get it: built, and installed into an empty environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None, status: int = 0) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def build(folder: Path) -> Path:
    """The wheel of this tree, in `folder`."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.whl"))


def installed(wheel: Path, folder: Path, *, extra: str = "[binary]") -> Path:
    """An empty environment with the wheel in it; its python."""
    uv = shutil.which("uv")
    python = folder / "venv" / "bin" / "python"
    if uv:
        run(uv, "venv", "-q", "--python", sys.executable, folder / "venv", cwd=folder)
        run(uv, "pip", "install", "-q", "--python", python, f"{wheel}{extra}", cwd=folder)
    else:
        run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
        run(python, "-m", "pip", "install", "-q", f"{wheel}{extra}", cwd=folder)
    return python
