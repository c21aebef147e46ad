"""Every row of an application, to put back and to compare.

It takes a database alias; it leaves the rows as they are. What a run cannot help doing differently (the numbers a
sequence gives, the time it is) is made alike before two snapshots are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from django.apps import apps
from django.db import connections, models, router, transaction
from django.utils import timezone

from jobs.envelope import loads
from outbox.models import Message

OURS = {"outbox", "jobs"}
"""Apps whose tables say what the machine did, not the application. Of the outbox the messages count: jobs enqueued."""


class Snapshot(NamedTuple):
    """The rows of each table, by the model's label; a row is a dict of columns."""

    rows: dict[str, list[dict[str, Any]]]


def tables(alias: str) -> list[type[models.Model]]:
    """The models whose tables are looked at."""
    return [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed
        and not model._meta.proxy
        and router.allow_migrate_model(alias, model)
        and (model._meta.app_label not in OURS or model is Message)
    ]


def columns(model: type[models.Model]) -> list[Any]:
    """The fields of its own table: those of a parent model are the parent's."""
    return [field for field in model._meta.local_concrete_fields if not getattr(field, "generated", False)]


def take(alias: str) -> Snapshot:
    """Read all rows."""
    rows = {}
    with transaction.atomic(using=alias):
        for model in tables(alias):
            names = [field.attname for field in columns(model)]
            rows[model._meta.label] = list(model._base_manager.using(alias).order_by("pk").values(*names))
    return Snapshot(rows)


def put_back(alias: str, snapshot: Snapshot) -> None:
    """Make the tables hold these rows and no others, in one transaction."""
    connection = connections[alias]
    with connection.constraint_checks_disabled(), transaction.atomic(using=alias):
        with connection.cursor() as cursor:
            for model in tables(alias):
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")
        for model in tables(alias):
            for row in snapshot.rows[model._meta.label]:
                model(**row).save_base(raw=True, using=alias, force_insert=True)


def differences(expected: Snapshot, found: Snapshot, *, since: datetime, ignore: Collection[str]) -> list[str]:
    """What is in the one and not in the other, a line each."""
    lines = []
    alike_expected, alike_found = alike(expected, since, ignore), alike(found, since, ignore)
    for label, rows in alike_expected.items():
        missing, extra = rows - alike_found[label], alike_found[label] - rows
        lines += [f"{label}: missing {_shown(row)}" for row in missing.elements()]
        lines += [f"{label}: extra {_shown(row)}" for row in extra.elements()]
    return lines


def alike(snapshot: Snapshot, since: datetime, ignore: Collection[str]) -> dict[str, Counter[Any]]:
    """The rows as they compare: numbers a sequence gave as their place in the table, new times as one time."""
    places = {
        label: {row[_pk(label)]: place for place, row in enumerate(rows)} for label, rows in snapshot.rows.items()
    }
    return {
        label: Counter(_messages(rows) if label == Message._meta.label else _rows(label, rows, places, since, ignore))
        for label, rows in snapshot.rows.items()
    }


def _rows(
    label: str, rows: list[dict[str, Any]], places: dict[str, dict[Any, int]], since: datetime, ignore: Collection[str]
) -> list[Any]:
    fields = [field for field in columns(apps.get_model(label)) if f"{label}.{field.name}" not in ignore]
    return [
        tuple((field.name, repr(_value(field, row[field.attname], places, since))) for field in fields) for row in rows
    ]


def _value(field: Any, value: Any, places: dict[str, dict[Any, int]], since: datetime) -> Any:
    if isinstance(value, datetime):
        moment = timezone.make_aware(value) if timezone.is_naive(value) else value
        return "(now)" if moment >= since else value
    if isinstance(field, models.AutoField):
        return places[field.model._meta.label].get(value, value)
    if isinstance(field, models.ForeignKey):
        target = field.remote_field.model._meta.label
        return places.get(target, {}).get(value, value)
    return value


def _messages(rows: list[dict[str, Any]]) -> list[Any]:
    """The jobs that were enqueued: by what they are to do, and those of one idempotency key once."""
    keyed = {row["uid"]: row for row in rows if "key" in loads(row["headers"])}
    others = [row for row in rows if row["uid"] not in keyed]
    return [(("headers", row["headers"]), ("body", row["body"])) for row in [*keyed.values(), *others]]


def _pk(label: str) -> str:
    return str(apps.get_model(label)._meta.pk.attname)


def _shown(row: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in row)[:500]
