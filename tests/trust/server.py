"""A throw-away PostgreSQL that a row may crash, fill up, listen to over TCP, or have followed by a standby.

The programs and the account are those of `project.postgres`. A crash of the row takes the server with it (the kernel
sends it SIGQUIT); its folder then stays behind in the temporary folder, and nothing else.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psycopg

from project import postgres
from project.shop.demo.processes import free_port

STRICT = {"deadlock_timeout": "50ms", "log_lock_waits": "on", "fsync": "on", "synchronous_commit": "on"}


class Server:
    """One cluster on 127.0.0.1."""

    def __init__(self, *, settings: dict[str, str] | None = None, copy_of: Server | None = None) -> None:
        home = postgres._home(lasting=False)
        self._programs = postgres._programs(home)
        self.folder = postgres._own(Path(tempfile.mkdtemp(prefix="trust-", dir=home)))
        self.own = self.folder / "s"
        self.own.mkdir(mode=0o700)
        os.chown(self.own, *postgres._account())
        self.port = free_port()
        self.settings = {**STRICT, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        if copy_of is None:
            self._run("initdb", "-D", self.own / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        else:
            source = ["-h", "127.0.0.1", "-p", str(copy_of.port), "-U", "postgres"]
            self._run("pg_basebackup", *source, "-D", self.own / "data", "-R", "--checkpoint=fast", "--no-sync")
        self.start()

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        return f"postgres://postgres@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        options = [word for pair in self.settings.items() for word in ("-c", "=".join(pair))]
        where = ["-D", self.own / "data", "-k", self.own, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", *where, "-c", "max_connections=200", *options],
                stdout=log,
                **self._as_the_account(),
            )
        until = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.02)
            else:
                return

    def crash(self) -> None:
        """An immediate shutdown: no checkpoint, recovery at the next start."""
        self._end(signal.SIGQUIT)

    def restart(self) -> float:
        """Crash and start; the seconds without a server."""
        began = time.monotonic()
        self.crash()
        self.start()
        return time.monotonic() - began

    def kill_a_backend(self, pid: int) -> None:
        """SIGKILL of one backend: the postmaster ends all the others and recovers."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "-D", self.own / "data", "-w")

    def close(self) -> None:
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _run(self, program: str, *arguments: Sequence[object] | object) -> None:
        done = subprocess.run(
            [self._programs / program, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            **self._as_the_account(),
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}")

    def _as_the_account(self) -> dict[str, object]:
        parent, (uid, gid) = os.getpid(), postgres._account()
        prctl = ctypes.PyDLL(None).prctl

        def before_exec() -> None:
            if prctl(1, ctypes.c_ulong(signal.SIGQUIT)) or os.getppid() != parent:
                os._exit(1)

        return {
            "stdin": subprocess.DEVNULL,
            "stderr": subprocess.STDOUT,
            "cwd": "/",
            "env": {"PATH": os.defpath, "LC_ALL": "C"},
            "start_new_session": True,
            "user": uid,
            "group": gid,
            "extra_groups": [] if os.geteuid() == 0 else None,
            "preexec_fn": before_exec,
        }
