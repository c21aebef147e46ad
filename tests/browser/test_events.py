"""Events in a real browser: from the list to the event, to its job and back, and giving it again by clicks."""

from __future__ import annotations

import json

import pytest
from django.contrib.admin.models import LogEntry

from jobs.models import Event
from outbox.models import Message
from tests.browser.conftest import Browser
from tests.browser.test_browser import saw
from tests.support.browser import appear, picture
from tests.support.dashboard import at, fill_all

pytestmark = pytest.mark.django_db(transaction=True)

AUDIT = "tests.tasks.audit_placed"


def test_an_event_is_found_and_given_to_one_consumer(browser: Browser) -> None:
    """P81: the log is listed with its consumers, and an event is sent again by a button."""
    filled = fill_all()
    browser.be("root")
    browser.go(at("changelist"))
    browser.click(".jd-tabs a[href$='events/']")
    saw(browser, "tests.placed")
    browser.write("input[name=type]", "tests.placed")
    browser.click(".jd-filter button")
    browser.click(".jd-events th a")
    saw(browser, "has not been given it")

    browser.click(f"select[name=consumer] option:nth-child({len(browser.all('select[name=consumer] option'))})")
    browser.click("button[value=ask]")
    saw(browser, "1 of these jobs was never made")
    browser.write("input[name=reason]", "it came later")
    browser.click("button[value=give]")
    saw(browser, "1 job of 1 event is on the way.")

    (message,) = Message.objects.all()
    assert json.loads(message.headers)["task"] == AUDIT
    assert LogEntry.objects.get().object_id == str(filled.event)
    assert browser.complaints() == []


def test_a_repetition_asks_and_takes_no_for_an_answer(browser: Browser) -> None:
    filled = fill_all()
    browser.be("root")
    browser.go(at("event", filled.event))
    browser.click("button[value=ask]")
    saw(browser, "Repeat 3 jobs")
    browser.click(".jd-answers a")
    saw(browser, "What came of it")
    assert not Message.objects.exists()

    browser.click("button[value=ask]")
    browser.click("button[value=repeat]")
    saw(browser, "3 jobs of 1 event are on the way.")
    assert Message.objects.count() == 3
    assert browser.complaints() == []


def test_who_may_look_and_not_replay_finds_no_button_and_no_payload(browser: Browser) -> None:
    filled = fill_all()
    browser.be("anna", "jobs.view_job")
    for url in (at("events"), at("event", filled.event)):
        browser.go(url)
        saw(browser, "tests.placed")
        assert not browser.all("button[value=ask]")
    assert "you lack the permission" in browser.text() and "of paper" not in browser.text()
    browser.click(".jd-jobs th a")
    saw(browser, "Arguments")
    browser.click(f"a[href*='{filled.event}']")
    saw(browser, "What came of it")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_an_empty_log_fits_any_screen(browser: Browser, dark: bool, tmp_path) -> None:  # type: ignore[no-untyped-def]
    browser.be("root")
    appear(browser.driver, dark=dark, width=360)
    browser.go(at("events"))
    saw(browser, "Nothing has been published yet")
    picture(browser.driver, tmp_path / "empty.png")

    assert browser.ask("return document.documentElement.scrollWidth - innerWidth") <= 0
    assert not Event.objects.exists() and browser.complaints() == []
