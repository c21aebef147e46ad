"""`manage.py schedules`: every schedule with its next times, for a terminal or another program."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from jobs.dashboard.look import TooSlow
from jobs.dashboard.schedules import ScheduleNow, schedules
from jobs.plan import declared


class Command(BaseCommand):
    help = "List the schedules in the table, and those of the code that no relay has written down yet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--next", type=times, default=3, metavar="N", help="How many times to come (default: 3).")
        parser.add_argument("--json", action="store_true", help="One JSON object a line.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = schedules(options["next"], most=None)
        except TooSlow:
            raise CommandError("The database took too long.") from None
        except Error as error:
            raise CommandError(f"The database said: {str(error).strip()}") from error
        for each in found:
            self.stdout.write(json.dumps(as_data(each)) if options["json"] else as_text(each))
        new = sorted(set(declared) - {each.row.name for each in found})
        if options["json"]:
            for name in new:
                self.stdout.write(json.dumps({"name": name, "task": declared[name].task.name, "state": "not enrolled"}))
        elif new:
            self.stdout.write(f"In the code, and not in the table until a relay has started: {', '.join(new)}.")
        elif not found:
            self.stdout.write('There is no schedule. Write @every("0 2 * * *") above a task, or make one in admin.')


def as_data(each: ScheduleNow) -> dict[str, Any]:
    """Times in ISO form and UTC."""
    row = each.row
    return {
        "name": row.name, "task": row.task, "state": each.stopped or ("troubled" if each.trouble else "active"),
        "when": each.sentence, "cron": row.cron, "every": row.every.total_seconds() if row.every else None,
        "timezone": row.timezone, "next": [plain(at) for at in each.next], "missed": row.missed,
        "overlap": row.overlap, "declared": row.declared, "last_at": plain(row.last_at),
        "last_job": str(row.last_job) if row.last_job else None, "last_state": row.last_state, "made": row.made,
        "missed_ticks": row.missed_ticks, "skipped_ticks": row.skipped_ticks, "trouble": each.trouble,
        "pause_reason": row.pause_reason,
    }  # fmt: skip


def as_text(each: ScheduleNow) -> str:
    row = each.row
    lines = [f"{row.name}  {each.sentence}, {row.timezone}{f'  [{each.stopped}]' if each.stopped else ''}"]
    if row.name != row.task:
        lines.append(f"task     {row.task}")
    if each.next:
        zone = ZoneInfo(row.timezone)
        lines.append("next     " + ", ".join(f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S%z}" for at in each.next))
    if row.last_job:
        at = f"{row.last_at:%Y-%m-%d %H:%M:%S%z} " if row.last_at else ""
        lines.append(f"last     {at}{row.last_state or 'no longer kept'} {row.last_job}")
    lines.append(f"so far   {row.made} made, {row.missed_ticks} missed, {row.skipped_ticks} skipped")
    if row.pause_reason:
        lines.append(f"paused   {row.pause_reason}")
    if each.trouble:
        lines.append(f"trouble  {each.trouble}")
    return "\n    ".join("".join(char if char.isprintable() else "?" for char in line) for line in lines)


def plain(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None


def times(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise ArgumentTypeError(f"{text!r}: give a number from 1 to 1000")
    return int(text)
