"""What the supervisor learns about a dead slot, and what the keeper writes of it.

The supervisor has no database connection; it sends verdicts to the keeper over a socket, keeps them until the keeper
says the commit is done, and sends them again to a new keeper. Writing one twice is harmless: it is fenced.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

Fate = str
"""A value of `jobs.outcome.Happened`."""


@dataclass(frozen=True)
class Fated:
    """One job that was on the board when its slot died."""

    job: str
    lease: int
    claimer: int
    happened: Fate
    ran: float
    """Seconds from its start to the verdict."""
    error: str = ""
    stack: str = ""


@dataclass(frozen=True)
class Verdict:
    """One dead slot."""

    number: int
    """Counts the verdicts of this supervisor; what is acknowledged."""
    session: str
    """application_name of the slot's database connections, which are to be ended."""
    jobs: list[Fated]


class Channel:
    """Lines of JSON over one end of a socket pair, never blocking."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._out = b""
        self._in = b""

    def fileno(self) -> int:
        return self._end.fileno()

    def close(self) -> None:
        self._end.close()

    def send(self, message: dict[str, Any]) -> None:
        self._out += json.dumps(message).encode() + b"\n"
        self.flush()

    def flush(self) -> bool:
        """Push out what is waiting; whether all of it went."""
        try:
            while self._out:
                self._out = self._out[self._end.send(self._out) :]
        except (BlockingIOError, OSError):
            return False
        return True

    def receive(self) -> Iterator[dict[str, Any]]:
        """What has come in, whole lines only."""
        try:
            while chunk := self._end.recv(65536):
                self._in += chunk
        except (BlockingIOError, OSError):
            pass
        *lines, self._in = self._in.split(b"\n")
        for line in lines:
            yield json.loads(line)


def to_message(verdict: Verdict) -> dict[str, Any]:
    return asdict(verdict)


def from_message(message: dict[str, Any]) -> Verdict:
    return Verdict(message["number"], message["session"], [Fated(**job) for job in message["jobs"]])
