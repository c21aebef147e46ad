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


def build_source(folder: Path) -> Path:
    """The source distribution of this tree, in `folder`."""
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.tar.gz"))


def build_from(source: Path, folder: Path) -> Path:
    """The wheel of a source distribution, as an installer makes it."""
    run(sys.executable, "-c", UNPACK, source, folder, cwd=folder)
    (tree,) = (path for path in folder.iterdir() if path.is_dir())
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, tree, cwd=folder)
    return next(folder.glob("*.whl"))


UNPACK = "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter='data')"


def installed(
    wheel: Path, folder: Path, *others: str, extra: str = "[binary]", interpreter: str = sys.executable
) -> Path:
    """An empty environment with the wheel in it; its python."""
    uv = shutil.which("uv")
    python = folder / "venv" / "bin" / "python"
    if uv:
        run(uv, "venv", "-q", "--python", interpreter, folder / "venv", cwd=folder)
        run(uv, "pip", "install", "-q", "--python", python, f"{wheel}{extra}", *others, cwd=folder)
    else:
        run(interpreter, "-m", "venv", folder / "venv", cwd=folder)
        run(python, "-m", "pip", "install", "-q", f"{wheel}{extra}", *others, cwd=folder)
    return python


def found(python: str) -> str | None:
    """An interpreter of that version on this machine, never one to be fetched."""
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    if uv := shutil.which("uv"):
        asked = [uv, "python", "find", "--no-python-downloads", "--no-project", python]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None
    return shutil.which(f"python{python}")
