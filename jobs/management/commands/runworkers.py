"""`manage.py runworkers`: the supervisor, the relay, the caretakers and the slots, in one command."""

from __future__ import annotations

import logging
import os
import re
import sys
from argparse import ArgumentParser
from io import TextIOWrapper
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from jobs import child, reload
from jobs.checks import unsupported
from jobs.claim import Lanes
from jobs.conf import QUEUE_NAME, JobsSettings, jobs_settings
from jobs.connections import close_before_forking
from jobs.declare import registry
from jobs.discover import for_workers
from jobs.duty import Duty
from jobs.supervisor import Supervisor
from jobs.tables import NO_COLUMNS, NO_DATABASE, NO_TABLES, look
from outbox.ask import not_for_workers
from outbox.relay import destination

WEIGHTED = re.compile(r"(?P<name>[^:]+):(?P<weight>\d+(\.\d+)?)\Z")


class Command(BaseCommand):
    help = "Run jobs: the relay, the caretakers and the slots that execute, until SIGTERM or Ctrl-C."
    requires_system_checks = ["jobs"]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--slots", type=int, help="Jobs that run at once (default: one for each CPU).")
        parser.add_argument(
            "--queues",
            default="",
            help='"a,b" serves a before b; "a:3,b:1" serves by weight; left out, all queues, by priority.',
        )
        parser.add_argument("--burst", action="store_true", help="End when nothing is left to relay or to run.")
        parser.add_argument("--no-relay", action="store_true", help="Leave the outbox to `manage.py relay`.")
        parser.add_argument(
            "--drain-timeout",
            type=float,
            help="Seconds that running jobs get after SIGTERM before they are handed back (default: 25).",
        )

        parser.add_argument(
            "--reload", action="store_true", help="Start again whenever the code changes; for development."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["reload"]:
            raise SystemExit(reload.run(reload.command_line(), self.stderr.write))
        settings = jobs_settings()
        slots = options["slots"] if options["slots"] is not None else settings.SLOTS or os.cpu_count() or 1
        if not 1 <= slots <= 512:
            raise CommandError(f"--slots {slots}: give a number from 1 to 512.")
        drain = options["drain_timeout"] if options["drain_timeout"] is not None else settings.DRAIN_TIMEOUT
        if drain < 0:
            raise CommandError(f"--drain-timeout {drain:g}: give 0 or more seconds.")
        if (problem := unsupported(settings.DATABASE)) is not None:
            raise CommandError(problem)
        if (problem := not_for_workers(settings.DATABASE)) is not None:
            raise CommandError(problem)
        destination()
        for_workers()
        lanes = lanes_of(options["queues"], settings)
        duty = Duty(tuple(lanes.queues) or None, options["queues"], slots, not options["no_relay"], options["burst"])
        _speak(options["verbosity"])
        _print_at_once()
        self._look_first(settings)
        self._announce(duty, options["verbosity"])
        close_before_forking()
        status = Supervisor(duty, lanes, settings, drain).run()
        if options["verbosity"] > 0:
            self.stdout.write("All slots have ended.")
        if status:
            raise CommandError("The worker ended badly; see the log.", returncode=status)

    def _look_first(self, settings: JobsSettings) -> None:
        """In a child, because this process never opens a connection: are the tables there?"""
        pid = child.fork(lambda: look(settings.DATABASE), "jobs look")
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == NO_TABLES:
            raise CommandError(
                f"The database {settings.DATABASE!r} has no tables for jobs yet: run `manage.py migrate` first."
            )
        if code == NO_COLUMNS:
            raise CommandError(
                f"The tables in the database {settings.DATABASE!r} are an older release's: run `manage.py migrate`"
                " first. Workers of that release may go on meanwhile, and so may whoever enqueues."
            )
        if code == NO_DATABASE:
            self.stderr.write(f"The database {settings.DATABASE!r} cannot be reached yet; starting all the same.")

    def _announce(self, duty: Duty, verbosity: int) -> None:
        if verbosity > 0:
            queues = duty.described or ("all queues" if duty.queues is None else ", ".join(duty.queues))
            known = sum(not name.startswith("jobs.") for name in registry)  # ours for blocks of templates is nobody's
            self.stdout.write(
                f"{duty.slots} slot{'s' * (duty.slots != 1)}, {queues}, {known} task{'s' * (known != 1)} known,"
                f" {'with' if duty.relays else 'without'} relay{', until nothing is left' * duty.burst}."
                " Ctrl-C finishes what runs and ends."
            )


def lanes_of(text: str, settings: JobsSettings) -> Lanes:
    """What --queues says; raises CommandError for what it cannot mean."""
    names, weights = [], []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = WEIGHTED.match(part)
        names.append(match["name"] if match else part)
        weights.append(float(match["weight"]) if match else None)
    for name in names:
        if not QUEUE_NAME.match(name):
            raise CommandError(f"--queues: {name!r} is no queue name.")
        if settings.QUEUES and name not in settings.QUEUES:
            raise CommandError(f'--queues: {name!r} is not in JOBS["QUEUES"] ({", ".join(settings.QUEUES)}).')
    if len(set(names)) < len(names):
        raise CommandError("--queues names a queue twice.")
    if not names:
        return Lanes(tuple(settings.QUEUES), any_queue=not settings.QUEUES)
    given = [weight for weight in weights if weight is not None]
    if given and (len(given) < len(names) or 0 in given):
        raise CommandError("--queues: give each queue a weight above 0 (a:3,b:1), or none (a,b).")
    return Lanes(tuple(names), weights=tuple(given)) if given else Lanes(tuple(names), strict=True)


def _print_at_once() -> None:
    """What a task prints is out at the end of its line, into a file or a pipe too: a slot leaves by _exit or a kill,
    and its buffers with it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def _speak(verbosity: int) -> None:
    """Show what happens on the terminal, unless the project's LOGGING already says where it goes."""
    for name in ("jobs", "outbox"):
        logger = logging.getLogger(name)
        if verbosity > 0 and not logger.handlers and logger.level == logging.NOTSET:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logger.addHandler(handler)
            logger.propagate = False
            logger.setLevel(logging.INFO if verbosity > 1 else logging.WARNING)
