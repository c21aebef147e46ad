"""Background blocks in the worker: only what this site has signed is rendered, whatever was deployed in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import Context
from django.template.response import TemplateResponse
from django.test import Client, override_settings
from django.urls import path
from django.utils import timezone

from jobs.background import template_of
from jobs.conf import JobsSettings
from jobs.dashboard.block import FORGED, GONE, UNREADABLE
from jobs.declare import registry
from jobs.errors import TagOutsideTransaction
from jobs.fit import Misfit
from jobs.ids import new_id
from jobs.models import Block, FinishedJob
from jobs.prune import prune
from jobs.recipe import RENDER, Recipe, read, sign, verifies
from outbox.errors import TransactionRequired
from outbox.models import Message, SetAsideMessage
from outbox.session import Query, Session
from tests.factories import FinishedJobFactory, JobFactory
from tests.support.blocks import blocks, compiled, messages, named, notes, page, templates, work, worked
from tests.support.committing import _django_db_helper, on_default  # noqa: F401
from tests.support.dashboard import at
from tests.support.observer import at_once, observer
from tests.support.people import MARKUP, Elements, staff
from tests.support.processes import Program
from tests.support.sql import a_cursor

rolled_back = pytest.mark.django_db

BLOCK = "{% background n=1 %}{% effect n %}{% endbackground %}"


# Signed ---------------------------------------------------------------------------------------------------------------


def test_a_recipe_is_one_text_and_comes_back_from_it() -> None:
    recipe = Recipe("django", "ä.html", 3, False, source="{{ a }}\n", loads=(("l10n", ("localize",)), ("tz", None)))

    assert read(recipe.text) == recipe
    assert recipe.digest == read(recipe.text).digest
    assert recipe.digest != Recipe("django", "ä.html", 3, True, source="{{ a }}\n", loads=recipe.loads).digest
    assert verifies(recipe.text, sign(recipe.text))
    assert not verifies(recipe.text + " ", sign(recipe.text))
    assert not verifies(recipe.text, "")


@rolled_back
def test_an_old_key_is_good_as_long_as_it_is_a_fallback() -> None:
    with override_settings(SECRET_KEY="old"):
        page(BLOCK + '{% background "tests/welcome.html" user_id=1 %}')
    kept = [(message.uid, message.headers, message.body) for message in messages()]

    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "old"]):
        assert worked() == ["1", "welcome 1"]
    Message.objects.bulk_create(Message(uid=uid, headers=headers, body=body) for uid, headers, body in kept)
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[]):
        outcomes = work()

    assert [outcome.state for outcome in outcomes] == ["dead", "dead"]
    assert all("SECRET_KEY_FALLBACKS" in outcome.error for outcome in outcomes)


@rolled_back
def test_a_new_key_signs_the_block_anew_before_the_old_one_is_dropped() -> None:
    with override_settings(SECRET_KEY="old"):
        page(BLOCK)
        worked()
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
        page(BLOCK)
    assert blocks() == 2

    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[]):
        assert worked() == ["1", "1"]


def forged(reference: Any) -> Any:
    """What becomes of a job whose row somebody has written by hand."""
    page(BLOCK)
    (message,) = messages()
    body = json.loads(message.body)
    body["args"][0] = reference
    Message.objects.update(body=json.dumps(body))
    (outcome,) = work()
    return outcome


EVIL = Recipe("django", "x.html", 1, False, source="{% load works %}{% effect 'owned' %}").text
OTHER = Recipe("django", "", 1, True, partial="admin/login.html").text


@rolled_back
@pytest.mark.parametrize(
    "reference",
    [
        {"recipe": EVIL, "signature": "0" * 64},
        {"recipe": EVIL, "signature": sign(EVIL + " ")},
        {"recipe": EVIL, "signature": ""},
        {"recipe": EVIL},
        {"recipe": OTHER, "signature": sign(Recipe("django", "", 1, True, partial="tests/welcome.html").text)},
        {"recipe": 5, "signature": 5},
        {"digest": "0" * 64},
        {"digest": None, "recipe": EVIL},
        {},
    ],
)
def test_a_row_cannot_bring_a_template_or_choose_another(reference: Any) -> None:
    outcome = forged(reference)

    assert outcome.state == "dead"
    assert "signature" in outcome.error or "not kept" in outcome.error
    assert notes() == []


@rolled_back
def test_a_stored_block_that_was_changed_is_not_rendered() -> None:
    page(BLOCK)
    Block.objects.update(recipe=EVIL)

    (outcome,) = work()

    assert outcome.state == "dead"
    assert notes() == []


@rolled_back
def test_a_forged_row_beside_the_true_one_changes_nothing() -> None:
    page(BLOCK)
    true = Block.objects.get()
    Block.objects.create(digest=true.digest, signature="0" * 64, recipe=EVIL)

    assert worked() == ["1"]


# Deploys --------------------------------------------------------------------------------------------------------------


@rolled_back
def test_a_deploy_changes_nothing_for_blocks_under_way() -> None:
    """P47: workers need not have the template any more, nor the same."""
    before = "{% load background works %}{% background n=1 %}{% effect 'old' n %}{% endbackground %}"
    after = "{% load background works %}{% background n=1 %}{% effect 'new' n %}{% endbackground %}"
    with override_settings(TEMPLATES=templates(files={"a.html": before})):
        named("a.html")
    with override_settings(TEMPLATES=templates(files={"a.html": after})):
        named("a.html")
    with override_settings(TEMPLATES=templates()):
        assert worked() == ["old 1", "new 1"]


@rolled_back
def test_a_deploy_changes_what_a_partial_is() -> None:
    with override_settings(TEMPLATES=templates(files={"a.html": "{% load works %}{% effect 'old' %}"})):
        page('{% background "a.html" %}')
    with override_settings(TEMPLATES=templates(files={"a.html": "{% load works %}{% effect 'new' %}"})):
        assert worked() == ["new"]


@rolled_back
@pytest.mark.parametrize("source", [BLOCK, '{% background "tests/welcome.html" user_id=1 %}'])
def test_what_this_code_cannot_render_waits_for_code_that_can(source: str) -> None:
    """A worker of the version before, in the middle of a deploy."""
    page(source)
    kept = [(message.uid, message.headers, message.body) for message in messages()]

    with override_settings(TEMPLATES=templates(libraries={"works": "tests.templatetags.other_money"})):
        (outcome,) = work()
    assert outcome.state == "scheduled"
    assert outcome.attempts == 0
    assert "works" in outcome.error or "tests/welcome.html" in outcome.error or "effect" in outcome.error

    Message.objects.bulk_create(Message(uid=uid, headers=headers, body=body) for uid, headers, body in kept)
    assert worked()[0] in ("1", "welcome 1")


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe("jinja2", "a.html", 1, True, source="x"), "no Django engine 'jinja2' for the block at a.html:1"),
        (Recipe("django", "a.html", 4, True, partial="b.html"), r"no template b\.html, which a\.html:4 renders"),
        (
            Recipe("django", "a.html", 4, True, source="{% x %}", loads=(("gone", None),)),
            r"no library gone\): .*line 4",
        ),
        (Recipe("django", "", 4, True, source="{{ x|y }}"), "a template without a name:4: Invalid filter"),
    ],
)
def test_a_misfit_says_what_is_missing(recipe: Recipe, words: str) -> None:
    with pytest.raises(Misfit, match=words):
        template_of(recipe)


# Two requests at once -------------------------------------------------------------------------------------------------


def in_a_request_of_its_own(do: Callable[[], Any]) -> None:
    """In this thread's own connection, in a transaction that waits for nobody longer than a second."""
    try:
        with transaction.atomic():
            with a_cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '1s'")
            do()
    finally:
        connections.close_all()


@pytest.mark.postgresql("two transactions that write are open at once")
@on_default
def test_two_open_transactions_that_use_a_block_for_the_first_time_do_not_wait() -> None:
    template = compiled(BLOCK)

    def second() -> None:
        assert blocks() == 0  # it cannot see the other's row
        template.render(Context())

    with transaction.atomic():
        template.render(Context())
        at_once(lambda: in_a_request_of_its_own(second))  # commits while the first is open

    assert worked() == ["1", "1"]


@pytest.mark.postgresql("two transactions that write are open at once")
@on_default
def test_a_first_use_that_is_rolled_back_leaves_the_second_what_it_needs() -> None:
    template = compiled(BLOCK)

    with transaction.atomic():
        template.render(Context())
        at_once(lambda: in_a_request_of_its_own(lambda: page(BLOCK)))
        transaction.set_rollback(True)

    assert worked() == ["1"]


@on_default
def test_without_a_transaction_the_job_and_its_source_commit_together() -> None:
    page(BLOCK)
    assert committed() == (1, 1)

    with a_cursor() as cursor:
        cursor.execute("ALTER TABLE jobs_block RENAME TO somewhere_else")
        try:
            with pytest.raises(DatabaseError, match="jobs_block"):
                page(BLOCK)
        finally:
            cursor.execute("ALTER TABLE somewhere_else RENAME TO jobs_block")
    assert committed() == (1, 1)


# Requests -------------------------------------------------------------------------------------------------------------


def rendered(request: HttpRequest) -> HttpResponse:
    return render(request, "tests/page.html", {"n": 1})


def rendered_then_crashes(request: HttpRequest) -> HttpResponse:
    render(request, "tests/page.html", {"n": 1})
    raise RuntimeError("after the render")


def template_response(request: HttpRequest) -> HttpResponse:
    return TemplateResponse(request, "tests/page.html", {"n": 1})


def nothing_to_pass(request: HttpRequest) -> HttpResponse:
    return TemplateResponse(request, "tests/page.html", {})


urlpatterns = [
    path("render", rendered),
    path("crash", rendered_then_crashes),
    path("later", template_response),
    path("nothing", nothing_to_pass),
]


@pytest.fixture
def site(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Client:
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    return Client(raise_request_exception=False)


def committed() -> tuple[int, int]:
    """Messages and blocks that others see."""
    with observer() as other:
        return tuple(
            other.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("outbox_message", "jobs_block")
        )  # type: ignore[return-value,index]


@on_default
@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize(
    ("url", "status", "written"),
    [("/render", 200, (1, 1)), ("/crash", 500, (0, 0)), ("/later", 200, (1, 1)), ("/nothing", 500, (0, 0))],
)
def test_under_atomic_requests(
    site: Client, settings: Any, url: str, status: int, written: tuple[int, int], required: bool
) -> None:
    """A TemplateResponse is rendered after the request's transaction: it commits by itself, or is refused."""
    settings.OUTBOX = {"REQUIRE_TRANSACTION": required}
    if required and url == "/later":
        status, written = 500, (0, 0)

    answer = site.get(url)

    assert answer.status_code == status
    assert committed() == written
    if status == 200:
        assert "{%" not in answer.content.decode()


@on_default
def test_outside_a_transaction_the_error_says_to_use_render(settings: Any) -> None:
    settings.OUTBOX = {"REQUIRE_TRANSACTION": True}

    with pytest.raises(
        TagOutsideTransaction, match=r"tests/page\.html:3 was rendered outside.*render\(request"
    ) as caught:
        named("tests/page.html", n=1)

    assert isinstance(caught.value, TransactionRequired)
    assert committed() == (0, 0)
    with transaction.atomic():
        named("tests/page.html", n=1)
    assert committed() == (1, 1)


# The whole way --------------------------------------------------------------------------------------------------------


def test_a_block_and_a_partial_run_in_real_workers(runworkers: Callable[..., Program]) -> None:
    """P1, P2: through the outbox, the relay and a slot."""
    page('{% background priority="high" n=2 %}{% effect n %}{% endbackground %}' * 3)
    page('{% background "tests/welcome.html" user_id=9 %}')

    assert runworkers("--burst", "--slots", "1").ended() == 0

    assert sorted(notes()) == ["2", "2", "2", "welcome 9"]
    assert set(FinishedJob.objects.values_list("state", "task")) == {("succeeded", RENDER)}


def test_the_task_is_registered() -> None:
    assert registry[RENDER].name == "jobs.background.render_block"


# Retention ------------------------------------------------------------------------------------------------------------

DAY = timedelta(days=1)
KEEP = JobsSettings(KEEP_SUCCEEDED=3 * DAY, KEEP_DEAD=10 * DAY)
FOR_EVER = JobsSettings(KEEP_DEAD=None)
AT_ONCE = JobsSettings(KEEP_SUCCEEDED=0 * DAY, KEEP_DEAD=0 * DAY)


def stored(days: float, *, looked: float | None = None, digest: str = "a" * 64, signature: str = "s" * 64) -> int:
    """A block written and last used so many days ago."""
    then = timezone.now() - timedelta(days=days)
    looked_at = then if looked is None else timezone.now() - timedelta(days=looked)
    block = Block.objects.create(
        digest=digest, signature=signature, recipe="{}", written_at=then, used_at=then, looked_at=looked_at
    )
    return int(block.pk)


def naming(digest: str = "a" * 64) -> str:
    return json.dumps({"args": [{"digest": digest}, {"n": 1}], "kwargs": {}}, separators=(",", ":"))


@on_default
@pytest.mark.parametrize(
    ("days", "settings", "goes"),
    [(11.9, KEEP, False), (12.1, KEEP, True), (1000, FOR_EVER, False), (1.9, AT_ONCE, False)],
)  # fmt: skip
def test_a_block_that_no_job_names_goes_when_no_ended_job_can_name_it(
    session: Session, days: float, settings: JobsSettings, goes: bool
) -> None:
    block = stored(days)

    assert prune(session, settings) == int(goes)
    assert Block.objects.filter(pk=block).exists() is not goes


@on_default
@pytest.mark.parametrize("home", ["job", "message", "set aside"])
def test_a_block_that_a_waiting_job_names_stays(session: Session, home: str) -> None:
    block, other = stored(100), stored(100, digest="b" * 64)
    headers = json.dumps({"v": 1, "task": RENDER}, separators=(",", ":"))
    if home == "job":
        JobFactory(task=RENDER, arguments=naming())
        JobFactory(task="tests.tasks.noop", arguments=naming("b" * 64))
    elif home == "message":
        Message.objects.create(uid=new_id(), headers=headers, body=naming())
    else:
        SetAsideMessage.objects.create(uid=new_id(), headers=headers, body=naming(), error="")

    assert prune(session, KEEP) == 1

    kept = Block.objects.get()
    assert kept.pk == block != other
    assert kept.used_at > timezone.now() - timedelta(minutes=1)


@on_default
def test_a_block_is_looked_at_four_times_a_day(session: Session) -> None:
    JobFactory(task=RENDER, arguments=naming())
    lately, long_ago = stored(5, looked=0.2), stored(5, looked=0.3, digest="b" * 64)
    before = Block.objects.get(pk=lately).looked_at

    prune(session, KEEP)
    assert Block.objects.get(pk=long_ago).looked_at > timezone.now() - timedelta(minutes=1)
    assert Block.objects.get(pk=lately).looked_at == before


@on_default
def test_of_two_rows_of_one_block_the_later_stays(session: Session) -> None:
    JobFactory(task=RENDER, arguments=naming())
    earlier, later, signed_anew = stored(2.1), stored(1), stored(0.5, signature="t" * 64)
    fresh = stored(1.9, digest="c" * 64), stored(0, digest="c" * 64)

    assert prune(session, KEEP) == 1

    assert set(Block.objects.values_list("pk", flat=True)) == {later, signed_anew, *fresh}
    assert earlier not in Block.objects.values_list("pk", flat=True)


@on_default
def test_a_request_does_not_rely_on_a_block_that_retention_may_take() -> None:
    page(BLOCK)
    Block.objects.update(used_at=timezone.now() - timedelta(days=1, minutes=1))
    page(BLOCK)
    page(BLOCK)

    assert blocks() == 2


@pytest.mark.postgresql("two transactions that write are open at once")
@on_default
def test_retention_waits_for_no_request_and_the_other_way_round(session: Session) -> None:
    stored(100)
    with transaction.atomic():
        page(BLOCK)
        session.run(Query("SET lock_timeout = '2s'"))
        assert prune(session, KEEP) == 1
    assert blocks() == 1


# The page of the job --------------------------------------------------------------------------------------------------


def shown(job: Any, *permissions: str) -> str:
    answer = staff("jobs.view_job", *permissions).get(at("change", job.pk))
    assert answer.status_code == 200
    return str(answer.content.decode())


def finished_of(message: Message) -> FinishedJob:
    made: FinishedJob = FinishedJobFactory(id=message.uid, task=RENDER, arguments=message.body)
    message.delete()
    return made


@rolled_back
def test_the_page_of_a_job_shows_where_its_block_stands_and_its_source() -> None:
    named("tests/page.html", n=1)
    job = finished_of(messages()[0])

    page = shown(job, "jobs.view_arguments")

    assert "tests/page.html, line 3" in page
    assert "{% effect n %}" in page
    assert "digest" not in page and '<span class="jd-key-name">n</span>' in page
    assert "works" in page


@rolled_back
def test_without_the_permission_the_source_is_hidden() -> None:
    named("tests/page.html", n=1)
    job = finished_of(messages()[0])

    page = shown(job)

    assert "tests/page.html, line 3" in page
    assert "effect" not in page


@rolled_back
def test_the_page_of_a_partials_job_names_it() -> None:
    page('{% background "tests/welcome.html" user_id=7 %}')

    said = shown(finished_of(messages()[0]), "jobs.view_arguments")

    assert "tests/welcome.html" in said and "a template without a name, line 1" in said


@rolled_back
def test_what_stands_in_a_block_is_text_on_the_page() -> None:
    page(f"{{% background n=1 %}}{MARKUP}{{% endbackground %}}")

    assert Elements(shown(finished_of(messages()[0]), "jobs.view_arguments")).suspicious == []


@rolled_back
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (naming(), GONE), ("no JSON", UNREADABLE), ('{"args":[],"kwargs":{}}', UNREADABLE),
        ('{"args":[5],"kwargs":{}}', UNREADABLE), ('{"args":[{"digest":5}],"kwargs":{}}', GONE),
        ('{"args":[{"recipe":"{}","signature":"x"}],"kwargs":{}}', FORGED),
        ('{"args":[],"kwargs":{"template":{"recipe":5,"signature":null}}}', FORGED),
    ],
)  # fmt: skip
def test_the_page_opens_whatever_stands_in_the_row(arguments: str, words: str) -> None:
    said = shown(FinishedJobFactory(task=RENDER, arguments=arguments), "jobs.view_arguments")

    assert words in said.replace("&#x27;", "'")
