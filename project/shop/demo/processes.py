"""The demo's child processes. They end when the demo ends, however it ends."""

from __future__ import annotations

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

from django.conf import settings
from django.core.management import CommandError

from jobs.child import kill_tree

STOP_WITHIN = 8.0
"""Seconds the children get to end in good order."""

START_WITHIN = 30.0


class Children:
    """Starts processes, notices when one has died, and stops them all."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        """Start a Python command; what it prints goes to a file."""
        with self._log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=settings.BASE_DIR,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the demo alone: it stops the others in their turn.
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )

    def check(self) -> None:
        """Raise CommandError with its last words when one has died."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise CommandError(f"The {name} ended with status {process.returncode}:\n{self.said(name)}")

    def said(self, name: str, lines: int = 15) -> str:
        """The last lines that it printed."""
        with suppress(OSError):
            return "\n".join(self._log(name).read_text(errors="replace").splitlines()[-lines:])
        return ""

    def stop(self) -> None:
        """Ask all, wait for all, and kill what is left with everything below it."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + STOP_WITHIN
        for process in self._running.values():
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                kill_tree(process.pid)
                process.wait()
        self._running.clear()

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


def end_with_parent() -> Callable[[], None] | None:
    """On Linux, have the kernel end a child whose parent was killed and could not stop it."""
    if sys.platform != "linux":
        return None
    parent = os.getpid()
    prctl = ctypes.PyDLL(None).prctl  # found before the fork; PyDLL keeps the interpreter's lock

    def before_exec() -> None:
        prctl(1, ctypes.c_ulong(signal.SIGTERM))
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def free_port(wanted: int = 0) -> int:
    """A port nobody listens on: the wanted one if it is free."""
    for port in (wanted, 0):
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise CommandError("There is no free port on 127.0.0.1.")


def wait_for_web(port: int, children: Children) -> None:
    """Return once the shop answers."""
    until = time.monotonic() + START_WITHIN
    while time.monotonic() < until:
        children.check()
        visitor = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with closing(visitor), suppress(OSError, http.client.HTTPException):
            visitor.request("GET", "/")
            if visitor.getresponse().status == 200:
                return
        time.sleep(0.05)
    raise CommandError(f"The shop does not answer after {START_WITHIN:g} seconds:\n{children.said('shop')}")
