"""Each migration leaves the release before working, and holds no table for long: the law for all that come.

What runs under load on real rows is `python -m tests.trust R31`; two releases beside each other are R22.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.postgres.operations import AddConstraintNotValid, AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.models.functions import Now
from django.db.models.functions.math import Random

from tests.support.migrating import refused

APPS = ("outbox", "jobs")

REVIEWED = {
    ("outbox", "0002_storage"): "ALTER TABLE ... SET: a lock that lets everybody read and write",
    ("jobs", "0002_storage"): "the same",
}
"""RunPython and RunSQL that somebody has read, and why they are harmless."""

BEFORE_THE_FIRST_RELEASE = {
    ("jobs", "0003_callbacks_and_keys", "AddIndex"),
    ("jobs", "0006_events", "AddIndex"),
}
"""Not to be added to. R31 has measured these on a million rows."""

RETIRED: set[tuple[str, str]] = set()
"""("jobs.job.column", "the release that no longer names it"): what may be removed since a later one."""


def every() -> list[Any]:
    loader = MigrationLoader(None)
    found = []
    for key in sorted(key for key in loader.graph.nodes if key[0] in APPS):
        state = loader.project_state([parent.key for parent in loader.graph.node_map[key].parents], at_end=True)
        created: set[str] = set()
        for operation in loader.graph.nodes[key].operations:
            found.append(
                pytest.param(
                    key, operation, state.clone(), frozenset(created), loader.graph.nodes[key].atomic,
                    id=f"{key[0]}.{key[1]}: {operation.describe()}",
                )
            )  # fmt: skip
            if isinstance(operation, migrations.CreateModel):
                created.add(operation.name.lower())
            operation.state_forwards(key[0], state)
    return found


@pytest.mark.parametrize(("key", "operation", "before", "created", "atomic"), every())
def test_the_release_before_goes_on(
    key: tuple[str, str], operation: Any, before: Any, created: frozenset[str], atomic: bool
) -> None:
    if isinstance(operation, migrations.RunPython) and key in REVIEWED:
        return
    if (*key, type(operation).__name__) in BEFORE_THE_FIRST_RELEASE:
        return
    retired = f"{key[0]}.{getattr(operation, 'model_name', '')}.{getattr(operation, 'name', '')}"
    if isinstance(operation, migrations.RemoveField) and any(name == retired for name, _ in RETIRED):
        return

    assert refused(operation, key[0], before, created=created, atomic=atomic) == ""


HOT = {"message", "job", "finishedjob", "key"}
"""Their tables are written together by one statement or another."""

BOTH = ("jobs", "0003_callbacks_and_keys")
"""From before the first release."""


def test_a_migration_takes_one_hot_table() -> None:
    """Whoever ends a job takes the queue and the history, in the one order or, once the statement is prepared, in the
    other. A migration that has locked one and waits for the other would meet it in a deadlock."""
    for key, migration in MigrationLoader(None).graph.nodes.items():
        created = {each.name.lower() for each in migration.operations if isinstance(each, migrations.CreateModel)}
        touched = {getattr(operation, "model_name", "") for operation in migration.operations} & HOT - created
        assert key[0] not in APPS or len(touched) < 2 or key == BOTH, (key, touched)


@pytest.mark.parametrize("app", APPS)
def test_migrations_are_one_line_in_order(app: str) -> None:
    names = sorted(key[1] for key in MigrationLoader(None).graph.nodes if key[0] == app)

    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    assert all(re.fullmatch(r"\d{4}_[a-z_]+", name) and "auto" not in name for name in names)
    files = Path(__file__).parent.parent.joinpath(app, "migrations").glob("0*.py")
    assert sorted(path.stem for path in files) == names


def test_every_migration_can_be_taken_back() -> None:
    graph = MigrationLoader(None).graph
    for key in graph.nodes:
        if key[0] in APPS:
            assert all(operation.reversible for operation in graph.nodes[key].operations), key


INDEX = models.Index(fields=["task"], name="jobs_by_task")
CHECK = models.CheckConstraint(condition=models.Q(lease__gte=0), name="jobs_lease")


def text(**options: Any) -> models.Field[Any, Any]:
    return models.CharField(**{"max_length": 10, **options})


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (migrations.AddField("job", "more", text(null=True)), ""),
        (migrations.AddField("job", "more", text(default="", db_default="")), ""),
        (migrations.AddField("job", "more", text(default="")), "give it a db_default"),
        (migrations.AddField("job", "more", models.DateTimeField(db_default=Now())), ""),
        (migrations.AddField("job", "more", models.FloatField(db_default=Random())), "written anew"),
        (migrations.AlterField("job", "task", models.CharField(max_length=200, help_text="words")), ""),
        (migrations.AlterField("job", "task", models.CharField(max_length=300)), ""),
        (migrations.AlterField("job", "task", models.CharField(max_length=100)), "written anew"),
        (migrations.AlterField("job", "task", models.CharField(max_length=200, null=True)), ""),
        (migrations.AlterField("job", "parent", models.UUIDField()), "may write NULL"),
        (migrations.AlterField("job", "version", models.SmallIntegerField(default=1)), "leans on the default"),
        (migrations.AlterField("job", "lease", models.BigIntegerField(default=0)), "written anew"),
        (migrations.AddIndex("job", INDEX), "AddIndexConcurrently"),
        (AddIndexConcurrently("job", INDEX), ""),
        (migrations.RemoveIndex("job", "jobs_ready"), "RemoveIndexConcurrently"),
        (RemoveIndexConcurrently("job", "jobs_ready"), ""),
        (migrations.AddConstraint("job", CHECK), "AddConstraintNotValid"),
        (AddConstraintNotValid("job", CHECK), ""),
        (migrations.RemoveConstraint("job", "jobs_job_live"), ""),
        (migrations.RemoveField("job", "origin"), "a release later"),
        (migrations.DeleteModel("Stat"), "a release later"),
        (migrations.RenameField("job", "origin", "source"), "old name"),
        (migrations.RenameModel("Job", "Work"), "old name"),
        (migrations.AlterModelTable("job", "work"), "old name"),
        (migrations.RunPython(migrations.RunPython.noop), "REVIEWED"),
        (migrations.RunSQL("SELECT 1"), "REVIEWED"),
        (migrations.AlterOrderWithRespectTo("attempt", "job"), "not known to be harmless"),
    ],
    ids=lambda value: value.describe() if hasattr(value, "describe") else value,
)
def test_what_would_stop_others_is_refused(operation: Any, said: str) -> None:
    concurrent = isinstance(operation, AddIndexConcurrently | RemoveIndexConcurrently)
    state = MigrationLoader(None).project_state()

    why = refused(operation, "jobs", state, atomic=not concurrent)

    assert said in why and bool(why) == bool(said)
    if concurrent:
        assert "atomic = False" in refused(operation, "jobs", state, atomic=True)
    if type(operation) is migrations.AddIndex:
        assert not refused(operation, "jobs", state, created={"job"}, atomic=True)
