"""Jobs in Django admin: every state can be looked at, nothing can be changed, and arguments are for those who may."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from jobs.admin import HIDDEN
from jobs.models import Attempt, FinishedJob, Job, Key, Worker
from tests.factories import AttemptFactory, FinishedJobFactory, JobFactory, KeyFactory, WorkerFactory
from tests.support.people import MARKUP, Elements, staff, superuser

pytestmark = pytest.mark.django_db

MODELS = {"job": JobFactory, "finishedjob": FinishedJobFactory, "attempt": AttemptFactory, "key": KeyFactory,
          "worker": WorkerFactory}  # fmt: skip
HOMES = {"job": JobFactory, "finishedjob": FinishedJobFactory}


def listing(name: str) -> str:
    return reverse(f"admin:jobs_{name}_changelist")


def page_of(name: str, row: Any) -> str:
    return reverse(f"admin:jobs_{name}_change", args=[row.pk])


def text_of(client: Client, url: str, **query: Any) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return str(answer.content.decode())


def rows_in(client: Client, name: str, **query: Any) -> set[str]:
    """The primary keys that the list shows."""
    answer = client.get(listing(name), query)
    assert answer.status_code == 200
    return {str(row.pk) for row in answer.context["cl"].result_list}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("job", {}),
        ("job", {"scheduled": True}),
        ("job", {"running": True}),
        ("job", {"retrying": True, "error": "ValueError: no", "crashes": 2}),
        ("job", {"priority": 7, "source_name": "check/out", "idempotency_key": "k", "depth": 3}),
        ("finishedjob", {}),
        ("finishedjob", {"state": "dead", "result": None, "error": "ValueError: no"}),
        ("finishedjob", {"state": "cancelled", "result": None, "started_at": None}),
        ("finishedjob", {"result": '{"a":[1e+16]}', "crashes": 1}),
        ("attempt", {"traceback": "Traceback ..."}),
        ("attempt", {"kind": "timed_out", "worker": 5}),
        ("key", {}),
        ("worker", {"queues": "mail,reports"}),
    ],
)
def test_the_pages_open_in_every_state(name: str, given: dict[str, Any]) -> None:
    row = MODELS[name](**given)
    client = superuser()

    listed = text_of(client, listing(name))
    shown = text_of(client, page_of(name, row))

    assert str(row.pk) in listed
    for value in given.values():
        if isinstance(value, str) and name != "finishedjob":
            assert escape(value) in shown


def test_a_job_page_tells_the_whole_story() -> None:
    job = JobFactory(
        retrying=True, source_name="check/out", arguments='{"args":[1e+16,"ä"],"kwargs":{}}', max_attempts=3, crashes=1,
    )  # fmt: skip
    AttemptFactory(job=job.id, number=1, lease=1, error="ValueError: first", traceback="Traceback (most recent ...")
    AttemptFactory(job=job.id, number=2, lease=2, kind="timed_out", error="killed at its limit of 60 s")
    AttemptFactory(error="another job's")

    page = text_of(superuser(), page_of("job", job))

    assert "check/out" in page
    assert "1 of 3 + 1 crash" in page
    assert "1e+16" in page and "ä" in page
    assert "ValueError: first" in page and "Traceback (most recent" in page
    assert "attempt 2: timed out" in page
    assert "another job" not in page


def test_a_finished_job_shows_what_it_returned_and_how_long_it_took() -> None:
    ended = timezone.now()
    job = FinishedJobFactory(result='{"sent":true}', started_at=ended - timedelta(seconds=1.5), ended_at=ended)

    page = text_of(superuser(), page_of("finishedjob", job))

    assert "&quot;sent&quot;: true" in page
    assert "1.500 s" in page


def test_the_difference_between_no_result_and_a_result_of_nothing_is_seen() -> None:
    nothing = FinishedJobFactory(result="null")
    none = FinishedJobFactory(result=None)
    client = superuser()

    assert ">null</pre>" in text_of(client, page_of("finishedjob", nothing))
    assert ">null</pre>" not in text_of(client, page_of("finishedjob", none))


@pytest.mark.parametrize("name", MODELS)
def test_nobody_adds_changes_or_deletes(name: str) -> None:
    row = MODELS[name]()
    client = superuser()
    before = type(row).objects.values().get()

    answers = [
        client.get(reverse(f"admin:jobs_{name}_add")).status_code,
        client.post(reverse(f"admin:jobs_{name}_add"), {"task": "os.system"}).status_code,
        client.post(page_of(name, row), {"task": "os.system", "state": "ready"}).status_code,
        client.get(reverse(f"admin:jobs_{name}_delete", args=[row.pk])).status_code,
        client.post(reverse(f"admin:jobs_{name}_delete", args=[row.pk]), {"post": "yes"}).status_code,
        client.post(
            listing(name), {"action": "delete_selected", "_selected_action": [row.pk], "index": 0, "post": "yes"}
        ).status_code,
    ]

    assert answers[:5] == [403] * 5
    assert answers[5] in (200, 302, 403)
    assert type(row).objects.values().get() == before


@pytest.mark.parametrize("name", MODELS)
def test_staff_without_the_permission_sees_nothing(name: str) -> None:
    row = MODELS[name]()
    client = staff()

    assert client.get(listing(name)).status_code == 403
    assert client.get(page_of(name, row)).status_code == 403
    assert client.get(reverse("admin:app_list", args=["jobs"])).status_code == 404


@pytest.mark.parametrize("name", MODELS)
def test_who_is_not_logged_in_is_sent_to_the_login(name: str) -> None:
    row = MODELS[name]()

    for url in (listing(name), page_of(name, row)):
        answer = Client().get(url)
        assert (answer.status_code, "/login/" in answer["Location"]) == (302, True)


@pytest.mark.parametrize("name", HOMES)
def test_arguments_and_results_are_hidden_from_who_may_only_see_jobs(name: str) -> None:
    given = {"result": '{"a":"canary"}'} if name == "finishedjob" else {}
    job = HOMES[name](arguments='{"args":["canary"],"kwargs":{}}', **given)
    client = staff(f"jobs.view_{name}")

    page = text_of(client, page_of(name, job))

    assert "canary" not in page
    assert HIDDEN in page
    assert "canary" not in text_of(client, listing(name))
    assert "canary" not in text_of(client, reverse(f"admin:jobs_{name}_history", args=[job.pk]))


@pytest.mark.parametrize("name", HOMES)
def test_arguments_are_shown_to_who_may_see_them(name: str) -> None:
    job = HOMES[name](arguments='{"args":["canary"],"kwargs":{}}')
    client = staff(f"jobs.view_{name}", "jobs.view_arguments")

    page = text_of(client, page_of(name, job))

    assert "canary" in page
    assert HIDDEN not in page


@pytest.mark.parametrize(
    ("name", "lookup", "right", "wrong"),
    [
        ("job", "arguments__contains", "canar", "turtle"),
        ("job", "arguments__regex", "can.ry", "tur.le"),
        ("finishedjob", "arguments__startswith", '{"args":["c', '{"args":["x'),
        ("finishedjob", "result__contains", "canar", "turtle"),
        ("finishedjob", "result__isnull", "0", "1"),
    ],
)
def test_what_is_hidden_cannot_be_guessed_by_filtering(name: str, lookup: str, right: str, wrong: str) -> None:
    given = {"result": '"canary"'} if name == "finishedjob" else {}
    HOMES[name](arguments='{"args":["canary"],"kwargs":{}}', **given)
    client = staff(f"jobs.view_{name}")

    answers = [client.get(listing(name), {lookup: value}) for value in (right, wrong)]

    shown = [len(answer.context["cl"].result_list) if answer.status_code == 200 else None for answer in answers]
    assert shown[0] == shown[1]


def test_a_job_is_found_by_its_id_or_the_start_of_its_source_name_or_task() -> None:
    job = JobFactory(source_name="check/out", task="shop.tasks.send")
    other = JobFactory(source_name="other", task="shop.tasks.other")
    client = superuser()

    for term in (str(job.id), str(job.id).upper(), job.id.hex, f" {job.id} ", "check/out", "check", "shop.tasks.send"):
        assert rows_in(client, "job", q=term) == {str(job.id)}, term
    assert rows_in(client, "job", q="shop.tasks") == {str(job.id), str(other.id)}
    assert rows_in(client, "job", q="") == {str(job.id), str(other.id)}
    assert rows_in(client, "job", q="nothing") == set()
    assert rows_in(client, "job", q="%") == set()


@pytest.mark.parametrize("term", ["'", "%", "%00", "5", "a" * 5000, "%5C", "{}", "urn:uuid:0", "%D9%A1", "%ED%A0%BD"])
def test_any_search_is_answered(term: str) -> None:
    client = superuser()

    for name in HOMES:
        HOMES[name]()

        assert client.get(f"{listing(name)}?q={term}").status_code == 200


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state__exact": "retrying"}, {"retrying"}),
        ({"queue": "mail"}, {"mail"}),
        ({"task": "shop.tasks.other"}, {"task"}),
        ({"band": "high"}, {"high"}),
        ({"band": "low"}, {"low"}),
        ({"band": "default", "state__exact": "ready", "queue": "default", "task": "tests.tasks.noop"}, {"plain"}),
        ({"band": "nonsense", "queue": "mail"}, {"mail"}),
    ],
    ids=str,
)
def test_filters(query: dict[str, str], expected: set[str]) -> None:
    jobs = {
        "plain": JobFactory(),
        "retrying": JobFactory(retrying=True),
        "mail": JobFactory(queue="mail"),
        "task": JobFactory(task="shop.tasks.other"),
        "high": JobFactory(priority=50),
        "low": JobFactory(priority=-50),
    }

    assert rows_in(superuser(), "job", **query) == {str(jobs[name].pk) for name in expected}


@pytest.mark.parametrize(("name", "column"), [("job", "enqueued_at"), ("finishedjob", "ended_at")])
def test_a_filter_by_time(name: str, column: str) -> None:
    today = HOMES[name]()
    HOMES[name](**{column: timezone.now() - timedelta(days=40)})
    since = (timezone.now() - timedelta(days=7)).isoformat()

    assert rows_in(superuser(), name, **{f"{column}__gte": since}) == {str(today.pk)}


@pytest.mark.parametrize("order", ["1", "-2", "3.-5", "99", "x", "-"])
def test_any_order_is_answered(order: str) -> None:
    JobFactory()

    assert superuser().get(listing("job"), {"o": order}).status_code == 200


@pytest.mark.parametrize("query", ["p=99", "p=x", "all=", "state__exact=nonsense", "e=1", "band=%00", "_popup=1"])
def test_any_query_is_answered(query: str) -> None:
    JobFactory()

    assert superuser().get(f"{listing('job')}?{query}").status_code in (200, 302)


def test_markup_in_any_field_is_text_on_every_page() -> None:
    columns = {"task": MARKUP, "queue": MARKUP, "source_name": MARKUP, "idempotency_key": MARKUP, "error": MARKUP}
    body = f'{{"args":["{MARKUP}"],"kwargs":{{}}}}'
    rows = {
        "job": JobFactory(**columns, arguments=body),
        "finishedjob": FinishedJobFactory(**columns, arguments=MARKUP, result=MARKUP),
        "worker": WorkerFactory(name=MARKUP, queues=MARKUP),
        "key": KeyFactory(task=MARKUP, key=MARKUP),
    }
    rows["attempt"] = AttemptFactory(job=rows["job"].pk, error=MARKUP, traceback=MARKUP)
    AttemptFactory(job=rows["finishedjob"].pk, error=MARKUP, traceback=MARKUP)
    client = superuser()

    for name, row in rows.items():
        for url in (listing(name), page_of(name, row), reverse(f"admin:jobs_{name}_history", args=[row.pk])):
            page = text_of(client, url)
            assert Elements(page).suspicious == [], url
        assert "alert(1)" in text_of(client, page_of(name, row))


@pytest.mark.parametrize(
    "arguments",
    [
        "garbage", "", "null", "[" * 100_000, "9" * 10_000, '{"args":["\\ud800"],"kwargs":{}}',
        '{"args":["\\u0000"],"kwargs":{}}', '{"args":[NaN],"kwargs":{}}', '"' + "x" * 200_000 + '"',
    ],
    ids=lambda text: text[:25],
)  # fmt: skip
def test_a_page_opens_whatever_stands_in_the_row(arguments: str) -> None:
    job = JobFactory(arguments=arguments)
    ended = FinishedJobFactory(arguments=arguments, result=arguments)
    client = superuser()
    client.raise_request_exception = False

    assert client.get(page_of("job", job)).status_code == 200
    assert client.get(page_of("finishedjob", ended)).status_code == 200


@pytest.mark.parametrize("name", MODELS)
def test_more_rows_are_not_more_queries(name: str) -> None:
    client = superuser()

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(listing(name)).status_code == 200
        return len(captured)

    queries()
    MODELS[name]()
    with_one = queries()
    MODELS[name].create_batch(30)  # type: ignore[attr-defined]

    assert queries() == with_one


def test_more_attempts_are_not_more_queries() -> None:
    job = JobFactory()
    client = superuser()

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(page_of("job", job)).status_code == 200
        return len(captured)

    AttemptFactory(job=job.id, lease=1)
    queries()
    with_one = queries()
    for lease in range(2, 30):
        AttemptFactory(job=job.id, lease=lease)

    assert queries() == with_one


def test_a_list_does_not_read_the_arguments() -> None:
    FinishedJobFactory()
    JobFactory()
    client = superuser()

    for name in HOMES:
        with CaptureQueriesContext(connection) as captured:
            client.get(listing(name))
        assert not any('"arguments"' in query["sql"] for query in captured)


def test_an_unknown_id_is_no_server_error() -> None:
    client = superuser()

    for name in MODELS:
        for key in ("0", "nonsense", "01890000-0000-7000-8000-000000000001", "99999999999999999999"):
            assert client.get(reverse(f"admin:jobs_{name}_change", args=[key])).status_code in (302, 404)


def test_all_that_a_person_may_want_to_see_is_registered() -> None:
    index = text_of(superuser(), reverse("admin:index"))

    for model in (Job, FinishedJob, Attempt, Key, Worker):
        assert listing(model._meta.model_name or "") in index
