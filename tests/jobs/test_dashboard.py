"""The dashboard in Django admin: every state can be looked at, and arguments are for those who may see them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils import timezone

from jobs import admin as jobs_admin
from jobs.dashboard import filters, listing, look
from jobs.dashboard.failures import Group
from jobs.ids import new_id
from jobs.models import FinishedJob, Job
from jobs.pages import HIDDEN
from tests.factories import (
    AttemptFactory,
    FinishedJobFactory,
    JobFactory,
    LogLineFactory,
    MessageFactory,
    ProgressFactory,
    QueueFactory,
    SetAsideMessageFactory,
    StatFactory,
    WorkerFactory,
)
from tests.support.dashboard import STATES, at, fill_all
from tests.support.people import MARKUP, Elements, staff, superuser
from tests.support.sql import a_cursor
from tests.support.values import named

pytestmark = pytest.mark.django_db

ops = admin.AdminSite(name="ops")
jobs_admin.register(ops)

urlpatterns = [path("admin/", admin.site.urls), path("elsewhere/ops/", ops.urls)]


def text_of(client: Client, url: str, **query: Any) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200, url
    return str(answer.content.decode())


def listed(client: Client, state: str, **query: Any) -> set[str]:
    """The ids of the jobs that a list shows."""
    answer = client.get(at("list", state), query)
    assert answer.status_code == 200
    return {str(row.id) for row in answer.context["page"].jobs}


# Pages ----------------------------------------------------------------------------------------------------------------


def test_every_page_opens_when_there_is_nothing() -> None:
    client = superuser()

    for page in ("changelist", "failures", "queues", "workers", "failure"):
        assert "jd-empty" in text_of(client, at(page)) or page == "queues"
    for state in STATES:
        assert "jd-empty" in text_of(client, at("list", state))


def test_every_page_opens_when_there_is_something_of_everything() -> None:
    filled = fill_all()
    client = superuser()

    for url in filled.pages().values():
        page = text_of(client, url)
        assert "too slow" not in page
    for state in STATES:
        assert str(filled.jobs[state]) in text_of(client, at("list", state))
    for page in ("list of dead", "job that is dead", "failures", "a failure"):
        assert "the mailbox is full" in text_of(client, filled.pages()[page]), page


def test_a_fragment_is_the_live_part_of_the_page() -> None:
    client = superuser()

    for url in fill_all().pages().values():
        answer = client.get(url, headers={"HX-Request": "true"})
        assert answer.status_code == 200
        page = answer.content.decode()
        assert "<html" not in page and "jd-bar" not in page
        assert "HX-Request" in answer["Vary"]


def test_the_overview_says_first_what_needs_a_person(settings: Any) -> None:
    settings.JOBS = {**settings.JOBS, "LAG_LIMIT": 60.0}
    JobFactory(queue="reports", ready_at=timezone.now() - timedelta(minutes=5))
    FinishedJobFactory(state="dead")
    SetAsideMessageFactory()
    QueueFactory(name="mail", by="anna", reason="the provider is down")
    lost = WorkerFactory(heartbeat_at=timezone.now() - timedelta(minutes=1))

    page = text_of(superuser(), at("changelist"))

    for said in (
        "No worker is alive, and 1 jobs wait.", "reports", "is late: its eldest job has waited for 5 min",
        ">1 job</a>", "is dead", ">1 message</a>", "was set aside", "is paused by anna: the provider is down",
    ):  # fmt: skip
        assert said in page, said
    WorkerFactory()
    page = text_of(staff("jobs.view_job"), at("changelist"))
    assert "No worker is alive" not in page
    assert f"Worker {lost.pk}</a> is silent" in page


def test_the_overview_is_calm_when_all_is_well() -> None:
    WorkerFactory()

    page = text_of(superuser(), at("changelist"))

    assert "Nothing needs you" in page
    assert staff("jobs.view_job").get(at("changelist"))["Cache-Control"].startswith("no-store")


def test_the_overview_counts_and_measures() -> None:
    WorkerFactory()
    for outcome in ("succeeded", "succeeded", "dead", "retrying"):
        StatFactory(outcome=outcome, count=10, waits="20:10", runs="25:10")
    StatFactory(at=timezone.now() - timedelta(hours=3), count=1000, runs="1:1000", waits="1:1000")
    JobFactory.create_batch(3)

    hour = superuser().get(at("changelist")).context
    day = staff("jobs.view_job").get(at("changelist"), {"span": "24h"}).context

    whole = hour["trends"].whole
    assert (whole.total, whole.failed, whole.dead) == (40, 20, 10)
    assert 0.8 < whole.wait_half < 1.2 and 4 < whole.run_most < 6
    assert sum(hour["trends"].plots["succeeded"]) == 20 and len(hour["trends"].plots["t"]) == 60
    assert day["trends"].whole.total == 1040
    assert [queue.depth for queue in hour["queues"] if queue.name == "default"] == [3]


def test_versions_are_marked_where_they_begin() -> None:
    StatFactory(at=timezone.now() - timedelta(minutes=30), version="1")
    StatFactory(at=timezone.now() - timedelta(minutes=10), version="2")

    marks = superuser().get(at("changelist")).context["trends"].plots["marks"]

    assert [version for _, version in marks] == ["2"]


# The story of a job ---------------------------------------------------------------------------------------------------


def test_a_job_page_tells_the_whole_story() -> None:
    parent = FinishedJobFactory(task="shop.tasks.parent", origin="POST /orders/, user 5 anna")
    job = JobFactory(
        retrying=True, source_name="check/out", arguments='{"args":[1e+16,"ä"],"kwargs":{}}', max_attempts=3, crashes=1,
        parent=parent.id,
    )  # fmt: skip
    AttemptFactory(job=job.id, number=1, lease=1, error="ValueError: first", traceback="Traceback (most recent ...")
    AttemptFactory(job=job.id, number=2, lease=2, kind="timed_out", error="killed at its limit of 60 s")
    AttemptFactory(error="another job's")
    LogLineFactory(job=job.id, text="sent it", level=40)
    child = JobFactory(parent=job.id, task="shop.tasks.child")

    page = text_of(superuser(), at("change", job.id))

    for said in (
        "check/out", "1 of 3 + 1 crash", "1e+16", "ä", "ValueError: first", "Traceback (most recent",
        "attempt 2: timed out", "sent it", "shop.tasks.parent", "POST /orders/, user 5 anna", str(child.id),
    ):  # fmt: skip
        assert said in page, said
    assert "another job" not in page


def test_a_finished_job_shows_what_it_returned_and_how_long_it_took() -> None:
    ended = timezone.now()
    job = FinishedJobFactory(result='{"sent":true}', started_at=ended - timedelta(seconds=1.5), ended_at=ended)

    page = text_of(superuser(), at("change", job.id))

    assert "sent" in page and ">true</span>" in page
    assert "1.5 s" in page


def test_the_difference_between_no_result_and_a_result_of_nothing_is_seen() -> None:
    nothing, none = FinishedJobFactory(result="null"), FinishedJobFactory(result=None)
    client = superuser()

    assert ">null</span>" in text_of(client, at("change", nothing.id))
    assert "none was kept" in text_of(client, at("change", none.id))


def test_progress_is_shown_with_its_rate() -> None:
    job = JobFactory(running=True)
    ProgressFactory(job=job.id, done=30, total=100, text="page 3")

    page = text_of(superuser(), at("change", job.id))

    assert 'max="1" value="0.3"' in page
    assert "30 of 100" in page and "page 3" in page and "5/s" in page and "14 s to go" in page


@pytest.mark.parametrize("given", [{"total": None}, {"total": 0}, {"done": -5}, {"done": 1e300, "total": 1e-300}])
def test_any_progress_can_be_shown(given: dict[str, Any]) -> None:
    job = JobFactory(running=True)
    ProgressFactory(job=job.id, **given)

    text_of(superuser(), at("change", job.id))


def test_a_message_is_a_job_too() -> None:
    written, aside = MessageFactory(body="canary"), SetAsideMessageFactory(body="canary", headers="{", error="no JSON")
    client = staff("jobs.view_job")

    for message in (written, aside):
        page = text_of(client, at("change", message.uid))
        assert "canary" not in page
    assert "no JSON" in page


@pytest.mark.parametrize(
    "arguments",
    [
        "garbage", "", "null", "[" * 100_000, "9" * 10_000, '{"args":["\\ud800"],"kwargs":{}}',
        '{"args":["\\u0000"],"kwargs":{}}', '{"args":[NaN],"kwargs":{}}', '"' + "x" * 200_000 + '"',
        '{"args":' + "[" * 500 + "]" * 500 + ',"kwargs":{}}',
    ],
    ids=lambda text: text[:25],
)  # fmt: skip
def test_a_page_opens_whatever_stands_in_the_row(arguments: str) -> None:
    job = JobFactory(arguments=arguments)
    ended = FinishedJobFactory(arguments=arguments, result=arguments)
    client = superuser()
    client.raise_request_exception = False

    assert client.get(at("change", job.id)).status_code == 200
    assert client.get(at("change", ended.id)).status_code == 200


def test_an_unknown_id_is_no_server_error() -> None:
    client = superuser()

    assert client.get(at("change", new_id())).status_code == 404
    for key in ("0", "nonsense", "99999999999999999999"):
        assert client.get(f"{at('changelist')}{key}/change/").status_code in (302, 404)
    assert client.get(at("list", "nonsense")).status_code == 200


# Lists ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["ready", "scheduled", "retrying", "running", "succeeded", "dead", "cancelled"])
def test_pages_by_key_show_each_job_once(state: str) -> None:
    traits = {state: True} if state in ("scheduled", "retrying", "running") else {"state": state}
    factory: Any = FinishedJobFactory if state in ("succeeded", "dead", "cancelled") else JobFactory
    same = timezone.now()
    times = {
        name: same for name in ("ended_at", "ready_at", "run_after", "claimed_at") if hasattr(factory._meta.model, name)
    }
    jobs = [factory(**traits, priority=n % 3, queue=("default", "mail")[n % 2]) for n in range(60)]
    jobs += [
        factory(**traits, **({k: v for k, v in times.items() if k != "run_after" or state in traits}))
        for _ in range(70)
    ]
    client = superuser()

    seen: list[str] = []
    after = ""
    for _ in range(10):
        page = client.get(at("list", state), {"after": after}).context["page"]
        seen += [str(row.id) for row in page.jobs]
        if page.next is None:
            break
        after = str(page.next)

    assert sorted(seen) == sorted(str(job.id) for job in jobs)


def test_a_page_of_the_history_reads_a_bounded_part_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HISTORY", "LAST_LOOKED_AT"):
        monkeypatch.setattr(listing, name, getattr(listing, name).replace("50000", "20").replace("49999", "19"))
    rare = FinishedJobFactory(task="shop.rare", ended_at=timezone.now() - timedelta(days=2))
    FinishedJobFactory.create_batch(30)
    client = superuser()

    first = client.get(at("list", "succeeded"), {"task": "shop.rare"}).context["page"]
    assert first.jobs == [] and first.stopped_at is not None
    second = client.get(at("list", "succeeded"), {"task": "shop.rare", "after": str(first.next)}).context["page"]

    assert [row.id for row in second.jobs] == [rare.id]
    assert second.next is None


def test_a_job_is_found_by_its_id_or_the_start_of_its_source_name_or_task() -> None:
    job = JobFactory(source_name="check/out", task="shop.tasks.send")
    other = JobFactory(source_name="other", task="shop.tasks.other")
    client = superuser()

    for term in (str(job.id), str(job.id).upper(), job.id.hex, f" {job.id} "):
        assert client.get(at("find"), {"q": term})["Location"] == at("change", job.id), term
    both = {job, other}
    for term, found in (("check/out", {job}), ("check", {job}), ("shop.tasks.send", {job}), ("shop.tasks", both),
                        ("", both), ("nothing", set()), ("%", set())):  # fmt: skip
        answer = client.get(at("find"), {"q": term, "state": "ready"}, follow=True)
        assert {row.id for row in answer.context["page"].jobs} == {one.id for one in found}, term


@pytest.mark.parametrize("term", ["'", "%", "%00", "5", "a" * 5000, "%5C", "{}", "urn:uuid:0", "%D9%A1", "%ED%A0%BD"])
def test_any_search_is_answered(term: str) -> None:
    client = superuser()
    JobFactory()

    assert client.get(f"{at('find')}?q={term}", follow=True).status_code == 200
    for state in STATES:
        for name in filters.NAMES:
            assert client.get(f"{at('list', state)}?{name}={term}").status_code == 200
        assert client.get(f"{at('list', state)}?after={term}").status_code == 200
    for page in ("failures", "failure", "changelist", "queues"):
        assert (
            client.get(f"{at(page)}?exception={term}&frame={term}&task={term}&search={term}&span={term}").status_code
            == 200
        )


@pytest.mark.parametrize(
    ("state", "query", "expected"),
    [
        ("retrying", {}, {"retrying"}),
        ("ready", {"queue": "mail"}, {"mail"}),
        ("ready", {"task": "shop.tasks.other"}, {"task"}),
        ("ready", {"band": "high"}, {"high"}),
        ("ready", {"band": "low"}, {"low"}),
        ("ready", {"band": "default", "queue": "default", "task": "tests.tasks.noop"}, {"plain", "source"}),
        ("ready", {"band": "nonsense", "queue": "mail"}, {"mail"}),
        ("ready", {"source_name": "check"}, {"source"}),
        ("dead", {"error": "mailBOX"}, {"dead"}),
        ("dead", {"error": "%"}, set()),
    ],
    ids=named,
)
def test_filters(state: str, query: dict[str, str], expected: set[str]) -> None:
    jobs = {
        "plain": JobFactory(),
        "retrying": JobFactory(retrying=True),
        "mail": JobFactory(queue="mail"),
        "task": JobFactory(task="shop.tasks.other"),
        "high": JobFactory(priority=50),
        "low": JobFactory(priority=-50),
        "source": JobFactory(source_name="check/out"),
        "dead": FinishedJobFactory(state="dead", error="ValueError: the mailbox is full"),
        "also dead": FinishedJobFactory(state="dead", error="KeyError: 5"),
    }

    assert listed(superuser(), state, **query) == {str(jobs[name].pk) for name in expected}


@pytest.mark.parametrize(("state", "column"), [("ready", "ready_at"), ("succeeded", "ended_at")])
def test_a_filter_by_time(state: str, column: str) -> None:
    factory: Any = JobFactory if state == "ready" else FinishedJobFactory
    today = factory()
    factory(**{column: timezone.now() - timedelta(days=40)})

    assert listed(superuser(), state, within="7d") == {str(today.pk)}


def test_more_rows_are_not_more_queries() -> None:
    client = superuser()

    def queries(url: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url).status_code == 200
        return len(captured)

    pages = fill_all().pages().values()
    for url in pages:
        queries(url)
    with_one = [queries(url) for url in pages]
    for factory in (JobFactory, FinishedJobFactory, AttemptFactory, WorkerFactory, StatFactory):
        factory.create_batch(30)  # type: ignore[attr-defined]

    assert [queries(url) for url in pages] == with_one


def test_a_list_does_not_read_the_arguments() -> None:
    filled = fill_all()
    client = superuser()

    for name, url in filled.pages().items():
        if "job that" not in name:
            with CaptureQueriesContext(connection) as captured:
                client.get(url)
            assert not any("arguments" in query["sql"].partition("FROM")[0] for query in captured), name


@pytest.mark.postgresql("statement_timeout, which SQLite has not: what ends a read there is in test_lite.py")
def test_a_read_that_takes_too_long_says_so() -> None:
    with pytest.raises(look.TooSlow):
        look.rows("SELECT pg_sleep(5)")
    assert look.one("SELECT current_setting('statement_timeout') AS t").t != "0"  # type: ignore[union-attr]
    assert look.rows("SELECT 1 AS n")[0].n == 1


@pytest.mark.postgresql("statement_timeout, which SQLite has not: what ends a read there is in test_lite.py")
def test_the_limit_ends_with_the_read() -> None:
    look.rows("SELECT 1")

    with a_cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


# Failures -------------------------------------------------------------------------------------------------------------


def failing(exception: str, frame: str, n: int, **columns: Any) -> list[FinishedJob]:
    jobs = FinishedJobFactory.create_batch(n, state="dead", result=None, **columns)
    for job in jobs:
        AttemptFactory(
            job=job.id,
            lease=job.lease,
            exception=exception,
            frame=frame,
            task=job.task,
            version="2",
            error=f"{exception}: x",
        )
    return jobs


def test_failures_are_grouped_by_exception_and_frame() -> None:
    failing("ValueError", "shop/a.py in f", 3, task="shop.f")
    failing("ValueError", "shop/a.py in g", 2)
    AttemptFactory(job=JobFactory(retrying=True).id, exception="ValueError", frame="shop/a.py in f", task="shop.f")
    AttemptFactory(exception="old", ended_at=timezone.now() - timedelta(days=60))

    groups = superuser().get(at("failures")).context["groups"]

    assert {(g.exception, g.frame): (g.n, g.jobs, g.dead, g.versions) for g in groups} == {
        ("ValueError", "shop/a.py in f"): (4, 4, 3, ["2"]),
        ("ValueError", "shop/a.py in g"): (2, 2, 2, ["2"]),
    }


def test_failures_can_be_narrowed() -> None:
    failing("ValueError", "shop/a.py in f", 1, task="shop.f")
    failing("KeyError", "shop/a.py in g", 1, task="shop.g")
    client = superuser()

    for query, found in (
        ({"task": "shop.g"}, ["KeyError"]),
        ({"search": "IN F"}, ["ValueError"]),
        ({"search": "%"}, []),
    ):
        assert [group.exception for group in client.get(at("failures"), query).context["groups"]] == found


def test_a_group_shows_its_newest_dead_jobs() -> None:
    jobs = failing("ValueError", "f", 2)
    failing("KeyError", "f", 1)

    context = superuser().get(at("failure"), {"exception": "ValueError", "frame": "f"}).context

    assert {row.id for row in context["jobs"]} == {job.id for job in jobs}
    assert context["count"].n == 2 and context["group"] == Group("ValueError", "f")


# Who may --------------------------------------------------------------------------------------------------------------


def test_arguments_and_results_are_hidden_from_who_may_only_see_jobs() -> None:
    filled = fill_all(
        lambda field: f"canary-{field}" if field in ("an argument", "name", "value", "sent", "to") else field
    )
    client = staff("jobs.view_job")

    for url in filled.pages().values():
        assert "canary" not in text_of(client, url), url
    assert HIDDEN in text_of(client, at("change", filled.jobs["dead"]))


def test_arguments_are_shown_to_who_may_see_them() -> None:
    job = JobFactory(arguments='{"args":["canary"],"kwargs":{}}')

    page = text_of(staff("jobs.view_job", "jobs.view_arguments"), at("change", job.id))

    assert "canary" in page
    assert HIDDEN not in page


@pytest.mark.parametrize(
    "query",
    [
        {"arguments__contains": "canar"},
        {"result__contains": "canar"},
        {"search": "canar"},
        {"error": "canar"},
        {"o": "arguments"},
    ],
    ids=str,
)
def test_what_is_hidden_cannot_be_guessed_by_filtering(query: dict[str, str]) -> None:
    FinishedJobFactory(arguments='{"args":["canary"],"kwargs":{}}', result='"canary"')
    client = staff("jobs.view_job")

    with_it = listed(client, "succeeded", **query)

    assert with_it == listed(
        client, "succeeded", **{name: value.replace("canar", "turtle") for name, value in query.items()}
    )


@pytest.mark.parametrize("who", ["anybody", "staff", "viewer"])
def test_every_page_for_every_role(who: str) -> None:
    filled = fill_all()
    client = {"anybody": Client, "staff": staff, "viewer": lambda: staff("jobs.view_job")}[who]()
    expected = {"anybody": 302, "staff": 403, "viewer": 200}[who]

    for name, url in filled.pages().items():
        answer = client.get(url)
        assert answer.status_code == expected, name
        if who == "anybody":
            assert "/login/" in answer["Location"]


def test_nobody_adds_changes_or_deletes_by_the_way_of_admin() -> None:
    job = JobFactory()
    client = superuser()

    assert client.get(reverse("admin:jobs_job_add")).status_code == 403
    assert client.post(reverse("admin:jobs_job_add"), {"task": "os.system"}).status_code == 403
    assert client.post(reverse("admin:jobs_job_delete", args=[job.pk]), {"post": "yes"}).status_code == 403
    assert client.post(at("change", job.pk), {"task": "os.system"}).status_code == 405
    assert client.post(at("changelist"), {"action": "delete_selected", "_selected_action": [job.pk]}).status_code == 405
    assert Job.objects.filter(pk=job.pk, task=job.task).exists()


def test_the_index_leads_to_the_dashboard() -> None:
    assert at("changelist") in text_of(superuser(), reverse("admin:index"))
    answer = staff().get(reverse("admin:app_list", args=["jobs"]))
    assert answer.status_code == 404


# Hostile text, other sites --------------------------------------------------------------------------------------------


def test_markup_in_any_field_is_text_on_every_page() -> None:
    filled = fill_all(lambda field: MARKUP)
    client = superuser()

    for name, url in filled.pages().items():
        page = text_of(client, url)
        assert Elements(page).suspicious == [], name
    assert "alert(1)" in text_of(client, at("change", filled.jobs["dead"]))


@override_settings(ROOT_URLCONF=__name__)
def test_the_pages_live_in_any_admin_site() -> None:
    filled = fill_all()
    client = superuser()

    for name, url in filled.pages("ops").items():
        assert url.startswith("/elsewhere/ops/")
        page = text_of(client, url)
        assert "/elsewhere/ops/" in page, name
        assert 'href="/admin/jobs' not in page, name
        assert 'action="/admin/jobs' not in page, name


def test_a_custom_default_site_has_them(settings: Any) -> None:
    class Own(admin.AdminSite):
        site_header = "our own"

    site = Own(name="own")
    jobs_admin.register(site)

    assert site.is_registered(Job)
    names = {pattern.name for pattern in site._registry[Job].get_urls()}  # type: ignore[attr-defined]
    assert {"jobs_job_changelist", "jobs_job_list", "jobs_job_act", "jobs_job_edit"} <= names
