"""Real `manage.py` processes on the test database, and a look at the process table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from django.conf import settings
from django.db import connections

from jobs import child
from tests.support.wait import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent


def database_url(alias: str = "default") -> str:
    """The URL of the test database, for other processes."""
    if connections[alias].vendor == "sqlite":
        return f"sqlite:///{connections[alias].settings_dict['NAME']}"
    url = urlsplit(os.environ["DATABASE_URL"])
    return urlunsplit(url._replace(path=f"/{quote(connections[alias].settings_dict['NAME'])}"))


def environment(jobs: dict[str, Any] | None = None, outbox: dict[str, Any] | None = None) -> dict[str, str]:
    """What a child process of a test finds in its environment."""
    return {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_JOBS": json.dumps({**settings.JOBS, **(jobs or {})}),
        "TEST_OUTBOX": json.dumps({**settings.OUTBOX, **(outbox or {})}),
        "PYTHONUNBUFFERED": "1",
    }


class Program:
    """One running `manage.py` command; what it prints goes to a file."""

    def __init__(
        self,
        *arguments: str,
        folder: Path,
        jobs: dict[str, Any] | None = None,
        outbox: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.log = folder / f"{arguments[0]}-{len(list(folder.glob('*.log')))}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env={**environment(jobs, outbox), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self.process.pid

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self, *, within: float = 30.0) -> int:
        """Wait for the end; the exit status."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within:g} s; it said:\n{self.said()}") from None

    def terminate(self, *, within: float = 30.0) -> int:
        self.signal(signal.SIGTERM)
        return self.ended(within=within)

    def kill(self) -> None:
        """Kill it and everything below."""
        if self.process.poll() is None:
            child.kill_tree(self.pid)
            self.process.wait()

    def children(self) -> list[int]:
        return [pid for pid, parent, _ in child.process_table() if parent == self.pid]

    def child(self, name: str) -> int:
        """The pid of a child by its part: keeper, relay, slot-0, slot-1 ..."""
        return wait_until(lambda: named(self.pid).get(name), what=f"{name} of {self.pid}")


def named(supervisor: int) -> dict[str, int]:
    """The children of a supervisor by the title they give themselves."""
    found = {}
    for pid in children_of(supervisor):
        with suppress(OSError, IndexError):
            before, _, after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
            if after.split()[0] not in "ZX" and (title := before.partition("(")[2].removeprefix("jobs ")):
                found[title] = pid
    return found


def children_of(pid: int) -> list[int]:
    """Its children: by the kernel's own list where there is one, since to walk all processes takes long."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return [one for one, parent, _ in child.process_table() if parent == pid]


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("jobs ")
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether the process exists and is not just waiting to be reaped."""
    return any(pid == known for known, _, _ in child.process_table())
