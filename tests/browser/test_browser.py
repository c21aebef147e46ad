"""The dashboard in a real browser: every page and act by its clicks, under the strictest policy, on any screen."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

from jobs import pages
from jobs.models import FinishedJob, Job, Note, Queue, Schedule, Worker
from outbox.models import Message, SetAsideMessage
from project.shop.models import Order, OrderJob
from project.shop.tasks import send_receipt
from tests import tasks
from tests.browser.conftest import Browser
from tests.factories import FinishedJobFactory, JobFactory, ProgressFactory, SetAsideMessageFactory, WorkerFactory
from tests.support.browser import appear
from tests.support.dashboard import at, fill_all
from tests.support.wait import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def saw(browser: Browser, text: str) -> None:
    def there() -> bool:
        with suppress(StaleElementReferenceException, NoSuchElementException):  # between two pages
            return text in browser.text()
        return False

    wait_until(there, within=20, what=f"{text!r} on {browser.driver.current_url}")


# Pages ----------------------------------------------------------------------------------------------------------------


def test_every_page_works_under_the_strictest_policy(browser: Browser) -> None:
    filled = fill_all()
    browser.be("root")

    for name, url in filled.pages().items():
        browser.go(url)
        assert browser.all("#jd-part > *"), name
        assert browser.complaints() == [], name
    browser.go(at("changelist"))
    assert len(browser.all(".jd-plot canvas")) == 2
    browser.go(at("edit", filled.jobs["dead"]))
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_page_fits_a_phone_in_the_colours_of_the_theme(browser: Browser, dark: bool) -> None:
    filled = fill_all(lambda field: f"{field}-" + "very_long_name_without_any_space_" * 3)
    browser.be("root")
    appear(browser.driver, dark=dark, width=360)

    for name, url in filled.pages().items():
        browser.go(url)
        wide = browser.ask("return document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{name} is {wide} pixels too wide"
        background = browser.ask("return getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") is not dark


def test_links_lead_from_everything_to_everything(browser: Browser) -> None:
    filled = fill_all()
    browser.be("root")
    seen, ahead = set(), [reverse("admin:index"), at("changelist")]
    while ahead and len(seen) < 60:
        url = ahead.pop(0)
        path = url.split("?")[0]
        if path in seen:
            continue
        seen.add(path)
        browser.go(url)
        assert "Server Error" not in browser.text() and "Not Found" not in browser.text(), url
        links = [link.get_attribute("href") or "" for link in browser.all("#content a, #nav-sidebar a")]
        ours = [link for link in links if "/jobs/job/" in link and "/change/" not in link]
        ahead += [link.removeprefix(browser.address) for link in ours]

    wanted = {url.split("?")[0] for name, url in filled.pages().items() if "job that" not in name}
    assert wanted - {at("failure")} <= seen
    assert browser.complaints() == []


# Acts -----------------------------------------------------------------------------------------------------------------


def test_requeue_from_the_page_of_a_job(browser: Browser) -> None:
    job = FinishedJobFactory(state="dead", error="ValueError: no")
    browser.be("root")
    browser.go(at("change", job.id))

    browser.click("button[value=requeue]")

    saw(browser, "1 job requeued.")
    saw(browser, "requeued by root")
    assert Job.objects.filter(pk=job.id, state="ready").exists()


def test_discard_asks_and_takes_no_for_an_answer(browser: Browser) -> None:
    job = FinishedJobFactory(state="dead")
    browser.be("root")
    browser.go(at("list", "dead"))

    browser.click("input[name=job]")
    browser.click("button[value=discard]")
    saw(browser, "This cannot be undone")
    browser.click(".jd-answers a")
    assert FinishedJob.objects.exists()
    saw(browser, "Dead jobs")

    browser.click("input[name=job]")
    browser.click("button[value=discard]")
    browser.write("input[name=reason]", "a test order")
    browser.click("button[value=discard]")
    saw(browser, "1 job discarded.")
    assert not FinishedJob.objects.filter(pk=job.id).exists()
    assert LogEntry.objects.get().change_message == "Discard: a test order"


def test_select_a_page_and_requeue(browser: Browser) -> None:
    FinishedJobFactory.create_batch(3, state="dead")
    browser.be("root")
    browser.go(at("list", "dead"))

    browser.click("[data-all]")
    wait_until(lambda: browser.ask("return document.querySelector('[data-selected]').textContent") == "(3)")
    browser.click("button[value=requeue]")
    saw(browser, "3 jobs")
    browser.click("button[value=requeue]")

    saw(browser, "3 jobs requeued.")
    saw(browser, "No job has failed for good")


def test_all_that_match_a_filter_are_cancelled(browser: Browser) -> None:
    JobFactory.create_batch(3, queue="mail")
    other = JobFactory()
    browser.be("root")
    browser.go(at("list", "ready"))

    browser.write("input[name=queue]", "mail")
    browser.click(".jd-filter button")
    browser.click("input[value=matching]")
    browser.click("button[value=cancel]")
    saw(browser, "ready jobs that match queue=mail")
    browser.write("input[name=reason]", "too many")
    browser.click("button[value=cancel]")

    saw(browser, "3 jobs cancelled")
    assert list(Job.objects.values_list("pk", flat=True)) == [other.id]
    assert {note.reason for note in Note.objects.all()} == {"too many"}


def test_run_now_and_stop_what_runs(browser: Browser) -> None:
    later, running = JobFactory(scheduled=True), JobFactory(running=True)
    browser.be("root")

    browser.go(at("change", later.id))
    browser.click("button[value=run_now]")
    saw(browser, "1 job will run now.")
    browser.go(at("change", running.id))
    browser.click("button[value=cancel]")
    saw(browser, "killed a second later")
    browser.click("button[value=cancel]")

    saw(browser, "1 job cancelled or told to stop.")


def test_edit_the_arguments_and_requeue(browser: Browser) -> None:
    job = FinishedJobFactory(state="dead", task=tasks.add.name, arguments='{"args":[1,"2"],"kwargs":{}}', result=None)
    browser.be("root")
    browser.go(at("change", job.id))
    browser.click(".jd-title a.jd-button")

    field = browser.find("textarea")
    field.clear()
    field.send_keys('{"args": [1], "kwargs": {}}')
    browser.click("button.jd-does")
    saw(browser, "cannot be called like this")
    field = browser.find("textarea")
    field.clear()
    field.send_keys('{"args": [1, 2], "kwargs": {}}')
    browser.click("button.jd-does")

    saw(browser, "The arguments are changed")
    assert Job.objects.get().arguments == '{"args":[1,2],"kwargs":{}}'


def test_pause_resume_and_clear_a_queue(browser: Browser) -> None:
    JobFactory.create_batch(2)
    browser.be("root")
    browser.go(at("queues"))

    browser.click("button[value=pause]")
    browser.write("input[name=reason]", "the provider is down")
    browser.click("option[value='60']")
    browser.click("button[value=pause]")
    saw(browser, "is paused: what runs goes on")
    saw(browser, "the provider is down")
    browser.click("button[value=resume]")
    saw(browser, "goes on.")
    assert not Queue.objects.exists()
    browser.click("button[value=clear]")
    saw(browser, "2 jobs wait in it")
    browser.click("button[value=clear]")
    saw(browser, "2 jobs of the queue default were cancelled.")


def test_make_a_schedule_run_pause_edit_and_delete_it(browser: Browser) -> None:
    browser.be("root")
    browser.go(at("changelist"))
    browser.click(".jd-tabs a[href*=schedules]")
    saw(browser, "There is no schedule yet")

    browser.click(".jd-over a")
    browser.write("input[name=name]", "reports.daily")
    browser.ask("document.querySelector('select[name=task]').value = 'tests.tasks.noop'")
    browser.write("input[name=cron]", "0 25 * * *")
    browser.click("button[value=save]")
    saw(browser, "Bad hour")
    browser.find("input[name=cron]").clear()
    browser.write("input[name=cron]", "30 2 * * *")
    browser.find("input[name=timezone]").clear()
    browser.write("input[name=timezone]", "Europe/Paris")
    browser.click("button[value=check]")
    saw(browser, "At 02:30 every day, Europe/Paris")
    assert not Schedule.objects.exists()
    browser.click("button[value=save]")
    saw(browser, "The schedule reports.daily is made.")
    assert len(browser.all(".jd-timeline .due")) == 6

    browser.click("button[value=run]")
    saw(browser, "is on its way")
    saw(browser, "run by hand by root")
    browser.click("#jd-part tbody th a")
    saw(browser, "Where it came from")
    browser.click(".jd-lineage a[href*=schedules]")
    saw(browser, "At 02:30 every day")

    browser.click("button[value=pause]")
    browser.write("input[name=reason]", "holidays")
    browser.click("button[value=pause]")
    saw(browser, "is paused: its ticks make no jobs")
    saw(browser, "holidays")
    browser.click("button[value=resume]")
    saw(browser, "goes on with its next tick")

    browser.click(".jd-title a.jd-button")
    browser.find("input[name=cron]").clear()
    browser.write("input[name=number]", "90")
    browser.click("button[value=save]")
    saw(browser, "Every 1 hour 30 minutes")
    browser.click("button[value=delete]")
    saw(browser, "The jobs it has made stay.")
    browser.click("button[value=delete]")
    saw(browser, "There is no schedule yet")
    assert Job.objects.count() == 1 and not Schedule.objects.exists()
    assert browser.complaints() == []


def test_who_may_only_look_at_schedules_finds_no_button(browser: Browser) -> None:
    filled = fill_all()
    browser.be("bert", "jobs.view_job")

    for url in (at("schedules"), at("schedule", filled.schedule)):
        browser.go(url)
        saw(browser, "every.minute")
        assert not browser.all("#jd-part button") and not browser.all("#jd-part a.jd-button")
        assert "an argument" not in browser.driver.page_source
    for url in (at("new_schedule"), at("edit_schedule", filled.schedule)):
        browser.go(url)
        saw(browser, "403")


def test_quiet_and_stop_a_worker(browser: Browser) -> None:
    WorkerFactory()
    browser.be("root")
    browser.go(at("workers"))

    browser.click("button[value=quiet]")
    saw(browser, "take no more jobs")
    browser.click("button[name=wish][value='']")
    wait_until(lambda: Worker.objects.get().wish == "")
    browser.click("button[value=stop]")
    saw(browser, "It takes no more jobs")
    browser.click("button[value=stop]")
    wait_until(lambda: Worker.objects.get().wish == "stop")


def test_deliver_again_what_was_set_aside(browser: Browser) -> None:
    message = SetAsideMessageFactory()
    browser.be("root")
    browser.go(at("list", "set_aside"))

    browser.click("input[name=job]")
    browser.click("button[value=replay]")

    saw(browser, "1 message will be delivered again.")
    assert Message.objects.get().uid == message.uid and not SetAsideMessage.objects.exists()


def test_a_form_without_its_token_is_refused(browser: Browser) -> None:
    job = FinishedJobFactory(state="dead")
    browser.be("root")
    browser.go(at("change", job.id))

    browser.ask("for (const each of document.querySelectorAll('[name=csrfmiddlewaretoken]')) each.remove()")
    browser.click("button[value=requeue]")

    saw(browser, "403")
    assert not Job.objects.exists()


# Roles ----------------------------------------------------------------------------------------------------------------


def test_staff_see_the_buttons_of_what_they_may_do(browser: Browser) -> None:
    filled = fill_all()
    browser.be("bert", "jobs.view_job", "jobs.requeue_job", "jobs.pause_queue")
    offered: set[str] = set()

    for url in filled.pages().values():
        browser.go(url)
        offered |= {str(button.get_attribute("value")) for button in browser.all("#jd-part button[name]")}
        assert "an argument" not in browser.driver.page_source

    assert offered == {"requeue", "pause", "resume"}


@pytest.mark.parametrize(("who", "said"), [("carl", "403"), ("nobody", "Username")])
def test_who_may_not_look_sees_nothing(browser: Browser, who: str, said: str) -> None:
    filled = fill_all()
    browser.be(who)

    for name, url in filled.pages().items():
        browser.go(url)
        assert said in browser.text(), name
        assert "shop.tasks" not in browser.driver.page_source, name


# Hostile text ---------------------------------------------------------------------------------------------------------

CORPUS = [
    "<script>window.owned=1</script>",
    "<img src=x onerror=window.owned=1>",
    "\"'><svg/onload=window.owned=1>",
    "</title></textarea></script><script>window.owned=1</script>",
    '" onmouseover="window.owned=1" autofocus onfocus="window.owned=1',
    '" hx-get="/" hx-trigger="load" hx-on:load="window.owned=1',
    "javascript:window.owned=1//",
    "{{constructor.constructor('window.owned=1')()}}${window.owned=1}",
    "]]><!--<iframe srcdoc='<script>parent.owned=1</script>'>",
    "\\u003cscript\\u003ewindow.owned=1\\u003c/script\\u003e",
    "\u202e\u2028\u200b%3Cscript%3Ewindow.owned=1%3C/script%3E",
    "<a href=javascript:window.owned=1 id=jd-part data-plots='[' data-live data-every=0>x</a>",
]


@pytest.mark.parametrize("turn", range(4))
def test_hostile_text_in_every_field_runs_nothing(browser: Browser, turn: int) -> None:
    order = itertools.count(turn * 3)
    filled = fill_all(lambda field: CORPUS[next(order) % len(CORPUS)])
    browser.be("root")
    # Without the policy, so that what holds is the escaping.
    browser.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    try:
        for name, url in [
            *filled.pages().items(),
            ("edit", at("edit", filled.jobs["dead"])),
            ("form", at("edit_schedule", filled.schedule)),
        ]:
            browser.go(url)
            browser.ask("for (const e of document.querySelectorAll('*')) e.dispatchEvent(new Event('mouseover'))")
            assert browser.ask("return window.owned") is None, name
            strangers = browser.ask(
                "return [...document.querySelectorAll('*')].filter((each) => [...each.attributes].some((one) =>"
                " one.name.startsWith('on') || one.name.startsWith('hx-on') ||"
                " (one.name !== 'value' && one.value.startsWith('javascript:'))))"
                ".map((each) => each.outerHTML.slice(0, 200))"
            )
            assert strangers == [], name
            brought = "return document.querySelectorAll('#jd-part script, iframe, img[src=x]').length"
            assert browser.ask(brought) == 0, name
    finally:
        browser.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})


# Live -----------------------------------------------------------------------------------------------------------------


def test_a_page_keeps_itself_fresh_and_can_be_held(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "EVERY", 0.3)
    JobFactory()
    browser.be("root")
    browser.go(at("changelist"))

    def ready() -> str:
        return str(browser.ask("return document.querySelector('.jd-state.ready strong').textContent"))

    assert ready() == "1"

    JobFactory()
    wait_until(lambda: ready() == "2", what="the page looks again")
    browser.click("[data-live]")
    assert browser.find("[data-live]").text == "Paused"
    JobFactory()
    with pytest.raises(AssertionError):
        wait_until(lambda: ready() == "3", within=1.5)
    browser.click("[data-live]")
    wait_until(lambda: ready() == "3", what="it goes on")
    assert len(browser.all(".jd-bar")) == 1
    assert browser.complaints() == []


def test_what_a_person_has_opened_or_selected_stays(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "EVERY", 0.3)
    filled = fill_all()
    browser.be("root")
    browser.go(at("change", filled.jobs["running"]))
    browser.click(".jd-try summary")
    assert browser.find(".jd-try").get_attribute("open") is None
    ProgressFactory._meta.model.objects.update(text="a half")
    saw(browser, "a half")
    assert browser.find(".jd-try").get_attribute("open") is None

    browser.go(at("list", "dead"))
    browser.click("input[name=job]")
    FinishedJobFactory(state="dead", task="shop.new")
    with pytest.raises(AssertionError):
        wait_until(lambda: "shop.new" in browser.text(), within=1.5)
    assert browser.find("input[name=job]").is_selected()


def test_the_customer_watches_an_order(browser: Browser) -> None:
    order = Order.objects.create(customer="Ada", email="ada@example.com", total=100, reference=JobFactory().id)
    job = JobFactory(running=True, task=send_receipt.name)
    OrderJob.objects.create(order=order, job=job.id, task=send_receipt.name)
    ProgressFactory(job=job.id, done=3, total=10, text="writing it")
    browser.be("nobody")
    try:
        browser.go(order.get_absolute_url())
        saw(browser, "writing it")
        assert browser.find(".live progress").get_attribute("value") == "0.3"
        ProgressFactory._meta.model.objects.update(done=7, text="sending it")
        saw(browser, "sending it")
        FinishedJobFactory(id=job.id, task=send_receipt.name)
        Job.objects.filter(pk=job.id).delete()
        saw(browser, "Everything is done.")
        assert browser.complaints() == []
    finally:
        order.delete()
