"""What a person does on the dashboard: with the permission for it, asked first where it destroys, and traced."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from jobs import acts
from jobs.acts import VERBS
from jobs.models import Cancellation, FinishedJob, Job, Note, Queue, Worker
from jobs.redact import HIDDEN
from outbox.models import Message, SetAsideMessage
from tests import tasks
from tests.factories import AttemptFactory, FinishedJobFactory, JobFactory, SetAsideMessageFactory, WorkerFactory
from tests.support.dashboard import at
from tests.support.people import staff, superuser

pytestmark = pytest.mark.django_db


def everything() -> list[tuple[Any, ...]]:
    """All that an act could change."""
    return [
        tuple(model.objects.order_by("pk").values_list())
        for model in (Job, FinishedJob, Note, Queue, Cancellation, SetAsideMessage, Message, LogEntry)
    ] + [tuple(Worker.objects.order_by("pk").values_list("wish"))]


class Act:
    """One act: where it is sent, what it says, who may, and how to see that it was done."""

    def __init__(self, page: str, fields: dict[str, Any], permission: str, asks: bool) -> None:
        self.url, self.fields, self.permission, self.asks = at(page), fields, permission, asks


def each_act() -> dict[str, Act]:
    dead, scheduled, ready = FinishedJobFactory(state="dead"), JobFactory(scheduled=True), JobFactory()
    aside, worker = SetAsideMessageFactory(), WorkerFactory()
    return {
        "requeue": Act("act", {"verb": "requeue", "job": dead.id}, "jobs.requeue_job", False),
        "run now": Act("act", {"verb": "run_now", "job": scheduled.id}, "jobs.run_job", False),
        "cancel": Act("act", {"verb": "cancel", "job": ready.id}, "jobs.cancel_job", True),
        "discard": Act("act", {"verb": "discard", "job": dead.id}, "jobs.discard_job", True),
        "replay": Act("act", {"verb": "replay", "job": aside.uid}, "outbox.replay_message", False),
        "discard a message": Act("act", {"verb": "discard_message", "job": aside.uid}, "outbox.replay_message", True),
        "pause": Act("act_on_queue", {"verb": "pause", "queue": "mail"}, "jobs.pause_queue", True),
        "resume": Act("act_on_queue", {"verb": "resume", "queue": "mail"}, "jobs.pause_queue", False),
        "clear": Act("act_on_queue", {"verb": "clear", "queue": "default"}, "jobs.clear_queue", True),
        "quiet": Act("act_on_worker", {"wish": "quiet", "worker": worker.pk}, "jobs.control_worker", False),
        "stop": Act("act_on_worker", {"wish": "stop", "worker": worker.pk}, "jobs.control_worker", True),
    }


ACTS = (
    "requeue", "run now", "cancel", "discard", "replay", "discard a message", "pause", "resume", "clear", "quiet",
    "stop",
)  # fmt: skip

ALL = [
    "jobs.requeue_job", "jobs.run_job", "jobs.cancel_job", "jobs.discard_job", "outbox.replay_message",
    "jobs.pause_queue", "jobs.clear_queue", "jobs.control_worker", "jobs.edit_job", "jobs.view_arguments",
]  # fmt: skip


@pytest.mark.parametrize("name", ACTS)
def test_each_act_needs_its_own_permission(name: str) -> None:
    act = each_act()[name]
    fields = {**act.fields, "confirmed": "yes"}
    others = [permission for permission in ALL if permission != act.permission]

    before = everything()
    assert Client().post(act.url, fields).status_code == 302
    assert everything() == before
    client = staff("jobs.view_job", *others)
    assert client.post(act.url, fields).status_code == 403
    User.objects.all().delete()
    assert staff(act.permission).post(act.url, fields).status_code == 403  # may not see what it would act on
    assert everything() == before
    User.objects.all().delete()

    client = staff("jobs.view_job", act.permission)
    assert client.post(act.url, fields).status_code == 302
    assert everything() != before
    assert LogEntry.objects.count() == 1


@pytest.mark.parametrize("name", ACTS)
def test_csrf_is_enforced(name: str) -> None:
    act = each_act()[name]
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    before = everything()

    assert client.post(act.url, {**act.fields, "confirmed": "yes"}).status_code == 403
    assert everything() == before


@pytest.mark.parametrize("name", ACTS)
def test_a_get_changes_nothing(name: str) -> None:
    act = each_act()[name]
    before = everything()

    assert superuser().get(act.url, {**act.fields, "confirmed": "yes"}).status_code == 405
    assert everything() == before


@pytest.mark.parametrize("name", ACTS)
def test_what_destroys_asks_first(name: str) -> None:
    act = each_act()[name]
    client = superuser()
    before = everything()

    answer = client.post(act.url, act.fields)

    assert answer.status_code == (200 if act.asks else 302)
    assert (everything() == before) is act.asks
    if act.asks:
        page = answer.content.decode()
        assert 'name="confirmed" value="yes"' in page
        assert "No, back" in page


def test_many_at_once_ask_first_and_say_how_many() -> None:
    jobs = FinishedJobFactory.create_batch(3, state="dead")
    client = superuser()

    answer = client.post(at("act"), {"verb": "requeue", "job": [job.id for job in jobs[:2]]})

    assert answer.status_code == 200
    assert "Requeue 2 jobs" in answer.content.decode()
    assert Job.objects.count() == 0

    client.post(
        at("act"), {"verb": "requeue", "job": [job.id for job in jobs[:2]], "confirmed": "yes", "reason": "mended"}
    )
    assert set(Job.objects.values_list("pk", flat=True)) == {job.id for job in jobs[:2]}
    assert {(note.by, note.reason) for note in Note.objects.all()} == {("root", "mended")}
    assert {entry.change_message for entry in LogEntry.objects.all()} == {"Requeue: mended"}


def test_all_that_match_a_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "STEP", 4)
    mail = FinishedJobFactory.create_batch(11, state="dead", queue="mail")
    FinishedJobFactory.create_batch(3, state="dead")
    client = superuser()
    fields = {"verb": "requeue", "scope": "matching", "state": "dead", "query": "queue=mail"}

    asked = client.post(at("act"), fields)
    assert "Requeue 11 jobs" in asked.content.decode()
    answer = client.post(at("act"), {**fields, "confirmed": "yes"}, follow=True)

    assert "11 jobs requeued." in answer.content.decode()
    assert set(Job.objects.values_list("pk", flat=True)) == {job.id for job in mail}
    entry = LogEntry.objects.get()
    assert entry.object_repr == "11 dead jobs that match queue=mail"


@pytest.mark.parametrize("verb", ["cancel", "run_now"])
def test_all_waiting_ones_that_match(verb: str) -> None:
    JobFactory.create_batch(5, scheduled=True, task="shop.a")
    JobFactory(scheduled=True)

    superuser().post(
        at("act"),
        {"verb": verb, "scope": "matching", "state": "scheduled", "query": "task=shop.a", "confirmed": "yes"},
    )

    assert Job.objects.filter(state="scheduled").count() == 1


def test_running_jobs_that_match_are_told_and_the_request_ends() -> None:
    JobFactory.create_batch(3, running=True)

    superuser().post(at("act"), {"verb": "cancel", "scope": "matching", "state": "running", "confirmed": "yes"})

    assert Cancellation.objects.count() == 3


def test_when_time_runs_out_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "STEP", 2)
    monkeypatch.setattr(acts, "PATIENCE", -1.0)
    FinishedJobFactory.create_batch(5, state="dead")

    answer = superuser().post(
        at("act"), {"verb": "discard", "scope": "matching", "state": "dead", "confirmed": "yes"}, follow=True
    )

    assert "2 jobs discarded. Time ran out" in answer.content.decode()
    assert FinishedJob.objects.count() == 3


def test_a_group_of_failures() -> None:
    for exception in ("ValueError", "ValueError", "KeyError"):
        job = FinishedJobFactory(state="dead")
        AttemptFactory(job=job.id, exception=exception, frame="f")
    client = superuser()
    fields = {"verb": "discard", "scope": "group", "exception": "ValueError", "frame": "f"}

    assert "Discard 2 jobs" in client.post(at("act"), fields).content.decode()
    client.post(at("act"), {**fields, "confirmed": "yes"})

    assert FinishedJob.objects.count() == 1


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"verb": "nonsense"}, {"verb": "requeue"}, {"verb": "requeue", "job": "nonsense"},
        {"verb": "requeue", "job": "01890000-0000-7000-8000-000000000001"},
        {"verb": "requeue", "scope": "matching", "state": "succeeded"},
        {"verb": "discard", "scope": "matching", "state": "running", "confirmed": "yes"},
        {"verb": "replay", "scope": "matching", "state": "set_aside"},
        {"verb": "requeue", "scope": "group", "exception": "\x00", "frame": "\x00"},
        {"verb": "requeue", "scope": "\x00"}, {"verb": "cancel", "job": ["x"] * 2000},
    ],
    ids=lambda fields: str(fields)[:60],
)  # fmt: skip
def test_any_post_is_answered(fields: dict[str, Any]) -> None:
    assert superuser().post(at("act"), fields).status_code in (200, 302, 400)


@pytest.mark.parametrize(
    ("page", "fields"),
    [
        ("act_on_queue", {"verb": "pause"}), ("act_on_queue", {"verb": "x", "queue": "mail"}),
        ("act_on_worker", {"wish": "quiet", "worker": "9" * 30}), ("act_on_worker", {"wish": "x", "worker": "1"}),
        ("act_on_worker", {"wish": "quiet"}),
    ],
)  # fmt: skip
def test_nonsense_is_refused(page: str, fields: dict[str, str]) -> None:
    assert superuser().post(at(page), fields).status_code == 400


@pytest.mark.parametrize("next_page", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", ""])
def test_no_act_leads_away_from_the_site(next_page: str) -> None:
    job = FinishedJobFactory(state="dead")

    answer = superuser().post(at("act"), {"verb": "requeue", "job": job.id, "next": next_page})

    assert answer["Location"] == at("changelist")


def test_only_what_one_may_do_is_offered() -> None:
    job = FinishedJobFactory(state="dead")

    page = staff("jobs.view_job", "jobs.requeue_job").get(at("change", job.id)).content.decode()

    assert 'value="requeue"' in page
    assert 'value="discard"' not in page and "Edit arguments" not in page


def test_a_pause_has_a_reason_and_an_end() -> None:
    superuser().post(
        at("act_on_queue"),
        {"verb": "pause", "queue": "mail", "confirmed": "yes", "minutes": "60", "reason": "the provider is down"},
    )

    queue = Queue.objects.get()
    assert (queue.by, queue.reason) == ("root", "the provider is down")
    assert queue.until is not None and 3500 < (queue.until - queue.paused_at).total_seconds() < 3700


def test_replayed_and_discarded_messages() -> None:
    kept, gone = SetAsideMessageFactory(), SetAsideMessageFactory()
    client = superuser()

    client.post(at("act"), {"verb": "replay", "job": kept.uid})
    client.post(at("act"), {"verb": "discard_message", "job": gone.uid, "confirmed": "yes"})

    assert Message.objects.get().uid == kept.uid
    assert not SetAsideMessage.objects.exists()
    assert LogEntry.objects.count() == 2


# Editing --------------------------------------------------------------------------------------------------------------

EDITOR = ("jobs.view_job", "jobs.view_arguments", "jobs.edit_job")


def an_add(**columns: Any) -> FinishedJob:
    job: FinishedJob = FinishedJobFactory(
        state="dead", task=tasks.add.name, arguments='{"args":[1,"2"],"kwargs":{}}', **columns
    )
    return job


def test_arguments_are_edited_and_the_job_requeued() -> None:
    job = an_add()
    client = staff(*EDITOR)

    assert "&quot;2&quot;" in client.get(at("edit", job.id)).content.decode()
    answer = client.post(
        at("edit", job.id), {"arguments": '{"args": [1, 2], "kwargs": {}}', "lease": job.lease, "reason": "a typo"}
    )

    assert answer["Location"] == at("change", job.id)
    again = Job.objects.get(pk=job.id)
    assert (again.state, again.arguments) == ("ready", '{"args":[1,2],"kwargs":{}}')
    assert {note.deed for note in Note.objects.all()} == {"edited", "requeued"}
    assert "a typo" in LogEntry.objects.get().change_message


@pytest.mark.parametrize("missing", EDITOR)
def test_editing_needs_all_of_its_permissions(missing: str) -> None:
    job = an_add()
    client = staff(*(each for each in EDITOR if each != missing))

    assert client.get(at("edit", job.id)).status_code == 403
    assert client.post(at("edit", job.id), {"arguments": "{}", "lease": "1"}).status_code == 403


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "Give an object"),
        ('{"args": [1]}', "Give an object"),
        ('{"args": 1, "kwargs": {}}', "must be a list"),
        ('{"args": [1, NaN], "kwargs": {}}', "not JSON"),
        ('{"args": [1], "kwargs": {}}', "cannot be called like this"),
        ('{"args": [1, 2, 3], "kwargs": {}}', "cannot be called like this"),
        ('{"args": [1, "\\ud800"], "kwargs": {}}', "lone surrogate"),
        ('{"args": [1, "' + "x" * 2_000_000 + '"], "kwargs": {}}', "bytes"),
    ],
    ids=lambda text: text[:30],
)
def test_what_could_not_run_is_refused_with_the_reason(text: str, said: str) -> None:
    job = an_add()

    answer = superuser().post(at("edit", job.id), {"arguments": text, "lease": job.lease})

    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert FinishedJob.objects.get().arguments == job.arguments


def test_a_job_that_has_moved_on_is_not_overwritten() -> None:
    job = an_add()

    answer = superuser().post(
        at("edit", job.id), {"arguments": '{"args": [1, 2], "kwargs": {}}', "lease": job.lease + 1}, follow=True
    )

    assert "moved on" in answer.content.decode()
    assert FinishedJob.objects.get().arguments == job.arguments


@pytest.mark.parametrize("given", [{"state": "succeeded"}, {"state": "dead", "arguments": "garbage"}])
def test_what_cannot_be_edited_is_not(given: dict[str, str]) -> None:
    job = FinishedJobFactory(**given)

    assert superuser().get(at("edit", job.id)).status_code == 404


def test_secrets_stay_hidden_and_stay_as_they_are() -> None:
    secret = {"args": [{"card": "canary-1", "amount": 5}], "kwargs": {}}
    job = FinishedJobFactory(state="dead", task=tasks.echo.name, arguments=json.dumps(secret), result=None)
    client = superuser()

    assert "canary" not in client.get(at("change", job.id)).content.decode()
    assert "canary" not in client.get(at("edit", job.id)).content.decode()
    shown = json.dumps({"args": [{"card": HIDDEN, "amount": 6}], "kwargs": {}})
    client.post(at("edit", job.id), {"arguments": shown, "lease": job.lease})

    secret["args"][0]["amount"] = 6  # type: ignore[index]
    assert json.loads(Job.objects.get().arguments) == secret


def test_every_verb_is_in_the_table_of_permissions() -> None:
    assert {verb.permission for verb in VERBS.values()} <= set(ALL)
