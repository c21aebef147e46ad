"""`manage.py relay`: move committed messages to their destination. Any number may run, also beside `runworkers`."""

from __future__ import annotations

import json
import signal
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections, router

from outbox import faults, loop
from outbox.ask import not_for_workers
from outbox.conf import outbox_settings
from outbox.models import Message
from outbox.pace import Pace
from outbox.relay import destination, replay, step
from outbox.session import SESSIONS, Query, Session, process_name, session_on
from outbox.wake import CHANNEL, QUIET_FOR

SET_ASIDE_IDS = "SELECT id FROM outbox_setasidemessage ORDER BY id"


class Command(BaseCommand):
    help = "Move committed messages from the outbox to the queue, until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="Move what is there now, then end.")
        parser.add_argument(
            "--replay",
            nargs="+",
            metavar="ID",
            help='Put set-aside messages back into the outbox first: their numbers, or "all". Implies --once.',
        )
        parser.add_argument("--database", help="Alias of the database (default: where messages are written).")
        parser.add_argument("--json", action="store_true", help="With --once: print what was done as one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        alias = options["database"] or router.db_for_write(Message)
        if alias not in connections.settings:
            raise CommandError(f"--database {alias}: settings.DATABASES has {', '.join(connections.settings)}.")
        if connections[alias].vendor not in SESSIONS:
            raise CommandError(
                f"The relay needs PostgreSQL or SQLite; the database {alias!r} is {connections[alias].display_name}."
            )
        if (problem := not_for_workers(alias)) is not None:
            raise CommandError(problem)
        destination()
        session = session_on(alias, application_name=f"outbox-relay-{process_name()}"[:63])
        try:
            if options["once"] or options["replay"]:
                self._once(session, options)
            else:
                self._run(session, options["verbosity"])
        finally:
            session.close()

    def _once(self, session: Session, options: dict[str, Any]) -> None:
        done = {"replayed": 0, "delivered": 0, "set_aside": 0}
        try:
            if options["replay"]:
                done["replayed"] = self._replay(session, options["replay"])
            while (moved := step(session, destination(), outbox_settings().BATCH)).total:
                done["delivered"] += moved.delivered
                done["set_aside"] += moved.set_aside
        except faults.ANY as error:
            raise CommandError(f"The database said: {str(error).strip()}") from error
        if options["json"]:
            self.stdout.write(json.dumps(done))
        elif options["verbosity"] > 0:
            self.stdout.write("{delivered} delivered, {set_aside} set aside, {replayed} replayed.".format(**done))

    def _replay(self, session: Session, given: list[str]) -> int:
        ids = [row[0] for row in session.run(Query(SET_ASIDE_IDS))]
        if given != ["all"]:
            try:
                wanted = {int(number) for number in given}
            except ValueError:
                raise CommandError(
                    f'--replay {" ".join(given)}: give numbers of set-aside messages, or "all".'
                ) from None
            if missing := wanted - set(ids):
                raise CommandError(f"--replay: no message {', '.join(map(str, sorted(missing)))} is set aside.")
            ids = sorted(wanted)
        return len(session.run(replay(ids)))

    def _run(self, session: Session, verbosity: int) -> None:
        stopped: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: stopped.append(number))
        if outbox_settings().NOTIFY:
            session.listen(CHANNEL)
        if verbosity > 0:
            self.stdout.write("Relaying. Ctrl-C ends.")
        total = 0
        hot_until = 0.0
        pace = Pace(outbox_settings().BATCH)

        def once() -> float:
            nonlocal total, hot_until
            moved, _ = pace.step(session)
            total += moved.total
            now = time.monotonic()
            if moved.total:
                hot_until = now + QUIET_FOR * 1.25
                return 0.0
            return 0.001 if now < hot_until else outbox_settings().poll_interval

        def wait(seconds: float) -> None:
            nonlocal hot_until
            if session.wait(min(seconds, 0.5)):
                hot_until = time.monotonic() + QUIET_FOR * 1.25

        loop.run("relay", once, wait=wait, stopping=lambda: bool(stopped))
        if verbosity > 0:
            self.stdout.write(f"{total} messages moved.")
