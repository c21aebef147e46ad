"""The log of events in admin: what happened, what came of it, and giving it again, each for who may."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from jobs import publish, replays
from jobs.dashboard.events import read
from jobs.dashboard.listing import PAGE
from jobs.delivery import Delivery
from jobs.ids import id_for_key, new_id
from jobs.models import Event, Key
from outbox.models import Message
from tests.factories import EventFactory, FinishedJobFactory, JobFactory, KeyFactory
from tests.support.dashboard import at
from tests.support.people import MARKUP, Elements, staff, superuser

pytestmark = pytest.mark.django_db

NOTE, REMIND, AUDIT = (f"tests.tasks.{name}" for name in ("note_placed", "remind_placed", "audit_placed"))


def delivered(event: Event, task: str, again: str = "", state: str = "succeeded", **fields: Any) -> Any:
    """The job of an event for a consumer; "gone" is one whose history was pruned."""
    key = Delivery(event.id, event.type, again).key
    uid = id_for_key(task, key)
    KeyFactory(id=uid, task=task, key=key)
    if state == "gone":
        return uid
    made = {"id": uid, "task": task, "idempotency_key": key, **fields}
    if state in ("ready", "running", "scheduled", "retrying"):
        return JobFactory(**made, **({} if state == "ready" else {state: True}))
    return FinishedJobFactory(**made, state=state)


def said(answer: Any) -> str:
    assert answer.status_code == 200, answer
    return " ".join(re.sub(r"<[^>]+>", " ", html.unescape(answer.content.decode())).split())


# Looking --------------------------------------------------------------------------------------------------------------


def test_the_list_says_what_became_of_each_event() -> None:
    """P81: the log is listed, with its consumers."""
    event = EventFactory(origin="POST /checkout/, user 5 anna")
    delivered(event, NOTE)
    delivered(event, AUDIT)
    delivered(event, REMIND, state="dead")
    delivered(event, NOTE, "again-1", state="dead")
    EventFactory(type="tests.lonely")
    EventFactory(type="tests.undone")

    text = said(superuser().get(at("events")))

    assert "1 dead 2 succeeded POST /checkout/, user 5 anna" in text
    assert "nobody consumes it" in text and "none yet" in text
    assert "tests.tasks.remind_placed default, 1 attempt, after 30 s" in text


def test_an_empty_log_says_how_to_fill_it() -> None:
    assert "Nothing has been published yet" in said(superuser().get(at("events")))


def test_the_list_is_filtered_by_type_time_and_id() -> None:
    old = EventFactory(published_at=timezone.now() - timedelta(hours=5))
    young, other = EventFactory(), EventFactory(type="tests.undone")
    client = superuser()

    def shown(**given: str) -> set[Any]:
        page = client.get(at("events"), given).content.decode()
        return {event.id for event in (old, young, other) if f"/events/{event.id}/" in page}

    cut = timezone.localtime(timezone.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    assert shown() == {old.id, young.id, other.id}
    assert shown(type="tests.placed") == {old.id, young.id}
    assert shown(since=cut) == {young.id, other.id}
    assert shown(until=cut, type="tests.placed") == {old.id}
    assert shown(search=old.id.hex[:13]) >= {old.id}
    assert shown(search="ffff") == set()
    assert shown(since="soon", search="not hex") == {old.id, young.id, other.id}
    assert client.get(at("events"), {"search": str(old.id)}).url == at("event", old.id)


def test_pages_follow_one_another_also_within_one_moment() -> None:
    moment = timezone.now()
    made = {event.id for event in EventFactory.create_batch(2 * PAGE + 3, published_at=moment)}
    client, url, seen = superuser(), at("events"), []
    for _ in range(3):
        page = client.get(url).content.decode()
        seen += re.findall(r"/events/([0-9a-f-]{36})/", page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        url = at("events") + html.unescape(following[1]) if following else ""

    assert url == "" and len(seen) == len(set(seen)) == len(made)


def test_the_page_of_an_event_shows_each_delivery() -> None:
    parent = FinishedJobFactory(task="shop.tasks.parent")
    event = EventFactory(parent=parent.id, payload=json.dumps({"order": 7, "card": "4111", "note": "secret gift"}))
    delivered(event, NOTE, state="dead", error="ValueError: no")
    delivered(event, NOTE, "fix-1", state="ready", origin="repetition fix-1 of the event, by anna")
    delivered(event, "shop.consumers.removed", state="gone")

    answer = superuser().get(at("event", event.id))
    text = said(answer)

    assert "dead" in text and "ValueError: no" in text
    assert "repetition fix-1 of the event, by anna" in text
    assert "shop.consumers.removed" in text and "no longer kept" in text
    assert f"{REMIND} has not been given it" in text
    assert "order 7" in text and "4111" not in text and "secret gift" not in answer.content.decode()
    assert at("change", parent.id) in answer.content.decode()


def test_what_was_just_published_is_on_its_way() -> None:
    published = publish("tests.placed", {"order": 1})

    text = said(superuser().get(at("event", published.id)))

    assert text.count("written") == 3 and "has not been given it" not in text


def test_the_job_leads_to_its_event_and_hides_what_the_event_hides() -> None:
    """`redact` of the event type holds for the arguments of its consumers' jobs too."""
    event = EventFactory()
    arguments = json.dumps({"args": [{"order": 7, "note": "secret gift"}], "kwargs": {}})
    job = delivered(event, NOTE, "fix-1", arguments=arguments)

    page = superuser().get(at("change", job.id)).content.decode()

    assert at("event", event.id) in page and "repetition fix-1" in page
    assert "secret gift" not in page


def test_the_search_field_finds_an_event_by_its_id() -> None:
    event, job = EventFactory(), JobFactory()
    client = superuser()

    assert client.get(at("find"), {"q": str(event.id)}).url == at("event", event.id)
    assert client.get(at("find"), {"q": str(job.id)}).url == at("change", job.id)


def test_an_event_of_a_type_nobody_knows_any_more_is_shown() -> None:
    event = EventFactory(type="tests.forgotten", payload="not JSON")

    text = said(superuser().get(at("event", event.id)))

    assert "not known to this code" in text and "Nobody consumes it" in text and "not JSON" in text


def test_an_event_that_is_not_there() -> None:
    assert superuser().get(at("event", new_id())).status_code == 404


def test_the_payload_is_for_who_may_see_arguments() -> None:
    event = EventFactory(payload='{"order":4711}')
    page = staff("jobs.view_job").get(at("event", event.id)).content.decode()
    User.objects.all().delete()

    assert "4711" not in page and "you lack the permission" in page
    assert "4711" in said(staff("jobs.view_job", "jobs.view_arguments").get(at("event", event.id)))


@pytest.mark.parametrize("who", ["nobody", "staff without", "staff"])
def test_who_may_look(who: str) -> None:
    event = EventFactory()
    client = {
        "nobody": Client,
        "staff without": lambda: staff("jobs.replay_event"),
        "staff": lambda: staff("jobs.view_job"),
    }[who]()
    expected = {"nobody": 302, "staff without": 403, "staff": 200}[who]

    assert [client.get(url).status_code for url in (at("events"), at("event", event.id))] == [expected] * 2


def test_what_an_event_says_stays_text() -> None:
    event = EventFactory(type="tests.placed", origin=MARKUP, payload=json.dumps({MARKUP: MARKUP}))
    client = superuser()
    for url in (at("events"), at("event", event.id), f"{at('events')}?type={MARKUP}&search={MARKUP}"):
        assert Elements(client.get(url).content.decode()).suspicious == []


def test_a_page_of_events_is_few_queries(django_assert_max_num_queries: Any) -> None:
    for event in EventFactory.create_batch(30):
        delivered(event, NOTE)
    client = superuser()

    with django_assert_max_num_queries(14):
        client.get(at("events"))


def test_an_address_that_makes_no_sense_is_read_as_none() -> None:
    assert read({"since": "9999-99-99", "until": "x", "search": "f" * 33}).narrows is False


# Giving again ---------------------------------------------------------------------------------------------------------


def test_it_asks_first_and_says_what_it_comes_to() -> None:
    event = EventFactory()
    delivered(event, NOTE)

    answer = superuser().post(at("replay"), {"event": event.id, "verb": "ask", "next": at("event", event.id)})

    text = said(answer)
    assert "1 event, 3 jobs of" in text and NOTE in text and AUDIT in text
    assert "2 of these jobs were never made" in text
    assert "Give the missing 2" in text and "Repeat 3 jobs" in text
    assert re.search(r'name="again" value="r-[0-9a-f]{12}"', answer.content.decode())
    assert not Message.objects.exists() and not LogEntry.objects.exists()


def test_what_is_missing_is_given_and_leaves_a_trace() -> None:
    event = EventFactory()
    delivered(event, NOTE)

    answer = superuser().post(
        at("replay"), {"event": event.id, "verb": "give", "reason": "it came later", "next": at("event", event.id)},
        follow=True,
    )  # fmt: skip

    assert "2 jobs of 1 event are on the way." in said(answer)
    assert {json.loads(m.headers)["origin"] for m in Message.objects.all()} == {
        "given to it later, by root: it came later"
    }
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (
        str(event.id), "Given to who had not had it, all consumers, 2 jobs: it came later",
    )  # fmt: skip
    assert entry.get_admin_url() is None


def test_a_form_sent_twice_is_one_repetition() -> None:
    event = EventFactory()
    client = superuser()
    fields = {"event": event.id, "consumer": NOTE, "verb": "repeat", "again": "r-1234"}

    client.post(at("replay"), fields)
    (message,) = Message.objects.all()
    client.post(at("replay"), fields)

    assert json.loads(message.headers)["key"] == f"event:{event.id}:tests.placed#r-1234"
    assert set(Message.objects.values_list("uid", flat=True)) == {message.uid}


def test_all_that_match_are_given_to_one_consumer() -> None:
    now = timezone.now()
    EventFactory.create_batch(3, published_at=now - timedelta(hours=2))
    EventFactory.create_batch(2)
    cut = timezone.localtime(now - timedelta(hours=1)).isoformat()

    superuser().post(at("replay"), {"type": "tests.placed", "until": cut, "consumer": AUDIT, "verb": "give"})

    assert [json.loads(m.headers)["task"] for m in Message.objects.all()] == [AUDIT] * 3
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.object_repr) == (None, "3 events")


def test_what_happens_after_the_question_is_not_repeated() -> None:
    EventFactory()
    client = superuser()
    page = client.post(at("replay"), {"type": "tests.placed", "verb": "ask"}).content.decode()
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    EventFactory(published_at=timezone.now() + timedelta(seconds=1))

    client.post(at("replay"), {**{name: html.unescape(value) for name, value in fields.items()}, "verb": "repeat"})

    assert Message.objects.count() == 3


def test_where_time_runs_out_it_says_what_does_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    EventFactory.create_batch(3)
    monkeypatch.setattr(replays, "PATIENCE", -1.0)
    monkeypatch.setattr("jobs.replay.step.__kwdefaults__", {"batch": 1}, raising=False)
    monkeypatch.setattr("jobs.replay.steps.__kwdefaults__", {"batch": 1})

    fields = {"type": "tests.placed", "consumer": NOTE, "verb": "repeat", "again": "r-1"}
    answer = superuser().post(at("replay"), fields, follow=True)

    assert "manage.py replayevents --type tests.placed --consumer tests.tasks.note_placed --again r-1" in said(answer)
    assert Message.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "status", "said_"),
    [
        ({"verb": "destroy"}, 400, "no such verb"),
        ({"verb": "repeat"}, 400, "no such verb"),
        ({"verb": "repeat", "again": "a b"}, 400, "no such verb"),
        ({"verb": "ask", "consumer": "nowhere.at_all"}, 200, "There is no consumer"),
        ({"verb": "ask", "type": "tests.plced"}, 200, "did you mean"),
        ({"verb": "ask", "event": "no id"}, 400, "no such event"),
        ({"verb": "give", "type": "tests.lonely"}, 200, "Nobody consumes what matches"),
    ],
)
def test_what_makes_no_sense_is_said(fields: dict[str, str], status: int, said_: str) -> None:
    EventFactory(type="tests.lonely")

    answer = superuser().post(at("replay"), fields, follow=True)

    assert answer.status_code == status
    assert said_ in html.unescape(answer.content.decode())
    assert not Message.objects.exists() and not LogEntry.objects.exists()


def test_it_needs_its_own_permission_and_a_post_with_a_token() -> None:
    event = EventFactory()
    fields = {"event": event.id, "verb": "give"}
    others = ["jobs.view_arguments", "jobs.requeue_job", "jobs.run_job", "jobs.edit_job", "outbox.replay_message"]

    assert Client().post(at("replay"), fields).status_code == 302
    client = staff("jobs.view_job", *others)
    assert client.post(at("replay"), fields).status_code == 403
    assert "Replay" not in client.get(at("event", event.id)).content.decode()
    User.objects.all().delete()
    assert staff("jobs.replay_event").post(at("replay"), fields).status_code == 403
    User.objects.all().delete()
    client = staff("jobs.view_job", "jobs.replay_event")
    assert client.get(at("replay"), fields).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get())
    assert strict.post(at("replay"), fields).status_code == 403
    assert not Message.objects.exists()

    assert "Replay" in client.get(at("event", event.id)).content.decode()
    assert client.post(at("replay"), fields).status_code == 302
    assert Message.objects.count() == 3 and Key.objects.count() == 0
