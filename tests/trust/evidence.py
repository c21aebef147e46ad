"""The side file as evidence: read as it grows, and believed before any table."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple


class Line(NamedTuple):
    """One thing that was said."""

    word: str
    number: int
    job: str
    pid: int
    at: float


class Evidence:
    """Everything that tasks and producers have said so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self._file = path.open("rb")
        self._rest = b""
        self.lines: dict[str, list[Line]] = defaultdict(list)
        """The lines of each word, in their order."""

    def read(self) -> None:
        """Take in what has been written since the last time."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            word, *fields = line.decode().split()
            if len(fields) == 4:
                self.lines[word].append(Line(word, int(fields[0]), fields[1], int(fields[2]), float(fields[3])))

    def said(self, word: str) -> list[Line]:
        self.read()
        return self.lines[word]

    def count(self, word: str) -> int:
        return len(self.said(word))

    def numbers(self, word: str) -> dict[int, int]:
        """How often each number was said."""
        counts: dict[int, int] = defaultdict(int)
        for line in self.said(word):
            counts[line.number] += 1
        return counts


def say(word: str, number: int, job: object) -> None:
    """What a task or a producer does: one write, so that lines of several processes do not mix."""
    fd = os.open(os.environ["SIDE_FILE"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, f"{word} {number} {job} {os.getpid()} {time.monotonic():.6f}\n".encode())
    finally:
        os.close(fd)
