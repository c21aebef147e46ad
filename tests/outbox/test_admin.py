"""The outbox in Django admin: to look at, to replay, to discard, each for those who may."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from outbox.models import Message, SetAsideMessage
from tests.factories import MessageFactory, SetAsideMessageFactory, in_home
from tests.support.people import MARKUP, Elements, staff, superuser

pytestmark = pytest.mark.django_db

MESSAGES = "admin:outbox_message_changelist"
ASIDE = "admin:outbox_setasidemessage_changelist"


def act(client: Client, action: str, *rows: SetAsideMessage) -> Any:
    return client.post(reverse(ASIDE), {"action": action, "_selected_action": [row.pk for row in rows], "index": 0})


@pytest.mark.parametrize(
    ("name", "factory"), [("message", MessageFactory), ("setasidemessage", SetAsideMessageFactory)]
)
def test_the_pages_open_and_show_the_row(name: str, factory: Any) -> None:
    row = factory(body='{"args":["canary"],"kwargs":{}}')
    client = superuser()

    listed = client.get(reverse(f"admin:outbox_{name}_changelist"))
    shown = client.get(reverse(f"admin:outbox_{name}_change", args=[row.pk]))

    assert (listed.status_code, shown.status_code) == (200, 200)
    assert str(row.uid) in listed.content.decode()
    assert "canary" not in listed.content.decode()
    assert "canary" in shown.content.decode()


@pytest.mark.parametrize(
    ("name", "factory"), [("message", MessageFactory), ("setasidemessage", SetAsideMessageFactory)]
)
def test_nobody_adds_changes_or_deletes(name: str, factory: Any) -> None:
    row = factory()
    client = superuser()
    before = type(row).objects.values().get()

    answers = [
        client.get(reverse(f"admin:outbox_{name}_add")).status_code,
        client.post(reverse(f"admin:outbox_{name}_add"), {"headers": "{}"}).status_code,
        client.post(reverse(f"admin:outbox_{name}_change", args=[row.pk]), {"headers": "{}"}).status_code,
        client.get(reverse(f"admin:outbox_{name}_delete", args=[row.pk])).status_code,
        client.post(reverse(f"admin:outbox_{name}_delete", args=[row.pk]), {"post": "yes"}).status_code,
    ]

    assert answers == [403] * 5
    assert type(row).objects.values().get() == before


@pytest.mark.parametrize("name", ["message", "setasidemessage"])
def test_staff_without_the_permission_sees_nothing(name: str) -> None:
    client = staff()

    assert client.get(reverse(f"admin:outbox_{name}_changelist")).status_code == 403


@pytest.mark.parametrize("name", ["message", "setasidemessage"])
def test_who_is_not_logged_in_is_sent_to_the_login(name: str) -> None:
    answer = Client().get(reverse(f"admin:outbox_{name}_changelist"))

    assert answer.status_code == 302
    assert "/login/" in answer["Location"]


@pytest.mark.parametrize(
    ("name", "factory"), [("message", MessageFactory), ("setasidemessage", SetAsideMessageFactory)]
)
def test_what_a_message_carries_is_for_those_who_may_see_arguments(name: str, factory: Any) -> None:
    row = factory(body='{"args":["canary"],"kwargs":{}}')
    client = staff(f"outbox.view_{name}")

    page = client.get(reverse(f"admin:outbox_{name}_change", args=[row.pk]))

    assert page.status_code == 200
    assert "canary" not in page.content.decode()


@pytest.mark.parametrize(
    ("name", "factory"), [("message", MessageFactory), ("setasidemessage", SetAsideMessageFactory)]
)
def test_what_a_message_carries_cannot_be_guessed_by_filtering(name: str, factory: Any) -> None:
    factory(body='{"args":["canary"],"kwargs":{}}')
    client = staff(f"outbox.view_{name}")

    right = client.get(reverse(f"admin:outbox_{name}_changelist"), {"body__contains": "canar"})
    wrong = client.get(reverse(f"admin:outbox_{name}_changelist"), {"body__contains": "turtle"})

    assert (right.status_code, right.content.count(b"</tr>")) == (wrong.status_code, wrong.content.count(b"</tr>"))


def test_messages_are_found_by_their_id() -> None:
    rows = [SetAsideMessageFactory(), SetAsideMessageFactory()]

    page = superuser().get(reverse(ASIDE), {"q": str(rows[0].uid)}).content.decode()

    assert str(rows[0].uid) in page
    assert str(rows[1].uid) not in page


@pytest.mark.parametrize("term", ["x", "'", "%", "\x00", "5", "a" * 5000, "\\"])
def test_any_search_is_answered(term: str) -> None:
    SetAsideMessageFactory()
    client = superuser()

    for url in (reverse(ASIDE), reverse(MESSAGES)):
        assert client.get(url, {"q": term}).status_code == 200


def test_markup_in_a_row_is_text_in_a_page() -> None:
    waiting = MessageFactory(headers=MARKUP, body=MARKUP)
    aside = SetAsideMessageFactory(headers=MARKUP, body=MARKUP, error=MARKUP)
    client = superuser()

    for url in (
        reverse(MESSAGES),
        reverse(ASIDE),
        reverse("admin:outbox_message_change", args=[waiting.pk]),
        reverse("admin:outbox_setasidemessage_change", args=[aside.pk]),
    ):
        page = client.get(url).content.decode()
        assert "alert(1)" in page
        assert Elements(page).suspicious == []


@pytest.mark.parametrize(("url", "factory"), [(MESSAGES, MessageFactory), (ASIDE, SetAsideMessageFactory)])
def test_more_rows_are_not_more_queries(url: str, factory: Any) -> None:
    client = superuser()

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(reverse(url)).status_code == 200
        return len(captured)

    queries()
    factory()
    with_one = queries()
    factory.create_batch(20)

    assert queries() == with_one


def test_the_selected_messages_are_replayed_and_the_others_stay() -> None:
    rows = [SetAsideMessageFactory(body=f'{{"args":[{n}],"kwargs":{{}}}}') for n in range(3)]

    answer = act(superuser(), "replay", *rows[:2])

    assert answer.status_code == 302
    assert [in_home(row.uid) for row in rows] == [["outbox_message"]] * 2 + [["outbox_setasidemessage"]]
    replayed = Message.objects.get(uid=rows[0].uid)
    assert (replayed.body, replayed.written_at) == (rows[0].body, rows[0].written_at)
    assert LogEntry.objects.count() == 2


def test_the_selected_messages_are_discarded_and_the_others_stay() -> None:
    rows = [SetAsideMessageFactory() for _ in range(3)]

    answer = act(superuser(), "discard", *rows[:2])

    assert answer.status_code == 302
    assert [in_home(row.uid) for row in rows] == [[], [], ["outbox_setasidemessage"]]
    assert LogEntry.objects.count() == 2


@pytest.mark.parametrize("action", ["replay", "discard", "delete_selected"])
def test_who_may_only_look_can_do_nothing(action: str) -> None:
    row = SetAsideMessageFactory()

    act(staff("outbox.view_setasidemessage"), action, row)

    assert in_home(row.uid) == ["outbox_setasidemessage"]


@pytest.mark.parametrize("action", ["replay", "discard"])
def test_who_may_replay_can_act(action: str) -> None:
    row = SetAsideMessageFactory()

    act(staff("outbox.view_setasidemessage", "outbox.replay_message"), action, row)

    assert not SetAsideMessage.objects.exists()


@pytest.mark.parametrize("action", ["replay", "discard"])
def test_a_link_that_somebody_was_sent_does_nothing(action: str) -> None:
    row = SetAsideMessageFactory()
    client = superuser()
    careful = Client(enforce_csrf_checks=True)
    careful.cookies = client.cookies

    asked = careful.get(reverse(ASIDE), {"action": action, "_selected_action": [row.pk], "index": 0})
    posted = act(careful, action, row)

    assert asked.status_code in (200, 302)
    assert posted.status_code == 403
    assert in_home(row.uid) == ["outbox_setasidemessage"]


def test_a_replay_whose_number_is_taken_is_no_server_error() -> None:
    row = SetAsideMessageFactory(id=5)
    MessageFactory(id=5)
    client = superuser()
    client.raise_request_exception = False

    answer = act(client, "replay", row)

    assert answer.status_code != 500
    assert in_home(row.uid) in (["outbox_setasidemessage"], ["outbox_message"])
