"""Forgetting an idempotency key: by a person who may, and never so that a job is lost or doubled."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from jobs.draft import headers_of
from jobs.forget import KEEP_RELAYS_OUT, Forgotten, forget_keys
from jobs.intake import accept
from jobs.models import Attempt, Job, Key
from outbox.relay import Moved, step
from outbox.session import Session, session_on
from tests import tasks
from tests.factories import FinishedJobFactory, JobFactory, KeyFactory, in_home
from tests.support.dashboard import at
from tests.support.floor import claim, conclude, outcome
from tests.support.people import staff, superuser
from tests.support.sql import a_cursor
from tests.support.wait import wait_until

pytest_plugins = ["tests.support.ours"]

plain = tasks.noop.using(idempotency_key="order-42")
for_a_minute = plain.using(unique_for=60)
while_it_lives = plain.using(until="finished")


def accepted(session: Session, task: Any, n: int = 0) -> UUID:
    handle = task.enqueue(n)
    assert step(session, accept, 10) == Moved(1, 0)
    return UUID(str(handle.id))


def ended(session: Session, happened: str = "succeeded") -> None:
    conclude(session, [outcome(job, happened, **({"retry_in": None} if happened == "failed" else {}))
                       for job in claim(session)])  # fmt: skip


@pytest.mark.parametrize("task", [for_a_minute, while_it_lives])
def test_one_that_holds_for_a_time_leads_to_its_job_no_more_whatever_that_does(ours: Session, task: Any) -> None:
    first = accepted(ours, task, 1)

    assert forget_keys([first]) == Forgotten([first], 0)

    second = accepted(ours, task, 2)
    assert second != first
    assert Job.objects.count() == 2  # the first goes on
    assert forget_keys([first]) == Forgotten([], 0)  # it holds no more
    assert accepted(ours, task, 3) == second


@pytest.mark.parametrize("happened", ["succeeded", "failed", "cancelled"])
def test_a_plain_one_goes_with_its_ended_job(ours: Session, happened: str) -> None:
    first = accepted(ours, plain, 1)
    ended(ours, happened)

    assert forget_keys([first]) == Forgotten([first], 0)

    assert in_home(first) == [] and not Attempt.objects.exists() and not Key.objects.exists()
    assert accepted(ours, plain, 2) == first
    assert in_home(first) == ["jobs_job"]


def test_a_plain_one_of_a_living_job_is_left_alone(ours: Session) -> None:
    first = accepted(ours, plain)

    assert forget_keys([first]) == Forgotten([], 1)

    assert accepted(ours, plain) == first
    assert Job.objects.count() == Key.objects.count() == 1


def test_one_whose_job_is_no_longer_kept(ours: Session) -> None:
    first = accepted(ours, plain)
    Job.objects.all().delete()

    assert forget_keys([first]) == Forgotten([first], 0)
    assert in_home(accepted(ours, plain)) == ["jobs_job"]


@pytest.mark.postgresql("two transactions that write are open at once")
def test_a_relay_at_the_same_moment_makes_the_new_job(ours: Session) -> None:
    """It waits: with a look at the history from before it would have dropped the message as one of an ended job."""
    first = accepted(ours, plain, 1)
    ended(ours)
    plain.enqueue(2)
    moved: list[Moved] = []

    def relaying() -> None:
        own = session_on("default", statement_timeout=15)
        try:
            moved.append(step(own, accept, 10))
        finally:
            own.close()

    thread = threading.Thread(target=relaying, daemon=True)
    with transaction.atomic():
        with a_cursor() as cursor:
            cursor.execute(KEEP_RELAYS_OUT)
        thread.start()
        wait_until(somebody_waits)
        plain.enqueue(3)  # and a request does not
        forget_keys([first])
    thread.join(10)

    assert moved == [Moved(1, 0)] == [step(ours, accept, 10)]
    assert in_home(first) == ["jobs_job"]


def somebody_waits() -> bool:
    with a_cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'jobs_key'::regclass")
        return bool(cursor.fetchall())


# In admin -------------------------------------------------------------------------------------------------------------

KEYS = reverse("admin:jobs_key_changelist")


@pytest.mark.django_db
def test_the_list_says_how_long_each_holds_and_leads_to_its_job() -> None:
    now = timezone.now()
    living, over = JobFactory(), FinishedJobFactory()
    KeyFactory(key="for good", expires_at=None)
    KeyFactory(key="window", generation=1, expires_at=now + timedelta(hours=1))
    KeyFactory(key="passed", generation=1, expires_at=now - timedelta(hours=1))
    KeyFactory(id=living.id, key="living", generation=2, until="finished", expires_at=now)
    KeyFactory(id=over.id, key="over", generation=3, until="finished", expires_at=now)

    page = superuser().get(KEYS).content.decode()

    for said in ("for good", "no more, since", "until its job has ended", "no more: its job has ended"):
        assert page.count(f'<td class="field-holds">{said}') == 1, said
    assert page.count('<td class="field-holds">until ') == 2
    assert f'href="{at("change", living.id)}"' in page


@pytest.mark.django_db
@pytest.mark.parametrize("term", ["order-42", "shop.tasks.send", "id"])
def test_a_key_is_found_by_what_it_is(term: str) -> None:
    key = KeyFactory(key="order-42", task="shop.tasks.send")
    other = KeyFactory(key="order-43")

    page = superuser().get(KEYS, {"q": str(key.id) if term == "id" else term}).content.decode()

    assert str(key.id) in page and str(other.id) not in page


@pytest.mark.django_db
def test_forgetting_takes_its_permission() -> None:
    key = KeyFactory()
    act = {"action": "forget", "_selected_action": [str(key.id)]}

    looker = staff("jobs.view_key")
    assert "forget" not in looker.get(KEYS).content.decode()
    looker.post(KEYS, act)
    assert Key.objects.exists()

    User.objects.all().delete()
    staff("jobs.view_key", "jobs.forget_key").post(KEYS, act)
    assert not Key.objects.exists()
    assert LogEntry.objects.get().object_repr == str(key)


@pytest.mark.django_db
def test_it_says_what_was_left_alone() -> None:
    key = KeyFactory(id=JobFactory().id)

    page = superuser().post(KEYS, {"action": "forget", "_selected_action": [str(key.id)]}, follow=True).content.decode()

    assert "0 keys are forgotten." in page and "1 are left alone: their job has not ended" in page


# On the page of a job -------------------------------------------------------------------------------------------------


def page_of(job_id: Any, client: Any = None) -> str:
    return str((client or superuser()).get(at("change", job_id)).content.decode())


@pytest.mark.django_db
def test_the_page_of_a_job_says_its_key_and_how_long_that_holds() -> None:
    job = JobFactory()
    KeyFactory(id=job.id, key="order-42", generation=1, until="finished")

    page = page_of(job.id)
    assert "order-42" in page and "holds until its job has ended" in page
    assert reverse("admin:jobs_key_change", args=(job.id,)) in page

    User.objects.all().delete()
    page = page_of(job.id, staff("jobs.view_job"))
    assert "order-42" in page and reverse("admin:jobs_key_change", args=(job.id,)) not in page


@pytest.mark.django_db
def test_the_page_of_a_job_says_what_it_calls_back_and_what_that_became() -> None:
    task = tasks.noop.using(on_success=tasks.tell_end.callback("a"), on_failure=tasks.tell_end.callback("b"))
    kept = json.dumps(headers_of(task)["callbacks"])
    waiting = JobFactory(callbacks=kept)
    over = FinishedJobFactory(callbacks=kept)
    callback = JobFactory(parent=over.id, task="tests.tasks.tell_end", origin="on_success of tests.tasks.noop")
    JobFactory(parent=over.id, task="tests.tasks.tell_end")  # which the task has enqueued itself
    client = superuser()

    page = page_of(waiting.id, client)
    assert "<code>on_success</code> tests.tasks.tell_end</li>" in page
    page = page_of(over.id, client)
    assert f'<code>on_success</code> tests.tasks.tell_end <a href="{at("change", callback.id)}">its job</a>' in page
    assert "<code>on_failure</code> tests.tasks.tell_end</li>" in page
    assert "<p>on_success of tests.tasks.noop</p>" in page_of(callback.id, client)


@pytest.mark.django_db
@pytest.mark.parametrize("spoiled", ["no json", "[]", "{}", "[1]", '[{"on": "success"}]', "[" * 5000])
def test_callbacks_that_cannot_be_read_spoil_no_page(spoiled: str) -> None:
    assert "Callbacks" not in page_of(JobFactory(callbacks=spoiled).id)
