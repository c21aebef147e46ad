"""What a row says is data: nothing is imported, unpickled or evaluated, and secrets stay out of the logs."""

from __future__ import annotations

import ast
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from jobs.claim import Claimed
from jobs.conf import jobs_settings
from jobs.declare import registry
from jobs.envelope import unpack_body
from jobs.errors import InvalidArguments
from jobs.execute import execute
from jobs.finish import tell
from jobs.ids import new_id
from jobs.intake import accept
from jobs.models import FinishedJob, Job
from outbox.models import Message, SetAsideMessage
from outbox.relay import step
from outbox.session import Session
from tests import tasks
from tests.factories import JobFactory, MessageFactory
from tests.support.committing import _django_db_helper, on_default  # noqa: F401
from tests.support.observer import observer
from tests.support.processes import ROOT, Program

CANARY = "canary-5f2b"

SOURCES = [path for house in ("jobs", "outbox") for path in sorted((ROOT / house).rglob("*.py"))]
TEMPLATES = [path for house in ("jobs", "outbox") for path in sorted((ROOT / house).rglob("*.html"))]

FORBIDDEN_MODULES = {
    "pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "jsonpickle", "code",
    "codeop", "runpy", "imp", "pydoc", "xmlrpc",
}  # fmt: skip
FORBIDDEN_NAMES = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "mark_safe",
    "SafeString",
    "SafeText",
    "import_string",
    "locate",
}
# By file: what it may do all the same, because no row is near it.
ALLOWED = {
    ("jobs/lazy.py", "import_module"),  # a package's own names, from a constant
    ("jobs/backend/api.py", "import_module"),  # Django's own tasks or the package of that name, from constants
    ("jobs/backend/settings.py", "import_module"),  # what settings.TASKS names
    ("jobs/discover.py", "import_module"),  # the same
    ("jobs/discover.py", "import_string"),
    ("outbox/session.py", "import_string"),  # the session of a vendor, from constants
    ("outbox/ask.py", "import_module"),  # rooms of our own, from constants
    ("outbox/lite/book.py", "import_module"),  # the same
    ("jobs/admin.py", "SafeString"),  # a type for annotations; format_html makes them
}

DANGEROUS = [
    "os.system",
    "subprocess.check_call",
    "subprocess.Popen",
    "builtins.eval",
    "antigravity",
    "this",
    "tests.tasks.append",
    "tests.support.processes.Program",
    "jobs.declare.registry",
    "__main__",
    "importlib.import_module",
]


def names_used(tree: ast.AST) -> Iterator[str]:
    """The names of everything that is called or imported, or passed on by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            if not (isinstance(node.value, ast.Name) and node.value.id == "re"):
                yield node.attr
        elif isinstance(node, ast.ImportFrom | ast.Import):
            yield from (alias.name for alias in node.names)


def modules_imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_can_turn_data_into_code(path: Path) -> None:
    tree = ast.parse(path.read_text())
    name = str(path.relative_to(ROOT))

    forbidden = FORBIDDEN_NAMES | {"import_module"}
    used = {used for used in names_used(tree) if used in forbidden and (name, used) not in ALLOWED}

    assert used == set()
    assert set(modules_imported(tree)) & FORBIDDEN_MODULES == set()


@pytest.mark.parametrize("path", [path for path in SOURCES if "management" not in path.parts], ids=lambda p: p.name)
def test_no_source_starts_a_shell(path: Path) -> None:
    text = path.read_text()

    assert not re.search(r"os\.system|os\.popen|shell=True|os\.exec", text)


def test_templates_escape_everything() -> None:
    for path in TEMPLATES:
        assert not re.search(r"\|\s*safe\b|autoescape\s+off|safeseq", path.read_text()), path


def test_there_are_sources_to_look_at() -> None:
    assert len(SOURCES) > 40


@on_default
def test_relaying_rows_that_name_code_imports_nothing(session: Session) -> None:
    for name in [*DANGEROUS, "../x", "os;system", "a" * 1_000_000, "os.system\n"]:
        headers = {"v": 1, "task": name, "queue": "default"}
        MessageFactory(headers=json.dumps(headers), body='{"args":["touch /tmp/owned"],"kwargs":{}}')
    step(session, accept, 100)
    before = set(sys.modules)

    for job in Job.objects.all():
        assert registry.get(job.task) is None

    assert set(sys.modules) == before
    assert "antigravity" not in sys.modules
    assert {job.task for job in Job.objects.all()} == set(DANGEROUS)
    assert SetAsideMessage.objects.count() == 4


@on_default
def test_a_worker_runs_none_of_the_code_that_rows_name(runworkers: Callable[..., Program], tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    jobs = [
        JobFactory(task=name, arguments=json.dumps({"args": [f"touch {owned}"], "kwargs": {}})) for name in DANGEROUS
    ]
    good = tasks.add.enqueue(1, 2)

    program = runworkers("--burst", "--slots", "1")

    assert program.ended() == 0
    assert good.return_value == 3
    assert not owned.exists()
    assert not FinishedJob.objects.exclude(pk=good.id).exists()
    assert {job.state for job in Job.objects.filter(pk__in=[job.pk for job in jobs])} == {"scheduled"}
    assert str(owned) not in program.said()


@pytest.mark.parametrize(
    "row",
    [
        "gASVIQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAR0cnVllIWUUpQu",
        "cos\nsystem\n(S'true'\ntR.",
        "!!python/object/apply:os.system ['true']",
        "__import__('os').system('true')",
    ],
)
def test_a_body_in_another_format_is_not_read(row: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack_body(row)


# ---------------------------------------------------------------------------------------------------------------
# Secrets.


def a_claimed(task: str, body: str) -> Claimed:
    return Claimed(new_id(), task, "default", 0, body, 1, 7, 0, 0, 1, "", "", 0, 1, False, timezone.now())


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    for name in ("jobs", "outbox"):
        caplog.set_level(logging.DEBUG, name)
    return lambda: caplog.text


@pytest.mark.django_db
def test_no_argument_is_in_a_log_line_of_an_enqueue(everything_logged: Callable[[], str], settings: Any) -> None:
    settings.JOBS = {"WARN_PAYLOAD": 10}

    tasks.echo.enqueue({"password": CANARY})
    tasks.echo.using(idempotency_key="k", delay=5).enqueue({"password": CANARY})
    tasks.echo.enqueue_many([({"password": CANARY},)])

    assert "bytes of JSON" in everything_logged()
    assert CANARY not in everything_logged()


@on_default
@pytest.mark.parametrize(
    "row",
    [
        {},
        {"headers": "{"},
        {"headers": json.dumps({"v": 9, "task": "a", "queue": "default"})},
        {"body": f'["{CANARY}"]'},
        {"body": f'{{"args":["{CANARY}"'},
        {"headers": json.dumps({"v": 1, "task": "a", "queue": "default", "key": "a\x00"})},
        {"headers": json.dumps({"v": 1, "task": "a", "queue": "default", "parent": 5})},
    ],
    ids=lambda row: str(row)[:60],
)
def test_no_argument_is_in_a_log_line_of_the_relay(
    session: Session, everything_logged: Callable[[], str], row: dict[str, str]
) -> None:
    MessageFactory(**{"body": f'{{"args":["{CANARY}"],"kwargs":{{}}}}', **row})

    assert step(session, accept, 10).total == 1

    assert CANARY not in everything_logged()


@pytest.mark.postgresql("a constraint added to a table")
@on_default
def test_no_argument_is_in_the_log_or_the_error_when_the_database_refuses_a_row(
    session: Session, everything_logged: Callable[[], str]
) -> None:
    with observer() as other:
        other.execute("ALTER TABLE jobs_job ADD CONSTRAINT picky CHECK (arguments NOT LIKE '%canary%')")
        try:
            MessageFactory(body=f'{{"args":["{CANARY}"],"kwargs":{{}}}}')
            step(session, accept, 10)
        finally:
            other.execute("ALTER TABLE jobs_job DROP CONSTRAINT picky")

    assert "picky" in SetAsideMessage.objects.get().error
    assert CANARY not in SetAsideMessage.objects.get().error
    assert CANARY not in everything_logged()


@on_default
def test_no_argument_is_in_what_the_relay_command_says() -> None:
    out, err = StringIO(), StringIO()
    tasks.echo.enqueue(CANARY)
    MessageFactory(headers="{", body=CANARY)

    call_command("relay", "--once", "--verbosity", "3", stdout=out, stderr=err)

    assert not Message.objects.exists()
    assert CANARY not in out.getvalue() + err.getvalue()


def test_no_argument_is_in_the_log_of_a_job_that_succeeds_fails_or_does_not_fit(
    everything_logged: Callable[[], str],
) -> None:
    calls = [
        ("tests.tasks.echo", f'{{"args":["{CANARY}"],"kwargs":{{}}}}'),
        ("tests.tasks.add", f'{{"args":["{CANARY}",1],"kwargs":{{}}}}'),
        ("tests.tasks.add", f'{{"args":["{CANARY}"],"kwargs":{{}}}}'),
        ("tests.tasks.add", f'{{"args":["{CANARY}"'),
    ]
    for task, body in calls:
        job = a_claimed(task, body)
        outcome = execute(job, registry[task], jobs_settings(), 0.0)
        tell([outcome], {outcome.id})
        assert CANARY not in outcome.traceback
        assert CANARY not in outcome.error

    assert len(re.findall("job [0-9a-f-]{36} of tests.tasks", everything_logged())) == len(calls)
    assert CANARY not in everything_logged()


@pytest.mark.parametrize(
    "call",
    [
        lambda: tasks.echo.enqueue({"password": CANARY, "other": {1}}),
        lambda: tasks.echo.enqueue([CANARY, float("nan")]),
        lambda: tasks.echo.enqueue(f"{CANARY}\x00"),
        lambda: tasks.add.enqueue(CANARY),
        lambda: tasks.echo.enqueue(CANARY * 1_000_000),
    ],
)
def test_no_value_is_in_the_text_of_a_refusal(call: Callable[[], Any]) -> None:
    with pytest.raises(InvalidArguments) as caught:
        call()

    assert CANARY not in str(caught.value)
