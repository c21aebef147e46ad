"""A file that tasks append to: evidence that no table and no transaction can take back."""

from __future__ import annotations

import os
from pathlib import Path


class SideFile:
    """Lines written by tasks, in the order of their writing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def count(self, line: str) -> int:
        return self.lines().count(line)


def append(line: str) -> None:
    """Called in tasks: one write, so that lines of several processes do not mix."""
    fd = os.open(os.environ["SIDE_FILE"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)
