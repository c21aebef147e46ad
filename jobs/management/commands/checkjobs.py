"""`manage.py checkjobs`: would this code run every job that waits? Run it with the new code, before the deploy."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error, connections, router

from jobs.discover import for_workers
from jobs.waiting import Broken, broken, waiting
from outbox.models import Message

SHOWN = 50
"""Broken jobs that are listed for a person; `--json` lists all."""


class Command(BaseCommand):
    help = "Bind every job that has not ended to this code; exits 1 with a list where one could not run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print what was found as one JSON object.")
        parser.add_argument(
            "--database", help="Alias of the outbox to look into (default: where messages are written)."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        outbox = options["database"] or router.db_for_write(Message)
        if outbox not in connections.settings:
            raise CommandError(f"--database {outbox}: settings.DATABASES has {', '.join(connections.settings)}.")
        for_workers()
        checked, found = 0, []
        try:
            for job in waiting(outbox):
                checked += 1
                if (problem := broken(job)) is not None:
                    found.append(problem)
        except Error as error:
            raise CommandError(f"The database said: {str(error).strip()}") from error
        if options["json"]:
            self.stdout.write(json.dumps({"checked": checked, "broken": [_plain(job) for job in found]}))
        else:
            self._say(checked, found)
        if found:
            sys.exit(1)

    def _say(self, checked: int, found: list[Broken]) -> None:
        for job in found[:SHOWN]:
            self.stdout.write(f"{job.id}  {job.state:<9}  {job.task}\n    {job.why}")
        if len(found) > SHOWN:
            self.stdout.write(f"... and {len(found) - SHOWN} more: --json lists them all.")
        self.stdout.write(
            f"{len(found)} of {checked} jobs would not run with this code."
            if found
            else f"All {checked} jobs that have not ended would run with this code."
        )


def _plain(job: Broken) -> dict[str, str]:
    return {"id": str(job.id), "task": job.task, "state": job.state, "why": job.why}
