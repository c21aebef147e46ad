"""The status address: nothing to enumerate, nothing that is not the owner's, nothing of what a job carries."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.core.signing import Signer
from django.http import HttpRequest
from django.test import Client
from django.urls import include, path, reverse

from jobs import JobHandle, aget, get
from jobs.errors import JobDoesNotExist, JobsError
from jobs.ids import new_id
from jobs.status import SALT, JobStatus, job_of, token_of
from tests import tasks
from tests.factories import (
    AttemptFactory,
    FinishedJobFactory,
    JobFactory,
    MessageFactory,
    ProgressFactory,
    SetAsideMessageFactory,
)
from tests.support.people import MARKUP, Elements


def only_mail(request: HttpRequest, handle: JobHandle[Any]) -> bool:
    return request.headers.get("X-Who") == "owner"


urlpatterns = [
    path("open/<str:token>/", JobStatus.as_view(), name="open"),
    path("owned/<str:token>/", JobStatus.as_view(allowed=only_mail), name="owned"),
    path("", include("project.urls")),  # its page for what is not found has links
]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


def ask(name: str, token: str, **headers: str) -> Any:
    return Client(headers=headers).get(reverse(name, args=[token]))


def test_a_token_leads_to_its_job_and_nothing_else_does() -> None:
    job = JobFactory()
    token = token_of(job.id)

    assert job_of(token) == job.id
    assert ask("open", token).json()["status"] == "ready"
    wrong = [
        str(job.id), job.id.hex, token[:-1], f"{token}x", token.upper(), token_of(uuid4()), "x", ":",
        Signer(salt="other").sign(job.id.hex), Signer(salt=SALT).sign("nonsense"),
    ]  # fmt: skip
    answers = {(ask("open", each).status_code, ask("open", each).content) for each in wrong}
    assert len(answers) == 1 and answers.pop()[0] == 404


def test_somebody_elses_job_looks_like_one_that_does_not_exist() -> None:
    token = token_of(JobFactory().id)

    theirs, missing = ask("owned", token), ask("owned", token_of(new_id()))

    assert (theirs.status_code, theirs.content) == (missing.status_code, missing.content)
    assert theirs.status_code == 404
    assert ask("owned", token, **{"X-Who": "owner"}).status_code == 200


@pytest.mark.parametrize(
    ("made", "status", "finished"),
    [
        (lambda: MessageFactory().uid, "written", False),
        (lambda: SetAsideMessageFactory().uid, "set_aside", True),
        (lambda: JobFactory(running=True).id, "running", False),
        (lambda: FinishedJobFactory().id, "succeeded", True),
        (lambda: FinishedJobFactory(state="dead", error="canary", arguments="canary").id, "dead", True),
    ],
)
def test_it_says_where_a_job_is_and_nothing_of_what_it_carries(made: Any, status: str, finished: bool) -> None:
    answer = ask("open", token_of(made()))

    assert (answer.json()["status"], answer.json()["finished"]) == (status, finished)
    assert "canary" not in answer.content.decode()
    assert answer["Cache-Control"] == "no-store"


def test_progress_as_json_and_as_a_fragment() -> None:
    job = JobFactory(running=True)
    ProgressFactory(job=job.id, done=30, total=100, text=MARKUP)

    told = ask("open", token_of(job.id)).json()["progress"]
    page = ask("open", token_of(job.id), Accept="text/html").content.decode()

    assert (told["done"], told["total"], told["share"]) == (30, 100, 0.3)
    assert 13 < told["seconds_left"] < 15
    assert 'value="0.3"' in page and 'data-finished="no"' in page and "running" in page
    assert Elements(page).suspicious == []


def test_a_job_that_is_done_is_wholly_done() -> None:
    job = FinishedJobFactory()
    ProgressFactory(job=job.id, done=9, total=10)

    assert ask("open", token_of(job.id)).json()["progress"]["share"] == 1.0


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_only_a_get_is_answered(method: str) -> None:
    job = JobFactory()

    assert getattr(Client(), method)(reverse("open", args=[token_of(job.id)])).status_code == 405


# Handles --------------------------------------------------------------------------------------------------------------


def test_any_job_is_found_by_its_id() -> None:
    job = JobFactory(task=tasks.add.name)
    strange = FinishedJobFactory(task="gone.tasks.old")

    assert get(job.id).task is tasks.add
    assert get(str(strange.id)).task.name == "gone.tasks.old"
    assert "gone.tasks.old" in repr(get(strange.id))
    assert get(MessageFactory().uid).status == "written"
    with pytest.raises(LookupError):
        get(strange.id).task.call()
    with pytest.raises(JobDoesNotExist):
        get(new_id())


@pytest.mark.django_db(transaction=True)
def test_any_job_is_found_by_its_id_from_async_code() -> None:
    job = JobFactory(task=tasks.add.name)

    async def look() -> Any:
        handle = await aget(job.id)
        return handle.task.name, await handle.aerrors(), await handle.aprogress(), await handle.await_end(0.05)

    assert async_to_sync(look)() == (tasks.add.name, [], None, False)


def test_errors_and_progress_of_a_handle() -> None:
    job = JobFactory(retrying=True, attempts=2, max_attempts=5)
    AttemptFactory(job=job.id, lease=2, number=2, error="KeyError: 2", kind="timed_out")
    AttemptFactory(job=job.id, lease=1, number=1, error="KeyError: 1", traceback="Traceback ...")
    handle = get(job.id)

    assert [(error.attempt, error.kind, error.error) for error in handle.errors] == [
        (1, "failed", "KeyError: 1"),
        (2, "timed_out", "KeyError: 2"),
    ]
    assert handle.progress is None
    ProgressFactory(job=job.id, done=3, total=None)
    progress = handle.progress
    assert progress is not None
    assert (progress.done, progress.share, progress.seconds_left) == (3, None, None)


def test_wait_inside_a_transaction_is_refused() -> None:
    handle = tasks.noop.enqueue()

    with pytest.raises(JobsError, match="inside a transaction"):
        handle.wait(0.1)


@pytest.mark.urls("project.urls")
def test_the_shop_shows_only_jobs_of_orders() -> None:
    assert Client().get(f"/status/{token_of(JobFactory().id)}/").status_code == 404
