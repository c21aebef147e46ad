"""The release that is being replaced in a rolling deploy: the code as it was before the newest migration."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.processes import ROOT


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def before() -> str:
    """The commit before the one that added the newest migration; empty where there is no such history.

    Where an existing migration was changed since, which is done only before a first release, nothing older fits: then
    it is that change, and the two releases have one schema.
    """
    newest = git("rev-list", "-1", "--first-parent", "HEAD", "--", "jobs/migrations", "outbox/migrations")
    former = git("rev-parse", "--verify", "--quiet", f"{newest}^1") if newest else ""
    return former if former and migrations(former) <= migrations("HEAD") else newest


def migrations(commit: str) -> set[str]:
    """The migrations of a commit, each with its content's hash."""
    listing = git("ls-tree", "-r", commit, "--", "jobs/migrations", "outbox/migrations").splitlines()
    return {line for line in listing if line.endswith(".py")}


def unpack(commit: str, folder: Path) -> Path:
    """Its files in a folder of their own."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder
