"""What a worker calls for a Django task: the context, the signals, the retries, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.conf import settings

if not settings.TASKS:
    pytest.skip("Django before 6.0 without django-tasks has no tasks", allow_module_level=True)

from django.db import connection, transaction

from jobs.afterwards import Afterwards, afterwards
from jobs.backend import call
from jobs.backend.api import PACKAGE, signals
from jobs.backend.api import tasks as api
from jobs.backend.hearers import logger
from jobs.context import JobContext, current
from jobs.declare import registry
from jobs.models import Attempt, FinishedJob, LogLine
from outbox.session import Session
from tests import django_tasks
from tests.models import Effect
from tests.support.declared import as_it_was
from tests.support.here import run_all
from tests.support.side_file import SideFile
from tests.support.wait import wait_until

ONLY_DECORATED = pytest.mark.skipif(
    PACKAGE == "django.tasks" and django.VERSION < (6, 1), reason="Django 6.0's decorator takes only Django's options"
)


@pytest.fixture(autouse=True)
def the_registry_as_it_was() -> Iterator[None]:
    with as_it_was():
        yield
    django_tasks.stop_listening()
    assert not call.standing and not afterwards.waiting


@pytest.fixture
def quiet() -> Iterator[None]:
    """Django's log of tasks writes nothing."""
    logger.setLevel("ERROR")
    yield
    logger.setLevel("NOTSET")


seen: list[Any] = []


def wait_and_see(exception: BaseException, task_result: Any) -> float | None:
    seen.append((type(exception).__name__, task_result))
    return None if task_result.attempts == 3 else 0.0


def refuse(why: str) -> None:
    raise django_tasks.Refused(why)


async def arefuse(why: str) -> None:
    raise django_tasks.Refused(why)


def make_effect(context: Any, note: str) -> int:
    Effect.objects.create(job=context.job.job_id, note=note)
    django_tasks.leave_mark.enqueue(note)
    return context.attempt  # type: ignore[no-any-return]


def progress(context: Any) -> list[Any]:
    context.job.progress(1, 2)
    return [context.job.idempotency_key, context.task_result.task.name, context.attempt]


def test_signals_tell_of_every_try_and_once_of_the_end(session: Session, side_file: SideFile) -> None:
    django_tasks.listen()
    result = django_tasks.fail_until.enqueue(3)

    run_all(session)

    assert [line.split()[0] + line.split()[4] for line in side_file.lines()] == [
        "enqueued0", "started1", "started2", "started3", "finished3",
    ]  # fmt: skip
    result.refresh()
    assert result.return_value == {"attempt": 3, "errors": 2, "workers": 3}


def test_no_signal_and_no_result_is_made_where_nobody_hears(
    quiet: None, session: Session, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(call, "_stand", None)  # calling it would be an error
    result = django_tasks.add.enqueue(1, b=2)
    other = django_tasks.async_add.enqueue(1, 2)

    with django_assert_num_queries(0):  # ours go over another connection
        run_all(session)

    result.refresh()
    other.refresh()
    assert (result.return_value, other.return_value) == (3, 3)


def test_djangos_log_says_it_and_the_job_does_not_keep_it(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    from jobs.hear import Ear
    from jobs.notebook import notebook

    notebook.take()
    caplog.set_level("INFO", logger=logger.name)
    ear = Ear("INFO")
    logger.addHandler(ear)
    try:
        django_tasks.add.enqueue(1, b=2)
        django_tasks.refuse.enqueue("because")
        run_all(session)
    finally:
        logger.removeHandler(ear)

    records = [record for record in caplog.records if record.name == logger.name]
    said = [(record.levelname, record.getMessage().split()[-1]) for record in records]
    started, ended = ("INFO", "state=RUNNING"), [("INFO", "state=SUCCESSFUL"), ("ERROR", "state=FAILED")]
    assert said == [started, ended[0], started, ended[1]]
    failure = records[-1]
    assert failure.exc_info is not None and failure.exc_info[0] is django_tasks.Refused
    assert not notebook and not LogLine.objects.exists()


def test_a_receiver_that_raises_harms_no_job(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    def bad(**_: Any) -> None:
        raise RuntimeError("receiver")

    signals.task_started.connect(bad)
    signals.task_finished.connect(bad)
    try:
        result = django_tasks.add.enqueue(1, b=2)
        run_all(session)
    finally:
        signals.task_started.disconnect(bad)
        signals.task_finished.disconnect(bad)

    result.refresh()
    assert result.return_value == 3
    assert sum("receiver" in str(record.exc_info) for record in caplog.records) == 2


def test_a_job_enqueued_by_a_receiver_knows_where_it_comes_from(session: Session) -> None:
    def follow(task_result: Any, **_: Any) -> None:
        if task_result.task.name == "add":
            django_tasks.echo.enqueue(current.get().job_id.hex)  # type: ignore[union-attr]

    signals.task_finished.connect(follow)
    try:
        result = django_tasks.add.enqueue(1)
        run_all(session)
        run_all(session)
    finally:
        signals.task_finished.disconnect(follow)

    (child,) = FinishedJob.objects.exclude(pk=result.id)
    assert str(child.parent) == result.id and child.depth == 1


@ONLY_DECORATED
@pytest.mark.parametrize("function", [refuse, arefuse])
def test_a_backoff_function_gets_the_exception_and_the_result(session: Session, function: Any) -> None:
    seen.clear()
    result = api.task(max_attempts=5, backoff=wait_and_see)(function).enqueue("no")

    run_all(session)

    assert [(name, r.attempts, len(r.errors), r.status, r.args, r.id) for name, r in seen] == [
        ("Refused", n, n, "FAILED", ["no"], result.id) for n in (1, 2, 3)
    ]
    assert seen[-1][1].errors[-1].exception_class is django_tasks.Refused
    result.refresh()
    assert (result.status, result.attempts, Attempt.objects.count()) == ("FAILED", 3, 3)


@ONLY_DECORATED
def test_after_a_kill_the_backoff_function_gets_what_is_left() -> None:
    from jobs.conf import jobs_settings
    from jobs.errors import TimedOut
    from jobs.ids import new_id
    from jobs.outcome import retry_wait

    seen.clear()
    made = api.task(max_attempts=5, backoff=wait_and_see)(refuse)
    context = JobContext(new_id(), "", 2, 5, made.module_path, "default", 0, "x", 0)

    wait = retry_wait(registry[made.module_path], TimedOut("killed"), context, jobs_settings())

    ((name, result),) = seen
    assert (wait, name, result.attempts, result.errors[-1].exception_class) == (0.0, "TimedOut", 2, TimedOut)


@ONLY_DECORATED
def test_an_atomic_django_task_commits_all_or_nothing(session: Session, side_file: SideFile) -> None:
    django_tasks.listen()
    good = api.task(atomic=True, takes_context=True)(make_effect).enqueue("one")

    run_all(session)

    good.refresh()
    assert good.return_value == 1
    assert Effect.objects.get().note == "one" and side_file.count("one") == 1
    finished = [line for line in side_file.lines() if line.startswith(f"finished {good.id}")]
    assert len(finished) == 1 and "stored=SUCCESSFUL" in finished[0]


def test_the_context_has_ours_beside_it(session: Session) -> None:
    task = api.task(takes_context=True)(progress)
    result, keyed = task.enqueue(), task.using(idempotency_key="k").enqueue()

    run_all(session)

    result.refresh()
    keyed.refresh()
    assert result.return_value == [result.id, "progress", 1]
    assert keyed.return_value == ["k", "progress", 1]


@pytest.mark.parametrize("level", ["ERROR", "INFO"])
def test_bytes_become_text_as_django_has_it(session: Session, quiet: None, level: str) -> None:
    logger.setLevel(level)  # whether anybody hears or not
    result, given = django_tasks.answer_bytes.enqueue(), django_tasks.echo.enqueue(b"caf\xc3\xa9")

    run_all(session)

    result.refresh()
    given.refresh()
    assert (result.return_value, given.return_value) == (["café"], "café")


def test_a_result_that_was_too_large_says_so_in_the_signal_too(session: Session, settings: Any) -> None:
    settings.JOBS = {**settings.JOBS, "MAX_RESULT": 10}
    results: list[Any] = []

    def keep(task_result: Any, **_: Any) -> None:
        results.append(task_result)

    signals.task_finished.connect(keep)
    try:
        django_tasks.echo.enqueue("x" * 100)
        run_all(session)
    finally:
        signals.task_finished.disconnect(keep)

    assert results[0].status == "SUCCESSFUL"
    with pytest.raises(ValueError, match="MAX_RESULT"):
        results[0].return_value  # noqa: B018


def test_assert_idempotent_takes_the_job_task_of_a_django_task(transactional_db: None) -> None:
    from jobs.testing import assert_idempotent

    assert assert_idempotent(django_tasks.add, 1, 2) > 0
    connection.close()


@pytest.mark.django_db
def test_the_test_helpers_take_a_django_task_and_send_its_signals(side_file: SideFile) -> None:
    from jobs.testing import assert_enqueued, assert_not_enqueued, enqueued, run_jobs

    django_tasks.listen()
    result = django_tasks.add.enqueue(1, b=2)
    assert_enqueued(django_tasks.add, 1, 2, times=1)
    assert_not_enqueued(django_tasks.echo)
    assert [str(job.id) for job in enqueued(django_tasks.add)] == [result.id]

    with transaction.atomic():
        run_jobs()

    result.refresh()
    assert result.return_value == 3
    assert [line.split()[0] for line in side_file.lines()] == ["enqueued", "started", "finished"]


def test_what_is_said_afterwards_is_said_in_order_by_a_thread_that_harms_nobody() -> None:
    from tests.support.floor import a_claimed, outcome

    said: list[int] = []
    here = Afterwards()
    here.begin(lambda: 1, lambda: None)
    jobs = [a_claimed() for _ in range(4)]
    for n, job in enumerate(jobs):
        here.waiting[job.id, job.lease] = lambda o, n=n: said.append(n if n != 1 else 1 // 0) if o else said.append(-n)

    here.written([outcome(job, "succeeded") for job in jobs], {job.id for job in jobs[:3]})
    wait_until(lambda: 2 in said)
    here.end()

    assert sorted(said) == [-3, 0, 2] and not here.waiting
    assert here._thread is not None and not here._thread.is_alive()


def test_the_wrapper_costs_microseconds(quiet: None) -> None:
    wrapped, plain = registry["tests.django_tasks.add"].func, django_tasks.add.func
    token = current.set(JobContext(call.UUID(int=1), "", 1, 1, "x", "default", 0, "x", 0, 1, 1))

    def best(function: Any) -> float:
        times = []
        for _ in range(20):
            began = time.perf_counter()
            for _ in range(500):
                function(1, 2)
            times.append(time.perf_counter() - began)
        return min(times) / 500

    try:
        assert best(wrapped) - best(plain) < 20e-6
    finally:
        current.reset(token)
