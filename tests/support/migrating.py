"""What a migration may do while the release before still works: the law, read from the operations themselves.

Producers and workers of the release before run on, so nothing they name may go or change its meaning, and nothing may
hold a lock over a table for as long as its rows take to read. `refused` says what is wrong with an operation; empty
when nothing is.
"""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.operations import AddConstraintNotValid, AddIndexConcurrently, RemoveIndexConcurrently
from django.db import connection, migrations, models
from django.db.migrations.state import ProjectState
from django.db.models.functions import Now

QUIET = (
    migrations.CreateModel,
    migrations.AlterModelOptions,
    migrations.AlterModelManagers,
    migrations.RemoveConstraint,
    AddIndexConcurrently,
    AddConstraintNotValid,
    RemoveIndexConcurrently,
)
"""They read no rows of a table that is there, and nobody misses anything."""


def refused(
    operation: Any, app: str, before: ProjectState, *, created: frozenset[str] | set[str] = frozenset(), atomic: bool
) -> str:
    """What is wrong with it. `created`: models made by the same migration, which nobody uses yet."""
    named = getattr(operation, "model_name", getattr(operation, "name", "")).lower()
    if isinstance(operation, AddIndexConcurrently | RemoveIndexConcurrently) and atomic:
        return "it cannot run in a transaction: say atomic = False in the migration, and nothing else in it"
    if isinstance(operation, QUIET) or (named in created and not isinstance(operation, migrations.RunPython)):
        return ""
    match operation:
        case migrations.AddField():
            return _added(operation)
        case migrations.AlterField():
            old = before.models[app, named].get_field(operation.name)
            return _altered(old, operation.field)
        case migrations.AddIndex():
            return "it locks the table while it reads all rows: AddIndexConcurrently, in a migration of its own"
        case migrations.AddConstraint():
            return "it locks the table while it reads all rows: AddConstraintNotValid, and ValidateConstraint later"
        case migrations.RemoveIndex():
            return "it waits for everybody with everybody behind it: RemoveIndexConcurrently"
        case migrations.RemoveField() | migrations.DeleteModel():
            return "the release before still names it: stop naming it now, and remove it a release later (see RETIRED)"
        case migrations.RenameField() | migrations.RenameModel() | migrations.AlterModelTable():
            return "the release before knows the old name: add the new one beside it, and retire the old one"
        case migrations.RunPython() | migrations.RunSQL():
            return "nobody can tell what it does: have it reviewed, and put it into REVIEWED with the reason"
    return f"{type(operation).__name__} is not known to be harmless"


def _added(operation: migrations.AddField) -> str:
    field: Any = operation.field
    if field.null or (field.has_db_default() and _constant(field)):
        return ""
    if field.has_db_default():
        return "its default is another for each row, so the table is written anew: let it be null, and fill it later"
    return "an INSERT of the release before does not name it: let it be null, or give it a db_default"


def _constant(field: Any) -> bool:
    """The server then keeps it once for all rows that are there: also the time of the statement."""
    default = field.db_default
    return isinstance(default, Now) or isinstance(getattr(default, "value", default), str | int | float | bool)


def _altered(old: Any, new: Any) -> str:
    """Only what PostgreSQL need not look at the rows for."""
    if old.null and not new.null:
        return "it reads all rows under a lock, and the release before may write NULL"
    if old.has_db_default() and not new.has_db_default():
        return "an INSERT of the release before leans on the default"
    was, becomes = (field.db_parameters(connection)["type"] for field in (old, new))
    longer = isinstance(old, models.CharField) and isinstance(new, models.CharField)
    if longer and (new.max_length is None or (old.max_length is not None and new.max_length >= old.max_length)):
        return ""
    return "" if was == becomes else f"from {was} to {becomes} the table may be written anew, under a lock"
