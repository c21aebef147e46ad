"""`runworkers --reload`: start the workers again whenever the code changes. For development.

It takes the command line it was started with; it leaves workers of the newest code. Code that cannot be loaded ends the
workers, not this: it waits for the next change. Jobs that were running are handed back, with no attempt charged.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from django.apps import apps
from django.utils import autoreload

from jobs import child

EVERY = 0.5
"""Seconds between two looks at the files."""

DRAIN = "2"
"""Seconds that running jobs get at a change, where --drain-timeout says nothing."""

INSTALLED = ("site-packages", "dist-packages")


def command_line() -> list[str]:
    """How the workers are started: as this process was, without --reload."""
    given = [str(argument) for argument in autoreload.get_child_arguments() if argument != "--reload"]
    if not any(argument.startswith("--drain-timeout") for argument in given):
        given += ["--drain-timeout", DRAIN]
    return given


def run(command: Sequence[str], say: Callable[[str], object]) -> int:
    """Run the command, again after each change, until SIGTERM or SIGINT; its exit status."""
    ending: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        ending.append(number)
        if workers.poll() is None:
            workers.send_signal(number)

    workers = _start(command)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, end)
    seen = times()
    while not ending:
        with suppress(subprocess.TimeoutExpired):
            if workers.wait(EVERY) and not ending:
                say("The workers have ended; they start again when the code changes.")
        while workers.poll() is not None and not ending and times() == seen:
            time.sleep(EVERY)
        if ending or (found := times()) == seen:
            continue
        changed = sorted(path for path in {*seen, *found} if seen.get(path) != found.get(path))
        say(f"{changed[0]} has changed: starting again.")
        seen = found
        if workers.poll() is None:
            workers.send_signal(signal.SIGTERM)
            workers.wait()
        if not ending:
            workers = _start(command)
    return workers.wait()


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    # In a session of its own: Ctrl-C in the terminal is passed on once, and does not reach the workers twice.
    return subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_parent if child.LINUX else None)


def _die_with_parent() -> None:
    child.prctl(child.PR_SET_PDEATHSIG, signal.SIGTERM)


def times() -> dict[Path, float]:
    """The project's own Python files, and when each was changed."""
    found = {}
    for path in watched():
        with suppress(OSError):
            found[path] = path.stat().st_mtime
    return found


def watched() -> Iterator[Path]:
    """The files of modules that are loaded, and of every app; installed packages are left out."""
    for path in autoreload.iter_all_python_module_files():
        if not any(part in INSTALLED for part in path.parts) and not path.is_relative_to(sys.base_prefix):
            yield path
    for app in apps.get_app_configs():
        folder = Path(app.path)
        if not any(part in INSTALLED for part in folder.parts):
            for here, folders, names in os.walk(folder):
                folders[:] = [name for name in folders if not name.startswith((".", "__pycache__", "node_modules"))]
                yield from (Path(here, name) for name in names if name.endswith(".py"))
