"""Whether the tables are those this code knows: what a worker asks before it starts."""

from __future__ import annotations

from django.apps import apps

from outbox import faults
from outbox.session import Query, session_on

TABLES = ("outbox_message", "jobs_job", "jobs_finishedjob", "jobs_worker")

THERE = "SELECT to_regclass(name) IS NOT NULL FROM unnest(%s::text[]) AS name"

MISSING = """SELECT 1 FROM unnest(%s::text[], %s::text[]) AS named(tab, col)
WHERE NOT EXISTS (SELECT 1 FROM pg_attribute AS a WHERE a.attrelid = to_regclass(tab) AND a.attname = col) LIMIT 1"""

NO_TABLES, NO_DATABASE, NO_COLUMNS = 3, 4, 5


def look(alias: str) -> int:
    """Whether the tables are there, with all their columns: 0, NO_TABLES, NO_COLUMNS or NO_DATABASE."""
    session = session_on(alias, statement_timeout=5)
    try:
        found = session.run(Query(THERE, (list(TABLES),)))
        if not all(row[0] for row in found):
            return NO_TABLES
        known = (model for app in ("outbox", "jobs") for model in apps.get_app_config(app).get_models())
        named = [(model._meta.db_table, field.column) for model in known for field in model._meta.local_concrete_fields]
        missing = session.run(Query(MISSING, tuple(map(list, zip(*named, strict=True)))))
    except faults.ANY:
        return NO_DATABASE
    return NO_COLUMNS if missing else 0
