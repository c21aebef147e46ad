"""Callbacks: other jobs that follow an ending, one with the outcome that calls for them. Rows B4, P87 and D2."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from jobs import operate
from jobs.atomic import execute_atomic
from jobs.board import Board
from jobs.callback import Callback
from jobs.claim import Claimed
from jobs.conf import JobsSettings
from jobs.context import JobContext, current
from jobs.envelope import unpack_body, unpack_headers
from jobs.errors import InvalidArguments, InvalidOption, PayloadTooLarge, TooDeep
from jobs.finish import finish
from jobs.ids import id_for_key, new_id
from jobs.intake import accept
from jobs.models import FinishedJob, Job
from jobs.orders import Orders
from jobs.outcome import Happened, Trouble
from jobs.pump import Pump
from jobs.rescue import Watch, carry_out
from jobs.verdict import Fated
from outbox.models import Message, SetAsideMessage
from outbox.relay import Moved, step
from outbox.session import Query, Session
from tests import tasks
from tests.factories import WorkerFactory, in_home
from tests.support.floor import DEFAULTS, a_task, broken, claim, conclude, outcome
from tests.support.sql import a_cursor

pytest_plugins = ["tests.support.ours"]

SETTINGS = JobsSettings()

by_success = tasks.tell_end.callback("well")
by_failure = tasks.tell_end.callback("badly")
by_end = tasks.tell_end.callback("anyway")

calling = tasks.noop.using(on_success=by_success, on_failure=by_failure, on_complete=by_end, max_attempts=2)

WELL, BADLY, CANCELLED = ["anyway", "well"], ["anyway", "badly"], ["anyway"]


def marks() -> list[str]:
    """The first argument of each callback in the outbox."""
    return sorted(unpack_body(body)[0][0] for body in Message.objects.values_list("body", flat=True))


def accepted(session: Session, *handles: Any) -> None:
    assert step(session, accept, 100).set_aside == 0
    assert not Message.objects.exists()


def running(session: Session, task: Any = calling, **claiming: Any) -> Claimed:
    """A job with callbacks that worker 1 has claimed as 11."""
    task.enqueue()
    accepted(session)
    (job,) = claim(session, 1, **claiming)
    return job


def told(message: Message) -> dict[str, Any]:
    return dict(unpack_body(message.body)[1]["ended"])


# Every way a job ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("happened", "details", "called"),
    [
        ("succeeded", {}, WELL),
        ("result_lost", {}, WELL),
        ("failed", {"retry_in": None}, BADLY),
        ("timed_out", {"retry_in": None}, BADLY),
        ("unreadable", {}, BADLY),
        ("cancelled", {}, CANCELLED),
        ("unwanted", {}, CANCELLED),
        ("failed", {"retry_in": 5.0}, []),
        ("timed_out", {"retry_in": 5.0}, []),
        ("crashed", {}, []),
        ("lost", {}, []),
        ("handed_back", {}, []),
        ("unknown", {}, []),
    ],
)
def test_an_end_calls_back_and_what_is_not_an_end_does_not(
    ours: Session, happened: str, details: dict[str, Any], called: list[str]
) -> None:
    job = running(ours)

    assert conclude(ours, [outcome(job, happened, **details)]) == {job.id}

    assert marks() == called
    assert broken(ours) == []


def test_what_a_callback_is_told_and_where_it_came_from(ours: Session) -> None:
    job = running(ours)

    conclude(ours, [outcome(job, "succeeded", result='{"b":1e+16,"a":-0.0,"ö":"\\u0000\\""}')])

    message = Message.objects.get(body__contains='"well"')
    assert message.body == (
        '{"args":["well"],"kwargs":{"ended":{"job_id":"' + str(job.id) + '","task":"tests.tasks.noop",'
        '"outcome":"succeeded","result":{"b":1e+16,"a":-0.0,"ö":"\\u0000\\""},"error":""}}}'
    )
    headers = unpack_headers(message.headers)
    assert (headers.task, headers.parent, headers.depth) == ("tests.tasks.tell_end", job.id, 1)
    assert headers.origin == "on_success of tests.tasks.noop"
    assert message.uid.version == 7


def test_it_is_told_the_error_of_a_death_whatever_is_in_it(ours: Session) -> None:
    job = running(ours)
    error = 'ValueError: "quoted"\\ \u2028 {%s} 100%'

    conclude(ours, [outcome(job, "failed", retry_in=None, trouble=Trouble(error, "Traceback ..."))])

    message = Message.objects.get(body__contains='"badly"')
    assert told(message) == {
        "job_id": str(job.id), "task": "tests.tasks.noop", "outcome": "dead", "result": None, "error": error,
    }  # fmt: skip


def test_a_result_that_was_not_kept_is_null_and_the_error_says_so(ours: Session) -> None:
    job = running(ours)

    conclude(ours, [outcome(job, "succeeded", result=None, trouble=Trouble("its result was not kept"))])

    ended = told(Message.objects.get(body__contains='"well"'))
    assert (ended["outcome"], ended["result"], ended["error"]) == ("succeeded", None, "its result was not kept")


def test_a_callback_whose_function_does_not_ask_is_told_nothing(ours: Session) -> None:
    job = running(ours, tasks.noop.using(on_success=tasks.add.callback(1, b=2)))

    conclude(ours, [outcome(job, "succeeded")])

    assert Message.objects.get().body == '{"args":[1],"kwargs":{"b":2}}'


def test_its_own_options_are_the_ones_it_was_given_with(ours: Session) -> None:
    chosen = tasks.leave_mark.using(priority="high", delay=5, max_attempts=3, source_name="told").callback("x")
    job = running(ours, tasks.noop.using(on_success=chosen))
    conclude(ours, [outcome(job, "succeeded")])

    accepted(ours)

    row = Job.objects.get()
    assert (row.priority, row.max_attempts, row.source_name, row.state) == (50, 3, "told", "scheduled")
    assert row.run_after is not None and 299 < (row.run_after - row.enqueued_at).total_seconds() < 301
    assert (row.parent, row.depth) == (job.id, 1)


def test_a_callback_may_have_callbacks_of_its_own(ours: Session) -> None:
    last = tasks.leave_mark.callback("last")
    job = running(ours, tasks.noop.using(on_success=tasks.leave_mark.using(on_complete=last).callback("first")))
    conclude(ours, [outcome(job, "succeeded")])
    accepted(ours)
    (second,) = claim(ours, 1)

    conclude(ours, [outcome(second, "failed", retry_in=None)])

    headers = unpack_headers(Message.objects.get().headers)
    assert (headers.parent, headers.depth, headers.callbacks) == (second.id, 2, None)
    assert headers.origin == "on_complete of tests.tasks.leave_mark, on_success of tests.tasks.noop"
    assert marks() == ["last"]


def test_a_callback_with_a_key_is_the_job_of_that_key(ours: Session) -> None:
    keyed = tasks.noop.using(on_complete=tasks.leave_mark.using(idempotency_key="order-42").callback("x"))
    keyed.enqueue_many([(), ()])
    accepted(ours)
    for job in claim(ours, 2):
        conclude(ours, [outcome(job, "succeeded")])
    accepted(ours)

    assert [job.id for job in Job.objects.all()] == [id_for_key("tests.tasks.leave_mark", "order-42")]
    assert Job.objects.get().idempotency_key == "order-42"


def test_declared_with_the_task_and_changed_for_a_job(ours: Session) -> None:
    assert tasks.remind.on_complete == tasks.tell_end.callback("reminder")
    assert tasks.remind.using(delay=5).on_complete == tasks.tell_end.callback("reminder")
    assert tasks.remind.using(on_complete=None).on_complete is None
    assert tasks.noop.using(on_failure=tasks.noop).on_failure == Callback(tasks.noop)

    handle = tasks.remind.enqueue("x")
    accepted(ours)

    kept = json.loads(Job.objects.get(pk=handle.id).callbacks or "")
    assert [(each["on"], each["headers"]["task"], each["ended"]) for each in kept] == [
        ("complete", "tests.tasks.tell_end", True)
    ]


def test_in_bulk_each_has_them(ours: Session) -> None:
    calling.enqueue_many([(n,) for n in range(20)])
    tasks.noop.enqueue_many([(n,) for n in range(20)])
    accepted(ours)

    jobs = claim(ours, 40)
    conclude(ours, [outcome(job, "succeeded" if n % 2 else "cancelled") for n, job in enumerate(jobs)])

    assert Message.objects.count() == sum(2 if n % 2 else 1 for n, job in enumerate(jobs) if job.calls_back)
    assert sum(job.calls_back for job in jobs) == 20
    assert FinishedJob.objects.filter(callbacks__isnull=False).count() == 20


# Exactly once for each end -------------------------------------------------------------------------------------------


def test_a_stale_outcome_calls_nobody(ours: Session) -> None:
    stale = running(ours)
    conclude(ours, [outcome(stale, "handed_back")])
    (job,) = claim(ours, 1, worker=2, claimer=22)

    assert conclude(ours, [outcome(stale, "succeeded")]) == set()
    assert marks() == []

    assert conclude(ours, [outcome(job, "succeeded"), outcome(stale, "failed", retry_in=None)], worker=2) == {job.id}
    assert conclude(ours, [outcome(job, "succeeded")], worker=2) == set()
    assert marks() == WELL


def test_rolled_back_with_the_outcome(ours: Session) -> None:
    job = running(ours)
    with suppress(RuntimeError), ours.transaction(durable=False) as raw:
        for query in finish([outcome(job, "succeeded")], 1):
            raw.execute(query.sql, query.params)
        raise RuntimeError

    assert marks() == []
    assert in_home(job.id) == ["jobs_job"]


def test_requeued_and_ended_again_it_calls_again(ours: Session) -> None:
    job = running(ours)
    conclude(ours, [outcome(job, "failed", retry_in=None)])
    accepted(ours)
    Job.objects.all().delete()

    assert operate.requeue([job.id]) == 1
    (again,) = claim(ours, 1)
    conclude(ours, [outcome(again, "succeeded")])

    assert marks() == WELL
    assert step(ours, accept, 10) == Moved(2, 0)
    assert Job.objects.count() == 2


# Every place that ends a job -----------------------------------------------------------------------------------------


def test_cancelled_while_it_waits_by_a_person(ours: Session) -> None:
    handle = calling.using(delay=5).enqueue()
    accepted(ours)

    with transaction.atomic():
        operate.cancel([handle.id], by="anna", reason="no")
        assert marks() == CANCELLED
        transaction.set_rollback(True)
    assert marks() == []

    operate.cancel([handle.id], by="anna", reason="no")

    assert told(Message.objects.get())["error"] == "cancelled by anna: no"
    assert FinishedJob.objects.get(pk=handle.id).error == "cancelled by anna: no"


def test_cancelled_by_the_keeper(ours: Session) -> None:
    job = running(ours)
    operate.cancel([job.id])
    conclude(ours, [outcome(job, "handed_back")])

    Orders(Board(1, 1), channel=None).look(ours, 1)  # type: ignore[arg-type]

    assert marks() == CANCELLED


@pytest.mark.parametrize(("happened", "called"), [("timed_out", BADLY), ("crashed", BADLY), ("cancelled", CANCELLED)])
def test_sentenced_by_the_keeper(ours: Session, happened: str, called: list[str]) -> None:
    job = running(ours, calling.using(max_attempts=1))
    Job.objects.update(crashes=2)

    carry_out(ours, [Fated(str(job.id), job.lease, job.claimer, happened, 1.0, "it is over")], 1, SETTINGS)

    assert marks() == called


def test_lost_for_good_with_its_worker(ours: Session) -> None:
    job = running(ours, calling)
    Job.objects.update(crashes=2, worker=77)
    WorkerFactory(id=1)

    Watch().look(ours, 1, SETTINGS)

    assert marks() == BADLY
    assert in_home(job.id) == ["jobs_finishedjob"]


def test_dead_by_the_promise_of_at_most_once(ours: Session) -> None:
    tasks.once_then_wait_for_file.using(on_failure=by_failure).enqueue("p", "m")
    accepted(ours)
    (job,) = claim(ours, 1)

    conclude(ours, [outcome(job, "crashed")])

    assert marks() == ["badly"]


@pytest.mark.parametrize("ends", ["well", "lease lost", "badly"])
def test_with_the_commit_of_an_atomic_task(ours: Session, ends: str) -> None:
    job = running(ours, calling.using(max_attempts=1))

    def work() -> str:
        if ends == "badly":
            raise ValueError("no")
        if ends == "lease lost":
            conclude(ours, [outcome(job, "handed_back")])
        return "done"

    left = execute_atomic(job, a_task(work, atomic=True), DEFAULTS, time.monotonic(), 1)

    assert marks() == (WELL if ends == "well" else [])
    if left is not None:
        conclude(ours, [left])
        assert marks() == BADLY


def test_an_outcome_that_cannot_be_stored_is_an_end_without_its_callbacks(ours: Session) -> None:
    """Only somebody who writes into the table can spoil them; the job must not run for ever because of it."""
    job = running(ours)
    Job.objects.update(callbacks="no json")
    pump = Pump(Board(1, 1), 0, None, SETTINGS)  # type: ignore[arg-type]
    pump._board.worker = 1
    pump._unwritten = [outcome(job, "succeeded")]
    try:
        pump._exchange(pump._unwritten, 0)
    finally:
        pump._session.close()

    assert in_home(job.id) == ["jobs_finishedjob"]
    assert FinishedJob.objects.get().error == "(its outcome could not be stored)"
    assert marks() == []


def test_discarding_an_ended_job_calls_nobody(ours: Session) -> None:
    job = running(ours)
    conclude(ours, [outcome(job, "cancelled")])
    Message.objects.all().delete()

    assert operate.discard([job.id]) == 1

    assert marks() == []


# A plain job pays nothing --------------------------------------------------------------------------------------------


def test_plain_jobs_are_written_by_the_plain_statements(ours: Session) -> None:
    tasks.noop.enqueue()
    accepted(ours)
    (plain,) = claim(ours, 1)
    job = running(ours)

    for happened in ("succeeded", "cancelled"):
        (short,) = finish([outcome(plain, happened)], 1)
        (long,) = finish([outcome(job, happened)], 1)
        assert "outbox_message" not in short.sql
        assert "outbox_message" in long.sql
    assert not plain.calls_back and job.calls_back
    assert Job.objects.get(pk=plain.id).callbacks is None


# Refused where it is written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [print, "tests.tasks.noop", lambda: None, 3, ("tests.tasks.noop", []), type, tasks.noop.enqueue]
)
@pytest.mark.parametrize("option", ["on_success", "on_failure", "on_complete"])
def test_a_callback_is_a_task(option: str, wrong: Any) -> None:
    with pytest.raises(InvalidOption, match=rf"{option}=.*give a task"):
        tasks.noop.using(**{option: wrong})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tasks.add.callback(1), "missing a required argument: 'b'"),
        (lambda: tasks.add.callback(1, 2, 3), "too many"),
        (lambda: tasks.add.callback(1, b={3}), "set"),
        (lambda: tasks.echo.callback(float("nan")), "JSON cannot say"),
        (lambda: tasks.tell_end.callback("a", ended={}), "'ended' is given by the worker"),
        (lambda: tasks.tell_end.callback(), "missing a required argument: 'mark'"),
        (lambda: tasks.noop.using(on_success=tasks.add), "missing a required argument"),
        (lambda: tasks.remind.callback(1, 2), "too many"),
    ],
)
def test_a_callback_that_could_never_run_is_refused_at_once(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(InvalidArguments, match=said):
        make()


def test_arguments_of_a_callback_that_are_too_large(settings: Any) -> None:
    settings.JOBS = {**settings.JOBS, "MAX_PAYLOAD": 1000}

    with pytest.raises(PayloadTooLarge, match="leave_mark as a callback"):
        tasks.leave_mark.callback("x" * 1000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"unique_for": 60, "idempotency_key": "a"}, "unique_for= and until="),
        ({"until": "finished", "idempotency_key": "a"}, "unique_for= and until="),
        ({"database": "other"}, "Leave database= out"),
    ],
)
def test_options_that_a_callback_cannot_have(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        tasks.noop.using(**options).callback()


@pytest.mark.parametrize(("depth", "levels", "fits"), [(98, 1, True), (99, 1, False), (98, 2, False), (97, 2, True)])
def test_no_callback_would_be_deeper_than_the_limit(ours: Session, depth: int, levels: int, fits: bool) -> None:
    """Rows P11 and A14: a chain of jobs that make jobs ends, by callbacks too."""
    task = tasks.noop
    for _ in range(levels):
        task = tasks.noop.using(on_complete=task)
    token = current.set(JobContext(new_id(), "", 1, 1, "a", "default", 0, "a", depth))
    try:
        if fits:
            task.enqueue()
        else:
            with pytest.raises(TooDeep, match="noop would have a callback that would be job 101"):
                task.enqueue()
    finally:
        current.reset(token)

    assert Message.objects.count() == fits


def test_nor_one_of_a_job_that_no_job_enqueues(ours: Session, settings: Any) -> None:
    settings.JOBS = {**settings.JOBS, "MAX_DEPTH": 1}
    once = tasks.noop.using(on_complete=tasks.noop)
    once.enqueue()

    with pytest.raises(TooDeep, match="job 2 in a chain"):
        tasks.noop.using(on_complete=once.callback()).enqueue()
    assert Message.objects.count() == 1


# What the gate takes from others -------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "on": "success",
    "headers": {"v": 1, "task": "tests.tasks.noop", "queue": "default"},
    "body": {"args": [], "kwargs": {}},
}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        [],
        "x",
        [{}],
        [{**GOOD, "on": "death"}],
        [{**GOOD, "headers": {"task": "a b", "queue": "default"}}],
        [{**GOOD, "headers": None}],
        [{**GOOD, "headers": {**GOOD["headers"], "key": "a", "generation": 1, "until": "finished"}}],
        [{**GOOD, "headers": {**GOOD["headers"], "callbacks": [{}]}}],
        [{**GOOD, "body": {"args": 1, "kwargs": {}}}],
        [{**GOOD, "body": "x"}],
        [{**GOOD, "ended": 1}],
        [{**GOOD, "uid": "x"}],
        [{**GOOD, "uid": 1}],
        [GOOD] * 11,
    ],
)
def test_a_message_with_callbacks_that_are_none_is_set_aside(ours: Session, wrong: Any) -> None:
    headers = {"v": 1, "task": "tests.tasks.noop", "queue": "default", "callbacks": wrong}
    Message.objects.create(uid=new_id(), body='{"args":[],"kwargs":{}}', headers=json.dumps(headers))
    calling.enqueue()

    assert step(ours, accept, 10) == Moved(1, 1)
    assert "not right" in SetAsideMessage.objects.get().error


def test_callbacks_written_by_other_code_are_called(ours: Session) -> None:
    """Only `on`, `headers` and `body` are needed, and blanks do no harm."""
    headers = {"v": 1, "task": "tests.tasks.noop", "queue": "default", "callbacks": [GOOD]}
    Message.objects.create(uid=new_id(), body='{"args":[],"kwargs":{}}', headers=json.dumps(headers, indent=2))
    accepted(ours)
    (job,) = claim(ours, 1)

    conclude(ours, [outcome(job, "succeeded")])

    accepted(ours)
    assert Job.objects.get().parent == job.id


@pytest.mark.postgresql("the statement's own expression for an id")
def test_the_ids_it_makes_are_in_the_order_of_time(ours: Session) -> None:
    with a_cursor() as cursor:
        from jobs.callback import NEW_ID

        cursor.execute(f"SELECT {NEW_ID}, pg_sleep(0.002) FROM generate_series(1, 20)")
        made = [row[0] for row in cursor.fetchall()]
    before, after = new_id(), made[-1]

    assert made == sorted(made) and len(set(made)) == 20
    assert all(isinstance(each, UUID) and each.version == 7 and each.variant == before.variant for each in made)
    assert abs((after.int >> 80) - (before.int >> 80)) < 60_000
    assert ours.glance(Query("SELECT 1")) == [(1,)]


def test_every_way_out_of_running_is_tried_here() -> None:
    tried = {"succeeded", "result_lost", "failed", "timed_out", "unreadable", "cancelled", "unwanted", "crashed"}

    assert {each.value for each in Happened} == tried | {"lost", "handed_back", "unknown"}
