"""A handle tells where its job is, in every home."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from jobs import JobHandle
from jobs.errors import JobDoesNotExist, JobsError, ResultMissing
from jobs.intake import accept
from jobs.models import FinishedJob, Job, State
from outbox.models import Message
from outbox.relay import step
from outbox.session import Session
from tests import tasks
from tests.factories import FinishedJobFactory, JobFactory, MessageFactory, SetAsideMessageFactory
from tests.support.committing import BOTH, _django_db_helper, on_both, on_default  # noqa: F401

rolled_back = pytest.mark.django_db(databases=BOTH)


def a_handle(job_id: UUID) -> JobHandle[Any]:
    return JobHandle(job_id, tasks.echo, "default")


@rolled_back
@pytest.mark.parametrize(
    ("factory", "given", "state"),
    [
        (JobFactory, {}, State.READY),
        (JobFactory, {"scheduled": True}, State.SCHEDULED),
        (JobFactory, {"running": True}, State.RUNNING),
        (JobFactory, {"retrying": True}, State.RETRYING),
        (FinishedJobFactory, {}, State.SUCCEEDED),
        (FinishedJobFactory, {"state": "dead"}, State.DEAD),
        (FinishedJobFactory, {"state": "cancelled"}, State.CANCELLED),
    ],
)
def test_where_a_job_is(factory: Any, given: dict[str, Any], state: State) -> None:
    handle = a_handle(factory(**given).id)

    assert handle.status is state
    assert handle.is_finished == (factory is FinishedJobFactory)


@rolled_back
@pytest.mark.parametrize(
    ("factory", "state"), [(MessageFactory, State.WRITTEN), (SetAsideMessageFactory, State.SET_ASIDE)]
)
def test_where_a_message_is(factory: Any, state: State) -> None:
    handle = a_handle(factory().uid)

    assert handle.status is state
    assert not handle.is_finished
    assert (handle.attempts, handle.error) == (0, "")


@on_default
def test_it_follows_the_job_from_home_to_home(session: Session) -> None:
    with transaction.atomic():
        handle = tasks.noop.enqueue()
        states = [handle.status]
    step(session, accept, 10)
    states.append(handle.status)
    handle.refresh()
    states.append(handle.status)
    Job.objects.all().delete()
    FinishedJobFactory(id=handle.id, result="5")
    async_to_sync(handle.arefresh)()
    states.append(handle.status)

    assert states == [State.WRITTEN, State.WRITTEN, State.READY, State.SUCCEEDED]
    assert handle.return_value == 5


@on_default
def test_a_rolled_back_job_is_nowhere() -> None:
    with transaction.atomic():
        handle = tasks.noop.enqueue()
        transaction.set_rollback(True)

    with pytest.raises(JobDoesNotExist, match="its transaction was rolled back, or it was discarded or pruned"):
        handle.refresh()
    with pytest.raises(LookupError):
        handle.status  # noqa: B018


@on_both
def test_a_message_in_another_database_is_looked_for_there() -> None:
    handle = tasks.noop.using(database="other").enqueue()

    assert handle.status is State.WRITTEN


@rolled_back
@pytest.mark.parametrize(
    ("text", "value"),
    [("null", None), ("5", 5), ("1e+16", 1e16), ('{"b":1,"a":[-0.0]}', {"b": 1, "a": [-0.0]}), ('"ä"', "ä")],
)
def test_what_the_task_returned(text: str, value: Any) -> None:
    returned = a_handle(FinishedJobFactory(result=text).id).return_value

    assert (returned, type(returned), str(returned)) == (value, type(value), str(value))


@rolled_back
@pytest.mark.parametrize(
    ("factory", "given", "said"),
    [
        (JobFactory, {}, "it is ready. Call refresh\\(\\) later"),
        (JobFactory, {"running": True}, "it is running"),
        (FinishedJobFactory, {"state": "dead", "result": None}, "it is dead"),
        (FinishedJobFactory, {"state": "cancelled", "result": None}, "it is cancelled"),
        (FinishedJobFactory, {"result": None, "error": "its result was not kept: a set"}, "not kept: a set"),
        (FinishedJobFactory, {"result": None}, "succeeded, but its result was not kept"),
    ],
)
def test_a_result_that_is_not_there_is_an_error_that_says_why(factory: Any, given: dict[str, Any], said: str) -> None:
    handle = a_handle(factory(**given).id)

    with pytest.raises(ResultMissing, match=said):
        handle.return_value  # noqa: B018


@rolled_back
def test_attempts_and_the_last_error() -> None:
    handle = a_handle(JobFactory(retrying=True, attempts=2, error="ValueError: no").id)

    assert (handle.attempts, handle.error) == (2, "ValueError: no")


@rolled_back
def test_a_job_that_is_pruned_under_a_handle_is_no_riddle() -> None:
    handle = a_handle(FinishedJobFactory().id)
    assert handle.return_value is None
    FinishedJob.objects.all().delete()

    with pytest.raises(JobDoesNotExist):
        handle.refresh()
    with pytest.raises(JobsError):
        handle.return_value  # noqa: B018


@rolled_back
def test_what_it_knows_is_as_of_the_last_look(django_assert_num_queries: Any) -> None:
    handle = a_handle(FinishedJobFactory(result="5").id)
    handle.refresh()

    with django_assert_num_queries(0):
        assert (handle.status, handle.return_value, handle.attempts, handle.error) == (State.SUCCEEDED, 5, 1, "")


@rolled_back
@pytest.mark.parametrize("spelled", [str, UUID, lambda job_id: str(job_id).upper()])
def test_a_job_enqueued_earlier_is_found_by_its_id(spelled: Any) -> None:
    job = FinishedJobFactory(result='"done"')

    handle = tasks.echo.get_result(spelled(str(job.id)))

    assert (handle.id, handle.status, handle.return_value) == (job.id, State.SUCCEEDED, "done")


@rolled_back
def test_an_id_of_nothing() -> None:
    with pytest.raises(JobDoesNotExist):
        tasks.echo.get_result(uuid4())
    with pytest.raises(ValueError, match="UUID"):
        tasks.echo.get_result("5")


@rolled_back
def test_two_handles_of_one_job_are_equal() -> None:
    job_id = uuid4()

    assert a_handle(job_id) == a_handle(job_id)
    assert len({a_handle(job_id), a_handle(job_id), a_handle(uuid4())}) == 2
    assert a_handle(job_id) != job_id


@rolled_back
def test_its_text_names_the_job_and_asks_nobody(django_assert_num_queries: Any) -> None:
    handle = a_handle(JobFactory().id)

    with django_assert_num_queries(0):
        assert repr(handle) == f"<JobHandle {handle.id} tests.tasks.echo not looked up>"
    handle.refresh()
    assert repr(handle) == f"<JobHandle {handle.id} tests.tasks.echo ready>"


@rolled_back
def test_a_handle_keeps_its_id_whatever_is_done_to_it() -> None:
    handle = tasks.noop.enqueue()

    with pytest.raises(AttributeError):
        handle.note = "x"  # type: ignore[attr-defined]
    assert Message.objects.get().uid == handle.id
