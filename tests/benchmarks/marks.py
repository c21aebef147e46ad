"""The work of every benchmark's job: append its index and the time to a file of the process.

The same call in our tasks and in the raw loops, so its cost is in both halves. The files are also the evidence of what
ran how often, which no table and no transaction can take back.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import NamedTuple

FOLDER = "BENCHMARK_MARKS"
"""Names the folder in the environment."""

ENTRY = struct.Struct("<Qd")

NAP = 0.01
"""Seconds that an async job sleeps."""

_files: dict[int, int] = {}


class Mark(NamedTuple):
    """A job began."""

    index: int
    at: float
    """Seconds since the epoch: processes have to be compared."""


def mark(index: int) -> None:
    at = time.time()
    pid = os.getpid()
    file = _files.get(pid)
    if file is None:  # by pid: a fork must not write to its parent's
        path = Path(os.environ[FOLDER]) / f"{pid}.marks"
        file = _files[pid] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, ENTRY.pack(index, at))


def count(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.marks")) // ENTRY.size


class Tail:
    """What is marked from now on. It reads nothing twice: who watches should leave the processor to the watched."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = {path: path.stat().st_size // ENTRY.size for path in folder.glob("*.marks")}

    def read(self) -> list[Mark]:
        found: list[Mark] = []
        for path in self._folder.glob("*.marks"):
            seen = self._seen.get(path, 0)
            with path.open("rb") as file:
                file.seek(seen * ENTRY.size)
                content = file.read()
            whole = len(content) // ENTRY.size
            found += map(Mark._make, ENTRY.iter_unpack(content[: whole * ENTRY.size]))
            self._seen[path] = seen + whole
        return found


def read(folder: Path) -> list[Mark]:
    """Everything that began, eldest first."""
    found = [Mark._make(entry) for path in folder.glob("*.marks") for entry in ENTRY.iter_unpack(path.read_bytes())]
    return sorted(found, key=lambda mark: mark.at)
