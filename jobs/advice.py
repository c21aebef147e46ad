"""`manage.py check`, second half: what is allowed and will hurt, found in the tasks and in the databases."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Info, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router

from jobs.conf import jobs_settings
from jobs.declare import registry
from jobs.envelope import check_json
from jobs.tasks import Task
from outbox.conf import outbox_settings
from outbox.models import Message

POOLER_PORTS = {"6432"}


@register("jobs")
def check_tasks(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """Defaults that a caller could not pass."""
    return [
        checks.Warning(
            f"{task.name}: the default of {name!r} {problem}. Whoever passes such a value to enqueue() is refused.",
            hint="Use None as the default, and make the value in the task.",
            id="jobs.W002",
        )
        for task in registry.values()
        for name, problem in _defaults(task)
    ]


def _defaults(task: Task[Any, Any]) -> Iterator[tuple[str, str]]:
    for name, parameter in inspect.signature(task.func).parameters.items():
        if parameter.default is not parameter.empty and (problem := check_json(parameter.default, "")) is not None:
            yield name, problem.strip()


@register("jobs")
def check_transactions(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """REQUIRE_TRANSACTION, and views that have none."""
    try:
        required = outbox_settings().REQUIRE_TRANSACTION
    except (ImproperlyConfigured, TypeError):
        return []  # check_settings has said so
    alias = router.db_for_write(Message)
    if required and alias in connections.settings and not connections[alias].settings_dict["ATOMIC_REQUESTS"]:
        return [
            Info(
                f'OUTBOX["REQUIRE_TRANSACTION"] is on and DATABASES[{alias!r}] has no ATOMIC_REQUESTS: a view that'
                " enqueues outside transaction.atomic() raises TransactionRequired.",
                hint="Wrap these views in transaction.atomic(), or set ATOMIC_REQUESTS.",
                id="jobs.I001",
            )
        ]
    return []


@register("jobs")
def check_pooler(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """LISTEN through PgBouncer, which forgets it."""
    try:
        notify, alias = outbox_settings().NOTIFY, jobs_settings().DATABASE
    except (ImproperlyConfigured, TypeError):
        return []
    if not notify or alias not in connections.settings:
        return []
    given = connections[alias].settings_dict
    host, port = str(given.get("HOST") or ""), str(given.get("PORT") or "")
    if port not in POOLER_PORTS and "pgbouncer" not in host.lower():
        return []
    return [
        checks.Warning(
            f"DATABASES[{alias!r}] looks like PgBouncer ({host or 'local'}:{port}), and OUTBOX has NOTIFY on: LISTEN"
            " and prepared statements do not work through transaction pooling.",
            hint='Set OUTBOX = {"NOTIFY": False}; with session pooling, silence this check.',
            id="jobs.W003",
        )
    ]


@register(Tags.database)
def check_tables(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """With `check --database`: the tables of queue and outbox, where others are migrated already."""
    try:
        wanted = {jobs_settings().DATABASE: "jobs_job", router.db_for_write(Message): "outbox_message"}
    except (ImproperlyConfigured, TypeError):
        return []
    found: list[CheckMessage] = []
    for alias, table in wanted.items():
        if alias in (databases or ()) and alias in connections.settings:
            try:
                tables = connections[alias].introspection.table_names()
            except DatabaseError:
                continue  # Django says that it cannot be reached
            if table not in tables and "django_migrations" in tables:
                found.append(
                    checks.Warning(
                        f"The database {alias!r} has no table {table}: jobs can be neither enqueued nor run.",
                        hint=f"Run `manage.py migrate --database {alias}`; a router must allow it in allow_migrate.",
                        id="jobs.W004",
                    )
                )
    return found
