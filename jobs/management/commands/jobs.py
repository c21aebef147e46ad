"""`manage.py jobs`: how it stands, for a terminal, a program, or a probe."""

from __future__ import annotations

import json
import socket
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from jobs.dashboard.look import TooSlow
from jobs.dashboard.now import Now, look
from jobs.dashboard.spoken import duration, rate

ILL, UNREACHABLE = 1, 2


class Command(BaseCommand):
    help = "Print how many jobs are where, how long they wait, and what the workers do; --health for probes."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print everything as one JSON object.")
        parser.add_argument(
            "--health",
            action="store_true",
            help="Exit 1 where no worker is alive, a queue is over its lag limit, or nothing is relayed.",
        )
        parser.add_argument(
            "--here", action="store_true", help="With --health: only whether a worker of this host is alive."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["here"] and not options["health"]:
            raise CommandError("--here says whose health: give --health too.")
        try:
            now = look()
        except (Error, TooSlow) as error:
            said = str(error).strip() or "a count took over two seconds"
            raise CommandError(f"The database said: {said}", returncode=UNREACHABLE) from error
        ailments = now.ailments(socket.gethostname() if options["here"] else "")
        if options["json"]:
            self.stdout.write(json.dumps({"healthy": not ailments, "ailments": ailments, **plain(now)}))
        elif options["health"]:
            self.stdout.write("healthy" if not ailments else "; ".join(ailments))
        else:
            self._say(now, ailments)
        if options["health"] and ailments:
            raise SystemExit(ILL)

    def _say(self, now: Now, ailments: list[str]) -> None:
        say = self.stdout.write
        for ailment in ailments:
            say(self.style.ERROR(f"! {ailment}"))
        say(f"{'outbox':<10} {now.outbox.depth:>9,}{_lag(now.outbox.lag) if now.outbox.depth else ''}")
        for name, count in now.counts.items():
            word = f"{name.replace('_', ' '):<10} {count!s:>9}"
            say(self.style.ERROR(word) if name in ("dead", "set_aside") and count.n else word)
        if now.queues:
            say(f"\n{'queue':<20} {'ready':>9} {'running':>8} {'lag':>9} {'speed':>9} {'empty in':>9}")
        for queue in now.queues:
            drains = "" if queue.drains_in is None else duration(queue.drains_in)
            line = (
                f"{queue.name:<20} {queue.shown_depth:>9} {queue.running:>8} {duration(queue.lag):>9}"
                f" {rate(queue.rate):>9} {drains:>9}{'  paused' if queue.pause else ''}"
            )
            say(self.style.ERROR(line) if queue.late else line)
        say(f"\n{'worker':<28} {'busy':>7}  {'heartbeat':<12} queues" if now.workers else "\nno worker")
        for worker in now.workers:
            line = (
                f"{worker.name:<28} {worker.busy_slots:>3}/{worker.slots:<3}  {duration(worker.silent) + ' ago':<12}"
                f" {worker.queues or 'all'}{'  ' + worker.wish if worker.wish else ''}"
            )
            say(line if worker.alive else self.style.ERROR(line))
            for busy in worker.busy:
                say(f"    slot {busy.slot}: {busy.label} for {duration(busy.seconds)}  {busy.job}")


def plain(now: Now) -> dict[str, Any]:
    """The same for a program, durations in seconds; a count that stopped at its limit or is estimated is not exact."""
    return {
        "outbox": {"depth": now.outbox.depth, "lag": round(now.outbox.lag, 3)},
        "states": {name: {"count": count.n, "exact": not count.sign} for name, count in now.counts.items()},
        "queues": {
            queue.name: {
                "ready": queue.depth,
                "running": queue.running,
                "lag": round(queue.lag, 3),
                "per_second": round(queue.rate, 3),
                "paused": queue.pause is not None,
                "late": queue.late,
            }
            for queue in now.queues
        },
        "workers": [
            {
                "id": worker.id,
                "name": worker.name,
                "alive": worker.alive,
                "silent": round(worker.silent, 3),
                "slots": worker.slots,
                "busy": worker.busy_slots,
                "queues": worker.queues,
                "version": worker.version,
                "wish": worker.wish,
                "executes": [
                    {"slot": busy.slot, "job": busy.job, "name": busy.label, "seconds": busy.seconds}
                    for busy in worker.busy
                ],
            }
            for worker in now.workers
        ],
    }


def _lag(seconds: float) -> str:
    return f"   eldest {duration(seconds)} old"
