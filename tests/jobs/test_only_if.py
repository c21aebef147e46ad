"""A condition that is asked after the delay, just before the job would run. Rows P13 and P88."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from django.db import connection

from jobs import task
from jobs.atomic import execute_atomic
from jobs.claim import Claimed
from jobs.context import JobContext, current
from jobs.declare import registry
from jobs.errors import InvalidArguments, InvalidTask, TimeLimit
from jobs.execute import execute, execute_async
from jobs.intake import accept
from jobs.models import Attempt, FinishedJob, Job
from jobs.outcome import Outcome
from outbox.models import Message
from outbox.relay import step
from outbox.session import Session
from tests import tasks
from tests.models import Effect
from tests.support.floor import DEFAULTS, a_claimed, a_task, claim, conclude
from tests.support.side_file import SideFile

pytest_plugins = ["tests.support.ours"]

ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


def run(func: Any, only_if: Any, job: Claimed | None = None, **options: Any) -> Outcome:
    return execute(
        job or a_claimed(max_attempts=3), a_task(func, only_if=only_if, **options), DEFAULTS, time.monotonic()
    )


def arun(func: Any, only_if: Any, **options: Any) -> Outcome:
    job, asked = a_claimed(max_attempts=3), a_task(func, only_if=only_if, **options)
    return asyncio.run(execute_async(job, asked, DEFAULTS, time.monotonic(), lambda: False))


def work(*args: Any, **kwargs: Any) -> str:
    ran.append((args, kwargs))
    return "done"


async def awork(*args: Any, **kwargs: Any) -> str:
    return work(*args, **kwargs)


def test_yes_runs_it() -> None:
    assert run(work, lambda: True).state == "succeeded"
    assert ran == [((), {})]


@pytest.mark.parametrize("no", [False, None, 0, ""])
def test_no_cancels_it_uncalled_and_uncharged(no: Any) -> None:
    ended = run(work, lambda: no)

    assert (ended.state, ended.error, ended.attempts, ended.kind) == ("cancelled", "only_if said no", 0, "")
    assert ended.started is None
    assert ran == []


def test_what_it_raises_is_a_failed_attempt_by_the_policy_of_the_task() -> None:
    def broken() -> bool:
        raise ConnectionError("away")

    ended = run(work, broken, backoff=(7,))
    assert (ended.state, ended.attempts, ended.kind) == ("retrying", 1, "failed")
    assert ended.error == "ConnectionError: away" and "broken" in ended.traceback
    assert run(work, broken, never_retry_on=(ConnectionError,)).state == "dead"
    assert ran == []


def test_at_its_limit_while_it_is_asked_the_process_goes() -> None:
    def slow() -> bool:
        raise TimeLimit

    with pytest.raises(TimeLimit):
        run(work, slow)
    assert current.get() is None


def test_it_is_given_the_arguments_and_the_context_if_it_asks_for_it() -> None:
    given: list[Any] = []

    def condition(a: int, *, b: int) -> bool:
        return bool(given.append((a, b))) or True

    def with_context(context: JobContext, a: int, b: int) -> bool:
        return bool(given.append((context.job_id, a, b))) or True

    job = a_claimed(arguments='{"args":[1],"kwargs":{"b":2}}')
    run(work, condition, job)
    run(work, with_context, job)

    assert given == [(1, 2), (job.id, 1, 2)]
    assert ran == [((1,), {"b": 2})] * 2


def test_a_task_with_a_context_has_a_condition_without_one() -> None:
    def contextual(context: JobContext, a: int) -> int:
        return work(a) and context.attempt

    job = a_claimed(arguments='{"args":[1],"kwargs":{}}')

    assert run(contextual, lambda a: a == 1, job, takes_context=True).result == "1"
    assert run(contextual, lambda a: a == 2, job, takes_context=True).state == "cancelled"
    assert ran == [((1,), {})]


def test_in_the_condition_the_job_is_the_current_one() -> None:
    job = a_claimed()

    assert run(work, lambda: current.get() is not None, job).state == "succeeded"


async def later(answer: bool) -> bool:
    await asyncio.sleep(0)
    return answer


@pytest.mark.parametrize("answer", [True, False])
def test_of_an_async_task_it_may_be_either(answer: bool) -> None:
    async def condition() -> bool:
        return await later(answer)

    state = "succeeded" if answer else "cancelled"
    assert arun(awork, condition).state == state
    assert arun(awork, lambda: answer).state == state
    assert len(ran) == 2 * answer


def test_of_an_async_task_a_plain_one_may_use_the_orm(ours: Session) -> None:
    def condition() -> bool:
        try:
            return not Effect.objects.exists()
        finally:
            connection.close()  # of this thread, as the slot does

    assert arun(awork, condition).state == "succeeded"


def test_of_an_atomic_task_it_is_asked_in_its_transaction(ours: Session) -> None:
    tasks.noop.enqueue()
    step(ours, accept, 1)
    (job,) = claim(ours, 1)
    asked = a_task(lambda n=0: work(), atomic=True, only_if=lambda n=0: connection.in_atomic_block and False)

    left = execute_atomic(job, asked, DEFAULTS, time.monotonic(), 1)

    assert left is not None and conclude(ours, [left]) == {job.id}
    assert (FinishedJob.objects.get().state, ran) == ("cancelled", [])


def test_send_later_unless_done(ours: Session, side_file: SideFile) -> None:
    """The recipe: the reminder waits, the thing is done meanwhile, nothing is sent."""
    done, open_ = tasks.remind.using(delay=60).enqueue("done"), tasks.remind.using(delay=60).enqueue("open")
    step(ours, accept, 10)
    assert Job.objects.filter(state="scheduled").count() == 2 and side_file.lines() == []
    Job.objects.update(state="ready")
    Effect.objects.create(note="done")
    try:
        for job in claim(ours, 2):
            conclude(ours, [execute(job, registry[job.task], DEFAULTS, time.monotonic())])
    finally:
        Effect.objects.all().delete()

    ended = {job.id: (job.state, job.error, job.attempts, job.lease) for job in FinishedJob.objects.all()}
    assert ended == {done.id: ("cancelled", "only_if said no", 0, 1), open_.id: ("succeeded", "", 1, 1)}
    assert sorted(side_file.lines()) == ["done asked", "open asked", "open reminded"]
    assert not Attempt.objects.exists()
    assert sorted('"cancelled"' in body for body in Message.objects.values_list("body", flat=True)) == [False, True]


def test_called_here_and_now_it_is_not_asked(ours: Session, side_file: SideFile) -> None:
    tasks.remind.call("x")

    assert side_file.lines() == ["x reminded"]


# Refused where it is written ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["shop.tasks.is_open", 3, True, tasks.noop, type])
def test_a_condition_is_a_function(wrong: Any) -> None:
    with pytest.raises(InvalidTask, match=r"only_if=.*give a function"):
        task(only_if=wrong)(declared)


def test_of_a_plain_task_it_is_a_plain_function() -> None:
    with pytest.raises(InvalidTask, match="its condition must be one"):
        task(only_if=later)(declared)


def declared(a: int) -> None:
    """Never registered: what it is declared with is refused."""


def test_a_call_that_the_condition_cannot_take_is_refused_at_enqueue(ours: Session) -> None:
    asked = a_task(lambda a, b=1: None, only_if=lambda a: True)
    asked.enqueue(1)

    with pytest.raises(InvalidArguments, match=r"only_if of tests\.a_task\(a\) cannot be called like this"):
        asked.enqueue(1, 2)
    assert Message.objects.count() == 1
