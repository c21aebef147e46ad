"""`manage.py check`: what would go wrong later is said now, each with what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import django
from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router
from django.utils import timezone

from jobs.conf import jobs_settings
from jobs.plan import declared
from jobs.tick import draft_of, rhythm_of
from jobs.timetable import Schedule
from outbox.conf import outbox_settings
from outbox.models import Message
from outbox.session import SESSIONS

UNSUPPORTED = (
    "The queue needs PostgreSQL 14 or later, or SQLite; the database {alias!r} is {vendor}. Point DATABASES[{alias!r}]"
    ' at one of them, or name another alias in JOBS["DATABASE"].'
)


@register("jobs")
def check_settings(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """The values in OUTBOX and JOBS."""
    try:
        problems = [*outbox_settings().problems(), *jobs_settings().problems()]
    except (ImproperlyConfigured, TypeError) as error:
        return [Error(str(error), id="jobs.E001")]
    return [Error(problem, id="jobs.E001") for problem in problems]


@register("jobs")
def check_database(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """The databases of the queue and of the outbox."""
    try:
        alias = jobs_settings().DATABASE
    except ImproperlyConfigured:
        return []  # check_settings has said so
    if alias not in connections.settings:
        return [Error(f'JOBS["DATABASE"] is {alias!r}, which settings.DATABASES does not have.', id="jobs.E002")]
    if (problem := unsupported(alias)) is not None:
        return [Error(problem, hint="What others make of the verbs' words would lose jobs.", id="jobs.E003")]
    found: list[CheckMessage] = on_sqlite(alias) if connections[alias].vendor == "sqlite" else []
    written = router.db_for_write(Message)
    if written != alias:
        found.append(
            checks.Warning(
                f"Messages are written to the database {written!r} and the queue is in {alias!r}: they are kept, but"
                " not delivered from there yet.",
                hint=f'Route the outbox to {alias!r}, or set JOBS["DATABASE"] to {written!r}.',
                id="jobs.W001",
            )
        )
    return found


def on_sqlite(alias: str) -> list[CheckMessage]:
    """What there is to say about SQLite that works."""
    from outbox.lite.fitness import habits, may_corrupt

    found: list[CheckMessage] = []
    if (risk := may_corrupt()) is not None:
        found.append(checks.Warning(risk.text, hint=risk.hint, id="jobs.W007"))
    return found + [checks.Warning(habit.text, hint=habit.hint, id="jobs.W008") for habit in habits(alias)]


@register("jobs")
def check_schedules(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """The schedules of the code, as the settings are now."""
    return [
        Error(problem, hint="Change what stands in @every.", obj=plan.task.name, id="jobs.E004")
        for plan in declared.values()
        if (problem := problem_of(plan.check_call)) is not None
    ]


@register(checks.Tags.database)
def check_schedules_in_table(
    app_configs: Sequence[Any] | None = None, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """With `--database`: the schedules that people have made, against this code."""
    try:
        alias = jobs_settings().DATABASE
        if alias not in (databases or ()) or unsupported(alias) is not None:
            return []
        rows = list(Schedule.objects.using(alias).filter(declared=False).order_by("name"))
    except (ImproperlyConfigured, DatabaseError):
        return []  # said elsewhere, or not migrated yet
    return [
        checks.Warning(
            f"This code could not run the schedule {row.name!r}: {problem}",
            hint="Edit or delete it in admin, or keep what it names.",
            id="jobs.W005",
        )
        for row in rows
        if (problem := problem_of(partial(try_out, row))) is not None
    ]


def try_out(row: Schedule) -> None:
    rhythm_of(row)
    draft_of(row, timezone.now())


def problem_of(attempt: Callable[[], None]) -> str | None:
    """What is wrong with a schedule that is tried; None where nothing is."""
    try:
        attempt()
    except (ValueError, RecursionError) as error:
        return str(error)
    return None


def unsupported(alias: str) -> str | None:
    """Why the queue cannot live in that database; None when it can."""
    vendor = connections[alias].vendor
    if vendor not in SESSIONS:
        return UNSUPPORTED.format(alias=alias, vendor=connections[alias].display_name)
    if vendor == "sqlite":
        from outbox.lite.fitness import too_old

        if (problem := too_old()) is not None:
            return f"{problem.text} {problem.hint}"
    return None


@register("jobs")
def check_tasks_setting(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """TASKS names JobsBackend, and nothing here reads TASKS. What is in TASKS, the backend itself checks."""
    named = [
        alias
        for alias, params in (getattr(django_settings, "TASKS", None) or {}).items()
        if params.get("BACKEND") == "jobs.backend.JobsBackend"
    ]
    if not named or any(find_spec(package) for package in ("django.tasks", "django_tasks")):
        return []
    return [
        Error(
            f"TASKS[{named[0]!r}] uses JobsBackend, and Django {django.__version__} has no tasks.",
            hint='Upgrade to Django 6.0, or: pip install "django-outbox-jobs[tasks]" and add "django_tasks" to'
            " INSTALLED_APPS.",
            id="jobs.E012",
        )
    ]
