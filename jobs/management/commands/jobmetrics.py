"""`manage.py jobmetrics`: metrics in Prometheus' text format, for a pipe or for node_exporter's textfile collector."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Print metrics of outbox, queues, workers and outcomes in Prometheus' text format."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--textfile", type=Path, help="Write them to this file, whole or not at all.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from prometheus_client import generate_latest

            from jobs.metrics import registry
        except ImportError as error:
            raise CommandError("Metrics need prometheus-client: pip install 'django-outbox-jobs[metrics]'.") from error
        text = generate_latest(registry()).decode()
        path: Path | None = options["textfile"]
        if path is None:
            self.stdout.write(text, ending="")
            return
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            fresh.write_text(text)
            fresh.replace(path)  # a collector that reads meanwhile sees the old file or the new one
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise CommandError(f"--textfile {path}: {error.strerror}.") from error
