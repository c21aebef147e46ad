"""The backend for django.tasks: declaring, options, settings, checks. What Django documents is in tests/conformance."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import django
import pytest
from django.conf import settings
from django.test import override_settings
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

if not settings.TASKS:
    pytest.skip("Django before 6.0 without django-tasks has no tasks", allow_module_level=True)

import jobs
from jobs.backend import JobsBackend, JobsTask, declared
from jobs.backend.api import PACKAGE, InvalidTask, exceptions
from jobs.backend.api import tasks as api
from jobs.declare import registry
from jobs.declare import task as native_task
from jobs.discover import for_workers, our_aliases
from jobs.early import catch_up, early
from jobs.errors import InvalidArguments, TooDeep
from jobs.models import FinishedJob, State
from jobs.testing import run_jobs
from outbox.models import Message
from tests import django_tasks
from tests.support.declared import as_it_was
from tests.support.side_file import SideFile

ONLY_DECORATED = pytest.mark.skipif(
    PACKAGE == "django.tasks" and django.VERSION < (6, 1), reason="Django 6.0's decorator takes only Django's options"
)
OURS: dict[str, Any] = {"BACKEND": "jobs.backend.JobsBackend"}


def send(to: str) -> str:
    return to


async def asend(to: str) -> str:
    return to


def generate() -> Iterator[int]:
    yield 1


class Sender:
    @staticmethod
    def send(to: str) -> str:
        return to


@pytest.fixture(autouse=True)
def the_registry_as_it_was() -> Iterator[None]:
    with as_it_was():
        yield


def headers(message: Message | None = None) -> dict[str, Any]:
    from jobs.envelope import loads

    return dict(loads((message or Message.objects.get()).headers))


def problems(params: dict[str, Any]) -> list[str]:
    return [f"{message.id} {message.msg} {message.hint}" for message in JobsBackend("x", params).check()]


# Declaring ------------------------------------------------------------------------------------------------------------


def test_a_declared_task_is_registered_under_its_path_and_nothing_else_is() -> None:
    known = registry["tests.django_tasks.add"]

    assert known.func.__wrapped__ is django_tasks.add.func
    assert isinstance(django_tasks.add, JobsTask)
    assert "tests.test_backend.send" not in registry


def test_every_option_of_our_own_decorator_is_an_option_of_djangos() -> None:
    import inspect
    from dataclasses import fields

    ours = set(inspect.signature(native_task).parameters) - {"func", "name"}
    djangos = {field.name for field in fields(JobsTask)}
    per_job = {name for name in inspect.signature(jobs.Task.using).parameters if name != "self"}

    assert ours <= djangos
    assert set(declared.POLICY) == ours - {"takes_context", "priority", "queue_name"}
    assert per_job <= set(inspect.signature(JobsTask.using).parameters)


@ONLY_DECORATED
@pytest.mark.django_db
def test_the_decorator_takes_the_options_of_a_task() -> None:
    made = api.task(
        priority="high", max_attempts=3, timeout=20, backoff=[1, 2], retry_on=OSError, never_retry_on=[KeyError],
        source_name="mailing", at_most_once=True, version=2, upgrade={1: lambda to: (to,)}, redact=["to"],
    )(send)  # fmt: skip

    known = registry["tests.jobs.test_backend.send"]
    made.enqueue("a@example.com")

    assert (known.timeout, known.backoff, known.retry_on, known.never_retry_on) == (20, (1, 2), (OSError,), (KeyError,))
    assert (known.at_most_once, known.version, known.redact) == (True, 2, ("to",))
    assert headers() == {
        "v": 1, "task": "tests.jobs.test_backend.send", "queue": "default", "priority": 50, "max_attempts": 3,
        "version": 2, "at_most_once": True, "source_name": "mailing",
    }  # fmt: skip


@ONLY_DECORATED
@pytest.mark.django_db
def test_the_decorator_takes_callbacks_and_a_condition() -> None:
    after = api.task(asend)
    asked: list[str] = []
    made = api.task(
        on_success=after.callback("owner@example.com"), only_if=lambda to: asked.append(to) is None and to != "nobody"
    )(send)

    wanted, unwanted = made.enqueue("a@example.com"), made.enqueue("nobody")
    run_jobs()

    jobs_of = {str(job.pk): job for job in FinishedJob.objects.all()}
    assert sorted(asked) == ["a@example.com", "nobody"]
    assert (jobs_of.pop(wanted.id).state, jobs_of.pop(unwanted.id).state) == ("succeeded", "cancelled")
    (called,) = jobs_of.values()
    assert (called.task, called.state, str(called.parent)) == (after.module_path, "succeeded", wanted.id)


@pytest.mark.django_db
def test_a_copy_takes_callbacks_and_a_key_that_holds_for_a_time() -> None:
    made = django_tasks.add.using(idempotency_key="k", until="finished", on_complete=django_tasks.add.callback(3, 4))

    first, second = made.enqueue(1, 2), made.enqueue(1, 2)
    assert first.id == second.id
    run_jobs()
    assert made.enqueue(1, 2).id != first.id

    assert sorted(FinishedJob.objects.values_list("result", flat=True)) == ["3", "7"]
    with pytest.raises(InvalidTask, match="until="):
        django_tasks.add.using(until="never").enqueue(1, 2)


@ONLY_DECORATED
@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (send, {"max_attempts": 0}, "whole number from 1"),
        (send, {"max_attempts": 99}, "MAX_ATTEMPTS_LIMIT"),
        (send, {"timeout": -1}, "timeout=-1"),
        (send, {"backoff": "soon"}, "backoff="),
        (send, {"priority": "urgent"}, '"low", "default", "high"'),
        (send, {"source_name": "no spaces"}, "source_name="),
        (send, {"retry_on": "OSError"}, "exception classes"),
        (asend, {"atomic": True}, "async def"),
        (asend, {"at_most_once": True}, "async def"),
        (generate, {}, "generator"),
    ],
)
def test_a_wrong_option_is_djangos_invalid_task_and_registers_nothing(
    function: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidTask, match=said):
        api.task(**options)(function)

    assert f"tests.jobs.test_backend.{function.__name__}" not in registry


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        api.task(max_attemps=3)(send)


def test_a_task_of_a_script_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "__module__", "__main__")

    with pytest.raises(InvalidTask, match=r"tasks\.py"):
        api.task(send)


def test_a_static_method_is_a_function_too() -> None:
    made = api.task(Sender.send)

    assert made.module_path == "tests.jobs.test_backend.Sender.send"
    assert registry[made.module_path].check_call(("x",), {}) is None


def test_the_same_function_for_both_decorators_is_two_tasks_of_one_name() -> None:
    native_task(send)

    with pytest.raises(InvalidTask, match="two functions are named"):
        api.task(send)


def test_a_task_declared_before_any_model_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.apps import apps

    monkeypatch.setattr(apps, "models_ready", False)
    made = api.task(send)
    assert made.module_path not in registry and len(early) == 1

    monkeypatch.undo()
    catch_up()

    assert made.module_path in registry and not early


def test_the_backend_loads_without_models() -> None:
    import subprocess

    code = (
        "from django.conf import settings;"
        "settings.configure(TASKS={'default': {'BACKEND': 'jobs.backend.JobsBackend'}});"
        f"from {PACKAGE} import task_backends; print(type(task_backends['default']).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "JobsBackend", done.stderr


# Using ----------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_using_takes_the_options_of_one_job() -> None:
    due = timezone.now() + timedelta(days=1)
    task = django_tasks.add.using(
        priority="low", max_attempts=4, source_name="night", run_after=due, queue_name="mail", idempotency_key="k"
    )

    first, second = task.enqueue(1), task.enqueue(1)

    assert first.id == second.id
    assert headers(Message.objects.first()) == {
        "v": 1, "task": "tests.django_tasks.add", "queue": "mail", "priority": -50, "max_attempts": 4,
        "source_name": "night", "run_after": due.isoformat(), "key": "k",
    }  # fmt: skip
    assert headers_of(django_tasks.add.enqueue(1)) == {
        "v": 1, "task": "tests.django_tasks.add", "queue": "default", "priority": 0, "max_attempts": 1,
    }  # fmt: skip


def headers_of(result: Any) -> dict[str, Any]:
    return headers(Message.objects.get(uid=result.id))


@pytest.mark.django_db
def test_delay_counts_from_the_insert_and_run_after_takes_a_timedelta() -> None:
    delayed = django_tasks.add.using(delay=5)
    at = django_tasks.add.using(run_after=timedelta(minutes=1))

    assert headers_of(delayed.enqueue(1))["delay"] == 300.0
    assert "delay" not in headers_of(delayed.using(run_after=at.run_after).enqueue(1))
    assert "run_after" not in headers_of(at.using(delay=timedelta(seconds=1)).enqueue(1))
    assert timedelta(seconds=50) < at.run_after - timezone.now() <= timedelta(minutes=1)
    with pytest.raises(InvalidTask, match="one of the two"):
        django_tasks.add.using(delay=1, run_after=timedelta(minutes=1))
    with pytest.raises(InvalidTask, match="delay=-1"):
        django_tasks.add.using(delay=-1)


def test_using_refuses_what_belongs_to_the_task() -> None:
    for option in ("timeout", "backoff", "atomic", "at_most_once", "retry_on"):
        with pytest.raises(TypeError):
            django_tasks.add.using(**{option: 1})


@pytest.mark.django_db
@override_settings(USE_TZ=False)
def test_without_time_zones_run_after_is_local_time() -> None:
    made = django_tasks.add.using(run_after=datetime(2030, 1, 1))

    assert headers_of(made.enqueue(1))["run_after"].startswith("2030-01-01T00:00:00+")


# Enqueueing -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((float("nan"),), {}, "nan"),
        (("\x00",), {}, "NUL"),
        (({1: 2},), {}, "keys must be str"),
        ((datetime(2030, 1, 1),), {}, "isoformat"),
        ((b"\xff",), {}, "bytes"),
        ((), {}, "missing a required argument"),
        ((1, 2), {}, "too many positional"),
        ((1,), {"nonsense": 1}, "nonsense"),
    ],
)
def test_what_json_would_change_or_the_function_not_take_is_refused(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(InvalidArguments, match=said):
        django_tasks.echo.enqueue(*args, **kwargs)

    assert not Message.objects.exists()


@pytest.mark.django_db
def test_enqueue_many_writes_all_or_none() -> None:
    results = django_tasks.add.enqueue_many([(1, 2), {"a": 3}, ()][:2], idempotency_keys=["a", "b"])

    assert [(result.args, result.kwargs) for result in results] == [([1, 2], {}), ([], {"a": 3})]
    assert {str(uid) for uid in Message.objects.values_list("uid", flat=True)} == {result.id for result in results}
    with pytest.raises(InvalidArguments, match="Call 1"):
        django_tasks.add.enqueue_many([(1,), 2])
    with pytest.raises(InvalidTask, match="enqueue_many"):
        django_tasks.add.using(backend="dummy").enqueue_many([(1,)])
    assert Message.objects.count() == 2


@pytest.mark.django_db
def test_enqueue_on_commit_is_enqueue_because_the_job_is_in_the_transaction() -> None:
    result = django_tasks.add.enqueue_on_commit(1, b=2)

    assert str(Message.objects.get().uid) == result.id


@pytest.mark.django_db
def test_a_chain_without_end_ends() -> None:
    from jobs.context import JobContext, current
    from jobs.ids import new_id

    token = current.set(JobContext(new_id(), "", 1, 1, "x", "default", 0, "x", 100))
    try:
        with pytest.raises(TooDeep):
            django_tasks.add.enqueue(1)
    finally:
        current.reset(token)


@pytest.mark.django_db
def test_without_a_receiver_no_signal_is_sent(monkeypatch: pytest.MonkeyPatch, side_file: SideFile) -> None:
    from jobs.backend.api import signals
    from jobs.backend.hearers import hears, logger

    monkeypatch.setattr(signals.task_enqueued, "send", None)  # calling it would be an error
    logger.setLevel("INFO")
    django_tasks.add.enqueue(1)

    logger.setLevel("DEBUG")
    with pytest.raises(TypeError):
        django_tasks.add.enqueue(1)
    logger.setLevel("NOTSET")
    assert not hears(signals.task_finished, 5)
    django_tasks.listen()
    assert hears(signals.task_finished, 5)
    django_tasks.stop_listening()


@pytest.mark.django_db(databases=["default", "other"])
def test_options_database_and_defaults_are_those_of_the_alias(settings: Any) -> None:
    settings.TASKS = {**settings.TASKS, "elsewhere": {**OURS, "OPTIONS": {"DATABASE": "other", "MAX_ATTEMPTS": 2}}}
    moved = django_tasks.add.using(backend="elsewhere")

    result = moved.enqueue(1)

    message = Message.objects.using("other").get()
    assert str(message.uid) == result.id and headers(message)["max_attempts"] == 2
    assert moved.get_result(result.id).status == "READY"
    assert headers_of(django_tasks.add.using(backend="eager").enqueue(1))["max_attempts"] == 3
    assert headers_of(django_tasks.add.using(backend="eager", max_attempts=5).enqueue(1))["max_attempts"] == 5


@pytest.mark.django_db
def test_settings_say_the_options_of_a_task_that_is_not_ones_own(settings: Any) -> None:
    said = {"max_attempts": 5, "timeout": 7, "source_name": "theirs", "retry_on": OSError}
    path = "tests.jobs.test_backend.send"
    settings.TASKS = {**settings.TASKS, "default": {**OURS, "OPTIONS": {"MAX_ATTEMPTS": 2, "TASKS": {path: said}}}}

    made = api.task(send)

    assert (registry[path].timeout, registry[path].retry_on) == (7, (OSError,))
    assert headers_of(made.enqueue("x"))["max_attempts"] == 5
    assert headers_of(made.using(max_attempts=1).enqueue("x"))["max_attempts"] == 1
    assert headers_of(made.enqueue("x"))["source_name"] == "theirs"


# What workers know ----------------------------------------------------------------------------------------------------


def a_module(name: str, **values: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(values)
    sys.modules[name] = module
    return module


def test_a_task_of_another_backend_is_adopted_by_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    other = api.task(backend="immediate")(send)
    monkeypatch.setitem(sys.modules, "theirs", a_module("theirs", send_mail=other))
    assert other.module_path not in registry

    for_workers()

    assert registry[other.module_path].func.__wrapped__ is send


def test_what_is_lazy_in_a_module_is_not_woken_to_see_whether_it_is_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """`django.contrib.admin.site` is one: without admin in INSTALLED_APPS the worker would not start."""

    def refuse() -> None:
        raise LookupError("No installed app with label 'admin'.")

    module = ModuleType("somebody_elses_admin")
    module.site = SimpleLazyObject(refuse)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)

    for_workers()


def test_modules_named_in_settings_are_imported_by_workers(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wsgiref.validate", raising=False)
    settings.TASKS = {"default": {**OURS, "OPTIONS": {"MODULES": ["wsgiref.validate"]}}}

    for_workers()

    assert "wsgiref.validate" in sys.modules
    assert our_aliases() == ["default"]


def test_a_project_without_our_backend_pays_nothing(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.TASKS = {"default": {"BACKEND": "no.such.Backend"}}

    for_workers()

    assert our_aliases() == []


# Checks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"MAX_ATTEMPT": 3}, "E011 TASKS['x'] has 'MAX_ATTEMPT'"),
        ({"OPTIONS": {"TIMEOUTS": 3}}, "has 'TIMEOUTS'"),
        ({"MAX_ATTEMPTS": 99}, "MAX_ATTEMPTS_LIMIT"),
        ({"OPTIONS": {"TIMEOUT": "soon"}}, "timeout='soon'"),
        ({"BACKOFF": []}, "BACKOFF"),
        ({"QUEUES": ["default", "nowhere"]}, "JOBS = {\"QUEUES\": ['default', 'mail', 'nowhere', 'reports']}"),
        ({"QUEUES": []}, "allows any name"),
        ({"OPTIONS": {"DATABASE": "nowhere"}}, "settings.DATABASES has"),
        ({"OPTIONS": {"MODULES": ["no.such.module"]}}, "cannot be imported"),
        ({"OPTIONS": {"TASKS": {"a.b": {"attempts": 1}}}}, "'attempts'"),
    ],
)
def test_check_finds_a_wrong_setting(params: dict[str, Any], said: str) -> None:
    found = problems({**OURS, **params})

    assert len(found) == 1 and said in found[0], found


def test_check_finds_nothing_wrong_with_a_full_setting() -> None:
    options = {"DATABASE": "default", "MODULES": ["tests.django_tasks"], "TASKS": {"a.b": {"timeout": 1}}}

    assert (
        problems({**OURS, "QUEUES": ["mail"], "MAX_ATTEMPTS": 2, "BACKOFF": [1], "TIMEOUT": 3, "OPTIONS": options})
        == []
    )


def test_check_warns_about_a_task_that_a_worker_may_never_import(settings: Any) -> None:
    api.task(send)

    (found,) = api.task_backends["default"].check()
    settings.TASKS = {"default": {**OURS, "OPTIONS": {"MODULES": ["tests.jobs.test_backend"]}}}

    assert found.id == "jobs.W010" and "tests.jobs.test_backend.send" in found.msg and "MODULES" in found.hint
    assert api.task_backends["default"].check() == []


def test_check_wants_the_two_apps(settings: Any) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "outbox"]

    (found,) = problems(OURS)

    assert "jobs.E010" in found and "'outbox'" in found


def test_check_says_when_django_has_no_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs import checks

    assert checks.check_tasks_setting() == []
    monkeypatch.setattr(checks, "find_spec", lambda name: None)

    (found,) = checks.check_tasks_setting()
    assert found.id == "jobs.E012" and "django-outbox-jobs[tasks]" in (found.hint or "")


# A row cannot bring code ----------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_result_never_imports_what_its_row_names() -> None:
    from tests.factories import FinishedJobFactory

    sys.modules.pop("antigravity", None)
    row = FinishedJobFactory(task="antigravity.fly", state=State.SUCCEEDED, result="1")

    with pytest.raises(exceptions.TaskResultDoesNotExist):
        api.task_backends["default"].get_result(str(row.id))
    assert "antigravity" not in sys.modules
    assert FinishedJob.objects.count() == 1
