"""`manage.py replayevents`: give events to their consumers, the past to a new one or once more to one that had them."""

from __future__ import annotations

import json
import signal
import threading
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from jobs import replay
from jobs.conf import jobs_settings
from jobs.dashboard import tail
from jobs.errors import JobsError
from jobs.ids import new_id
from jobs.management.commands.joblogs import moment, plain
from jobs.options import check_database
from outbox.errors import OutboxError

EVERY = 1.0
"""Seconds between two words about how far it is."""


class Command(BaseCommand):
    help = (
        "Give events to their consumers. A job that is there already is not made again, so it may be stopped and"
        " repeated at will; --again makes a real repetition."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("events", nargs="*", type=event_id, metavar="EVENT", help="Only the events with these ids.")
        parser.add_argument("--type", default="", help="Only events of this type.")
        parser.add_argument("--since", type=moment, help="30s, 10min, 2h, 3d ago, or a time.")
        parser.add_argument("--until", type=moment, help="The same; not including it.")
        parser.add_argument("--consumer", default="", help="Dotted name of the one that gets them (default: all).")
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--missing-only", action="store_true", help="Only what a consumer has not been given yet: the default."
        )
        which.add_argument(
            "--again",
            nargs="?",
            const="",
            metavar="NAME",
            help="Once more, whoever had it. The same NAME is the same repetition, and happens once.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Say what it would come to, and write nothing.")
        parser.add_argument("--batch", type=int, default=replay.BATCH, help="Events in one transaction.")
        parser.add_argument("--reason", default="", help="Kept with each job.")
        parser.add_argument("--by", default="replayevents", help="Who wanted it; kept with each job.")
        parser.add_argument("--no-input", action="store_true", help="Do not ask.")
        parser.add_argument("--json", action="store_true", help="Say what was done as one JSON object.")
        parser.add_argument("--database", help='Where the events are, if not in JOBS["DATABASE"].')

    def handle(self, *args: Any, **options: Any) -> None:
        alias = options["database"] or jobs_settings().DATABASE
        again = options["again"]
        if not options["events"] and not options["type"] and not options["consumer"] and options["since"] is None:
            raise CommandError("Say which events: their ids, --type, --consumer or --since.")
        if not 1 <= options["batch"] <= 10_000:
            raise CommandError("--batch: give 1 to 10000 events.")
        try:
            check_database(alias)
            wanted = replay.Replay(
                ids=options["events"],
                type=options["type"],
                since=_at(options["since"]),
                # What is published from here on is not the past: else a busy site would be given to for ever.
                until=_at(options["until"]) or tail.now(),
                consumer=options["consumer"],
                again=f"r-{new_id().hex[-12:]}" if again == "" else again or "",
                by=options["by"],
                reason=options["reason"],
            )
            self._carry_out(wanted, alias, options)
        except (JobsError, OutboxError) as error:
            raise CommandError(str(error)) from error
        except Error as error:
            raise CommandError(f"The database said: {str(error).strip()}") from error

    def _carry_out(self, wanted: replay.Replay, alias: str, options: dict[str, Any]) -> None:
        counted = replay.count(wanted, database=alias)
        if options["events"] and counted.events < len(set(options["events"])):
            raise CommandError(
                f"Of these events {counted.events} are in the log; the others were never, or are pruned."
            )
        words = f"{counted.events:,} events, {counted.jobs:,} jobs of their consumers, {counted.missing:,} to be made"
        dry = options["dry_run"]
        if dry or not counted.missing:
            self._tell(wanted, options, {**counted._asdict(), "written": 0}, f"{words}{' (dry run)' if dry else ''}")
            return
        if not (options["no_input"] or options["json"]) and input(f"{words}. Go on? [y/N] ").strip().lower() != "y":
            raise CommandError("Nothing was done.")
        events = written = 0
        told = time.monotonic()
        with stoppable() as stopped:
            for done in replay.steps(wanted, database=alias, batch=options["batch"]):
                events, written = events + done.events, written + done.written
                if stopped:
                    how = f" with --again {wanted.again}" if wanted.again else ""
                    raise CommandError(
                        f"Stopped after {events:,} of {counted.events:,} events, {written:,} jobs. Repeat the"
                        f" command{how}: it goes on from there."
                    )
                if time.monotonic() - told > EVERY:
                    told = time.monotonic()
                    self.stderr.write(f"{events:,} of {counted.events:,} events, {written:,} jobs")
        self._tell(
            wanted,
            options,
            {**counted._asdict(), "written": written},
            f"{events:,} events, {written:,} jobs written{f' (repetition {wanted.again})' if wanted.again else ''}",
        )

    def _tell(self, wanted: replay.Replay, options: dict[str, Any], said: dict[str, Any], words: str) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({**said, "again": wanted.again, "dry_run": options["dry_run"]}))
        else:
            self.stdout.write(plain(words))


@contextmanager
def stoppable() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C or SIGTERM: the batch at hand is finished first. A second one stops at once."""
    heard: list[int] = []

    def hear(number: int, _: Any) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def event_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no event's id") from None


def _at(given: Any) -> Any:
    return given() if callable(given) else given
