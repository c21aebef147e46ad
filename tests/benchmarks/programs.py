"""Processes as users start them, and what they use of the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jobs import child
from tests.benchmarks import marks
from tests.benchmarks.measures import Wrong

ROOT = Path(__file__).resolve().parent.parent.parent

PATIENCE = 300.0
"""Seconds after which a program that has not ended is taken for stuck."""

TICKS = os.sysconf("SC_CLK_TCK")


class Program:
    """One running program; its output and its marks lie in a folder."""

    def __init__(self, command: list[str], url: str, folder: Path, environment: Mapping[str, str]) -> None:
        number = len(list(folder.glob("*.log")))
        self._log, self._errors = folder / f"{number}.out", folder / f"{number}.log"
        with self._log.open("wb") as out, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={
                    **os.environ,
                    "DATABASE_URL": url,
                    "DJANGO_SETTINGS_MODULE": "tests.settings",
                    marks.FOLDER: str(folder),
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
        self.pid = self.process.pid

    def ended(self, *, within: float = PATIENCE) -> str:
        """Wait for its end; what it printed. Raises Wrong when it failed."""
        try:
            status = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{self.process.args} did not end within {within:g} s:\n{self._said()}") from None
        if status:
            raise Wrong(f"{self.process.args} ended with {status}:\n{self._said()}")
        return self._log.read_text()

    def answer(self, *, within: float = PATIENCE) -> Any:
        """What it printed at its end, read as JSON."""
        return json.loads(self.ended(within=within))

    def terminate(self, *, within: float = 60.0) -> str:
        """Ask it to end as an operator would, and wait."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended(within=within)

    def wait_for(self, condition: Callable[[], bool], *, within: float, what: str) -> None:
        """Until `condition()`; Wrong when the program ends or the time is over before."""
        until = time.monotonic() + within
        while not condition():
            if self.over or time.monotonic() > until:
                raise Wrong(f"{what}: not within {within:g} s; the program said:\n{self._said()}")
            time.sleep(0.01)

    @property
    def over(self) -> bool:
        """Whether it has ended. It stays a zombie, whose processor time can still be read, until `ended`."""
        if self.process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self) -> None:
        if self.process.poll() is None:
            child.kill_tree(self.pid)
            self.process.wait()

    def tree(self) -> list[int]:
        return [self.pid, *child.descendants(self.pid)]

    def _said(self) -> str:
        return f"{self._log.read_text()[-2000:]}\n{self._errors.read_text(errors='replace')[-4000:]}"


@contextmanager
def manage(url: str, folder: Path, *arguments: str, jobs: Mapping[str, Any] | None = None) -> Iterator[Program]:
    """A `manage.py` command, killed at the end if it still runs. `jobs` changes settings.JOBS."""
    settings = {"TEST_JOBS": json.dumps({"QUEUES": ["default"], **(jobs or {})}), "TEST_OUTBOX": "{}"}
    yield from _running(Program([sys.executable, "manage.py", *arguments], url, folder, settings))


@contextmanager
def module(url: str, folder: Path, name: str, *arguments: object) -> Iterator[Program]:
    """A program of this package (or of `tests`: a name with a dot), the same way."""
    settings = {"TEST_JOBS": json.dumps({"QUEUES": ["default"]}), "TEST_OUTBOX": "{}"}
    command = [sys.executable, "-m", name if "." in name else f"tests.benchmarks.{name}", *map(str, arguments)]
    yield from _running(Program(command, url, folder, settings))


def _running(program: Program) -> Iterator[Program]:
    try:
        yield program
    finally:
        program.kill()


def cpu_seconds(pids: list[int], *, ended: bool = False) -> float:
    """User and system time that these processes have used so far; `ended`: and their children that have ended."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11 : 15 if ended else 13]))
    return total / TICKS


def private_megabytes(pid: int) -> float:
    """Memory that only this process has: what one more of its kind costs."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def titles(program: Program) -> dict[str, int]:
    """The children of a supervisor by the names they give themselves."""
    found = {}
    for pid, parent, _ in child.process_table():
        if parent == program.pid:
            found[Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("jobs ")] = pid
    return found
