"""Hear what tasks log with the ordinary `logging` module, so that it is kept with their attempt.

A handler on the root logger of a slot: it takes the records that are made while a job runs, in the thread or coroutine
of that job, and puts them into the notebook. It changes no logger's level and takes no record from anybody else.
"""

from __future__ import annotations

import logging

from jobs.conf import JobsSettings
from jobs.context import current
from jobs.notebook import notebook

DJANGOS = ("django.tasks", "django_tasks")
"""Loggers that say of each task that it has started and finished; the job's own story says it already."""


class Ear(logging.Handler):
    """Notes each record with the job that made it."""

    def emit(self, record: logging.LogRecord) -> None:
        context = current.get()
        if context is None or not context.lease or record.name in DJANGOS:
            return
        try:
            notebook.line(context, record.levelno, record.name[:100], self.format(record))
        except Exception:  # a record that cannot be formatted is the task's mistake, and no reason to fail it
            self.handleError(record)


def listen(settings: JobsSettings) -> None:
    """Hear the whole process from now on."""
    root = logging.getLogger()
    if not root.handlers and logging.lastResort is not None:
        # Python prints warnings by itself only while nobody listens: with us there somebody does.
        root.addHandler(logging.lastResort)
    root.addHandler(Ear(logging.getLevelName(settings.LOG_LEVEL)))
