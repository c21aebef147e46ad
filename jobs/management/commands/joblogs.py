"""`manage.py joblogs`: what jobs have logged, out of the database, for a terminal or another program."""

from __future__ import annotations

import json
import logging
import re
import time
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import Error
from django.utils import timezone

from jobs.conf import LEVELS
from jobs.dashboard import tail
from jobs.dashboard.look import Found, TooSlow

EVERY = 0.5
"""Seconds between two looks with --follow."""

OVERLAP = timedelta(seconds=15)
"""How far each look goes back: what was logged then may only now have been committed."""

AGO = re.compile(r"(\d{1,6})\s*(s|min|m|h|d)\Z")
SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


class Command(BaseCommand):
    help = "Show what jobs have logged, and the tries that did not succeed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--source-name", default="", help="Only jobs with this source name.")
        parser.add_argument("--task", default="", help="Only jobs of this task.")
        parser.add_argument("--job", type=job_id, help="Only the job with this id.")
        parser.add_argument("--level", default="debug", type=str.upper, choices=LEVELS, help="At least this level.")
        parser.add_argument(
            "--since", default="15min", type=moment, help="30s, 10min, 2h, 3d ago, or a time (default: 15min)."
        )
        parser.add_argument("--follow", action="store_true", help="Go on with what comes in, until Ctrl-C.")
        parser.add_argument("--json", action="store_true", help="One JSON object a line.")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = tail.Wanted(
            options["source_name"], options["task"], logging.getLevelName(options["level"]), options["job"]
        )
        show = self._as_json if options["json"] else self._as_text
        seen: dict[str, datetime] = {}
        try:
            at = options["since"]() if callable(options["since"]) else options["since"]
            while True:
                for row in tail.since(at, wanted):
                    if row.key not in seen:
                        seen[row.key] = row.at
                        show(row)
                if not options["follow"]:
                    return
                at = max(at, tail.now() - OVERLAP)
                seen = {key: when for key, when in seen.items() if when >= at}
                time.sleep(EVERY)
        except TooSlow:
            raise CommandError("The database took too long: give a later --since, or a --job.") from None
        except Error as error:
            raise CommandError(f"The database said: {str(error).strip()}") from error
        except KeyboardInterrupt:
            return

    def _as_text(self, row: Found) -> None:
        level = logging.getLevelName(row.level)
        at = timezone.localtime(row.at).isoformat(" ", "milliseconds")
        label = row.source_name or row.task
        logger = f" {row.logger}" if row.logger else ""
        first, *more = row.text.splitlines() or [""]
        self.stdout.write(plain(f"{at} {level:<8} {row.job} {label} #{row.number}{logger}: {first}"))
        for line in (*more, *row.traceback.splitlines()):
            self.stdout.write(plain(f"    {line}"))

    def _as_json(self, row: Found) -> None:
        told = {name: value for name, value in row.items() if name != "key" and value != ""}
        told |= {"at": row.at.astimezone(UTC).isoformat(), "job": str(row.job)}
        told["level"] = logging.getLevelName(row.level)
        self.stdout.write(json.dumps(told))


def plain(line: str) -> str:
    """Without what a terminal would take for a command."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


def moment(text: str) -> Any:
    """A time ago by the database's clock, or an absolute one."""
    if match := AGO.match(text.strip()):
        back = timedelta(seconds=int(match[1]) * SECONDS[match[2]])
        return lambda: tail.now() - back
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither 30s, 10min, 2h, 3d nor a time") from None
    return at if at.tzinfo is not None else timezone.make_aware(at)


def job_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no job's id") from None
