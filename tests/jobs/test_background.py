"""The `{% background %}` tag: what it enqueues, what it refuses, and what it leaves on the page and in the tables."""

from __future__ import annotations

import enum
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection, models, transaction
from django.http import HttpRequest
from django.template import (
    Context,
    Engine,
    RequestContext,
    Template,
    TemplateDoesNotExist,
    TemplateSyntaxError,
    engines,
)
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import translation
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from jobs import get
from jobs.envelope import check_json
from jobs.errors import InvalidArguments, InvalidOption, PayloadTooLarge
from jobs.models import Block
from jobs.recipe import RENDER, read
from jobs.tag import plain
from jobs.testing import run_jobs
from tests.models import Effect
from tests.support.blocks import blocks, compiled, messages, named, notes, page, work, worked
from tests.support.floor import properties

pytestmark = pytest.mark.django_db


def headers() -> dict[str, Any]:
    """Of the one message there is."""
    (message,) = messages()
    return dict(json.loads(message.headers))


def variables() -> Any:
    (message,) = messages()
    return json.loads(message.body)["args"][1]


# Two forms ------------------------------------------------------------------------------------------------------------


def test_a_block_returns_at_once_renders_nothing_and_runs_later() -> None:
    """P1, P9: the tag returns immediately and its output is never rendered."""
    assert page("a{% background n=5 %}{% effect n %}loud{% endbackground %}b") == "ab"

    assert notes() == []
    assert headers()["task"] == RENDER
    assert worked() == ["5"]


def test_as_gives_the_id_of_the_job_at_once() -> None:
    """P2, P3: the variable receives the job id, and with it the job is found."""
    said = page("{% background as job %}{% endbackground %}{{ job }}")

    (message,) = messages()
    assert said == str(message.uid)
    assert get(said).status == "written"


def test_a_partial_is_rendered_by_its_name() -> None:
    """P2: a named partial, with an id and its arguments."""
    said = page('{% background "tests/welcome.html" as job user_id=user.id %}{{ job }}', user=User(id=7))

    assert UUID(said) == messages()[0].uid
    assert variables() == {"user_id": 7}
    assert blocks() == 0
    assert worked() == ["welcome 7"]


def test_the_documents_own_call() -> None:
    """P4, P5, P6, P7, P8: every parameter of the tag, as the documents write it."""
    page(
        '{% background priority="low" delay=5 max_attempts=3 source_name="my custom job" data=my_data hey="hello" %}'
        "{% effect data hey my_data|default:'nothing' %}{% endbackground %}",
        my_data=[1, 2],
    )

    assert headers() == {
        "v": 1, "task": RENDER, "queue": "default", "priority": -50, "max_attempts": 3,
        "source_name": "my_custom_job", "delay": 300.0,
    }  # fmt: skip
    assert variables() == {"data": [1, 2], "hey": "hello"}
    assert worked() == ["[1, 2] hello nothing"]


@pytest.mark.parametrize(
    ("given", "header", "value"),
    [
        ('priority="high"', "priority", 50), ('priority="default"', "priority", 0),
        ('priority="normal"', "priority", 0),
        ("priority=-7", "priority", -7), ("priority=p", "priority", 50), ("delay=0.5", "delay", 30.0),
        ("delay=minutes", "delay", 90.0), ("delay=pause", "delay", 7.0), ("max_attempts=five", "max_attempts", 5),
        ('source_name="a/b-c.d"', "source_name", "a/b-c.d"), ("source_name=label", "source_name", "nightly_run"),
    ],
)  # fmt: skip
def test_options_may_be_constants_or_variables(given: str, header: str, value: Any) -> None:
    """P4: fractions of a minute; P5: three names, "normal" too; P6; P7."""
    page(
        f"{{% background {given} %}}{{% endbackground %}}",
        p=mark_safe("high"), minutes=1.5, pause=timedelta(seconds=7), five=5, label=" nightly  run ",
    )  # fmt: skip

    assert headers()[header] == value
    assert variables() == {}


def test_without_options_a_job_gets_the_defaults() -> None:
    """P4: no delay; P5: default; P6: one attempt; P7: a name is generated."""
    named("tests/page.html", n=3)

    assert headers() == {
        "v": 1, "task": RENDER, "queue": "default", "priority": 0, "max_attempts": 1, "source_name": "tests/page.html",
    }  # fmt: skip
    recipe = read(Block.objects.get().recipe)
    assert (recipe.name, recipe.line) == ("tests/page.html", 3)


def test_a_partials_job_is_named_after_it() -> None:
    """P7."""
    page('{% background "tests/welcome.html" user_id=1 %}')

    assert headers()["source_name"] == "tests/welcome.html"


def test_a_block_of_a_background_block_does_not_fill_the_pages() -> None:
    template = Template(
        "{% extends 'tests/frame.html' %}{% load background works %}{% block middle %}mine{% endblock %}"
        "{% block end %}{% background %}{% kept %}{% block middle %}other{% endblock %}{% endkept %}{% endbackground %}"
        "{% endblock %}"
    )

    assert template.render(Context()).strip() == "<|mine|>"
    assert worked() == ["other"]


def test_run_jobs_renders_what_a_page_has_enqueued() -> None:
    page("{% background n=1 %}{% effect n %}{% background n=2 %}{% effect n %}{% endbackground %}{% endbackground %}")

    assert run_jobs().states == {"succeeded": 2}
    assert notes() == ["1", "2"]


def test_a_loop_makes_a_job_for_each_turn_and_one_row_for_the_block() -> None:
    """P14: staggered by a delay that grows; P39: one job per batch."""
    page(
        "{% for n in ns %}{% background delay=forloop.counter n=n %}{% effect n %}{% endbackground %}{% endfor %}",
        ns="ab",
    )

    assert [json.loads(message.headers)["delay"] for message in messages()] == [60.0, 120.0]
    assert blocks() == 1
    assert worked() == ["a", "b"]


def test_a_job_may_enqueue_jobs_from_its_block() -> None:
    """P11, P14b: what it enqueues knows its parent, and is a job of its own."""
    page(
        "{% background n=1 %}{% background n=n|add:1 %}{% effect n %}{% endbackground %}"
        "{% effect n %}{% endbackground %}"
    )
    (parent,) = messages()

    assert worked() == ["1"]
    (child,) = messages()
    assert json.loads(child.headers)["parent"] == str(parent.uid)
    assert json.loads(child.headers)["depth"] == 1
    assert worked() == ["1", "2"]


def test_a_template_that_renders_itself_in_the_background_compiles() -> None:
    named("tests/countdown.html", n=2)

    assert notes() == ["2"]
    assert worked() == ["2", "1"]
    assert worked() == ["2", "1", "0"]
    assert messages() == []


def test_a_partial_may_be_named_by_a_variable_or_relatively() -> None:
    page("{% background name user_id=1 %}", name="tests/welcome.html")
    named("tests/relative.html")

    assert [json.loads(message.headers)["source_name"] for message in messages()] == ["tests/welcome.html"] * 2


# What it refuses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ('priority="urgent"', "urgent.*low.*default.*high"),
        ("priority=101", "-100 to 100"),
        ("max_attempts=0", "from 1 to 10"),
        ("max_attempts=11", "MAX_ATTEMPTS_LIMIT"),
        ('max_attempts="3"', "whole number"),
        ("delay=-1", "0 or more minutes"),
        ('delay="5"', "number of minutes"),
        ('source_name="what?"', "letters, digits"),
        ("priority: 'low', delay: 5", "no colons and no commas"),
        ("n=1, m=2", "no colons and no commas"),
        ("job_id = 'tests/letter.html'", "no colons"),
        ("n=1 n=2", "given twice"),
        ("n=1 oops", "what is 'oops'"),
        ("n=1 as", "what is 'as'"),
        ("as a as b", "what is 'as'"),
        ("as 1a", "cannot be the name"),
        ("as forloop", "cannot be the name"),
        ("_n=1", "cannot be the name"),
        ("1n=1", "cannot be the name"),
        ("None=1", "cannot be the name"),
        ("n=1|nothing", "Invalid filter"),
        ('"tests/nowhere.html"', "no template 'tests/nowhere.html'"),
        ('""', "no name of a template"),
        ("7", "no name of a template"),
    ],
)
def test_a_bad_constant_is_a_syntax_error_of_the_template(tag: str, words: str) -> None:
    """P5, P6: an unknown priority, too many attempts: where it is written."""
    with pytest.raises(TemplateSyntaxError, match=words):
        compiled(f"{{% background {tag} %}}{{% endbackground %}}")


@pytest.mark.parametrize(
    ("tag", "given", "words"),
    [
        ("priority=p", {"p": "urgent"}, r"line? ?.*:1: priority='urgent'|:1: priority='urgent'"),
        ("max_attempts=p", {"p": 11}, "MAX_ATTEMPTS_LIMIT"),
        ("max_attempts=p", {"p": True}, "whole number"),
        ("delay=p", {"p": None}, "number of minutes"),
        ("source_name=p", {"p": "ä"}, "letters, digits"),
        ("source_name=p", {"p": 5}, "letters, digits"),
    ],
)
def test_a_bad_value_of_an_option_is_an_error_of_the_render(tag: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        page(f"{{% background {tag} %}}{{% endbackground %}}", **given)

    assert messages() == []
    assert blocks() == 0


class Silent(Exception):
    silent_variable_failure = True


class Profile:
    @property
    def missing(self) -> None:
        raise Silent

    def delete(self) -> None:
        raise AssertionError("templates call nothing that alters data")

    delete.alters_data = True  # type: ignore[attr-defined]

    def needs_more(self, what: str) -> str:
        return what


@pytest.mark.parametrize(
    "expression",
    ["nobody", "profile.nothing", "profile.missing", "profile.delete", "profile.needs_more", "nobody|upper", "xs.7",
     "1|add:nobody"],
)  # fmt: skip
@pytest.mark.parametrize("tag", ["n={}", "priority={}", "delay={}"])
def test_a_variable_that_is_not_there_is_an_error_and_not_an_empty_text(expression: str, tag: str) -> None:
    """P8, P74: undefined variables are told."""
    with pytest.raises(InvalidArguments, match=r"has no value here: .* is not defined\. Give it one"):
        page(f"{{% background {tag.format(expression)} %}}{{% endbackground %}}", profile=Profile(), xs=[1])

    assert messages() == []
    assert blocks() == 0


def test_a_default_says_what_to_take_instead() -> None:
    page('{% background a=x|default:"-" b=x|default:None c=x.y|default_if_none:3 d=none e=empty %}{% endbackground %}',
         none=None, empty="")  # fmt: skip

    assert variables() == {"a": "-", "b": None, "c": 3, "d": None, "e": ""}


class Colour(models.TextChoices):
    RED = "red", "Red"


class Odd(str, enum.Enum):  # noqa: UP042  not StrEnum: its str() is not its value
    RED = "red"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (User(id=1), r"user=user is a auth\.User.*Pass its key, user_id=user\.id, and load it"),
        (SimpleLazyObject(lambda: User(id=1)), r"auth\.User.*user_id=user\.id"),
        (AnonymousUser(), "AnonymousUser"),
        (User.objects.none(), "QuerySet"),
        (datetime(2026, 1, 1, tzinfo=UTC), r'user\|date:"c"'),
        (Decimal("1.5"), r'user\|stringformat:"s"'),
        (UUID(int=1), r'user\|stringformat:"s"'),
        ((1, 2), "tuple"),
        ({1}, "set"),
        (float("nan"), "nan"),
        ("a\x00b", "NUL"),
        ("\ud800", "surrogate"),
        ({1: 2}, "keys must be str"),
        ([1, [User(id=1)]], "primary key"),
        ({"a": object()}, "object"),
    ],
)
def test_what_json_cannot_keep_is_refused_with_what_to_write(value: Any, words: str) -> None:
    """P45: a payload is JSON, and an error in it is the tag's."""
    with pytest.raises(InvalidArguments, match=words):
        page("{% background user=user %}{% endbackground %}", user=value)

    assert messages() == []
    assert blocks() == 0


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless += [endless, endless]

    with pytest.raises(InvalidArguments, match=r"nested deeper|holds more"):
        page("{% background n=n %}{% endbackground %}", n=endless)


def test_a_payload_that_is_too_large_is_refused_and_leaves_no_block() -> None:
    """P44."""
    with pytest.raises(PayloadTooLarge, match="Pass an id or a file name"):
        page("{% background n=n %}{% endbackground %}", n="x" * 1_000_001)

    assert messages() == []
    assert blocks() == 0


@pytest.mark.parametrize("name", [None, "", 5, ["tests/letter.html"]])
def test_a_partial_needs_a_name(name: Any) -> None:
    with pytest.raises(InvalidArguments, match="no name of a template"):
        page("{% background name %}", name=name)


@pytest.mark.parametrize("name", ["tests/nowhere.html", "../settings.py", "/etc/passwd"])
def test_a_partial_must_be_there_when_the_page_is_rendered(name: str) -> None:
    with pytest.raises(TemplateDoesNotExist):
        page("{% background name %}", name=name)

    assert messages() == []


def test_an_engine_that_no_worker_could_find_is_refused() -> None:
    engine = Engine(libraries=engines["django"].engine.libraries)
    template = Template("{% load background %}{% background %}{% endbackground %}", engine=engine)

    with pytest.raises(InvalidOption, match=r"none of settings\.TEMPLATES"):
        template.render(Context())


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (mark_safe("<b>"), "<b>"),
        (Colour.RED, "red"),
        (Odd.RED, "red"),
        (gettext_lazy("Yes"), "Ja"),
        (SimpleLazyObject(lambda: mark_safe("lazy")), "lazy"),
        ([mark_safe("a"), {mark_safe("k"): [gettext_lazy("No")]}], ["a", {"k": ["Nein"]}]),
        (1.0, 1.0),
        (10**30, 10**30),
    ],
)  # fmt: skip
def test_every_kind_of_text_becomes_plain_text(value: Any, kept: Any) -> None:
    """A template's values are often safe or lazy; whoever writes it could not convert them."""
    with translation.override("de"):
        page("{% background n=n %}{% endbackground %}", n=value)

    assert variables() == {"n": kept}


def test_what_was_safe_on_the_page_is_escaped_by_the_worker() -> None:
    """A row must not be able to bring markup."""
    page("{% background n=n %}{% kept %}{{ n }}{% endkept %}{% endbackground %}", n=mark_safe("<b>"))

    assert worked() == ["&lt;b&gt;"]


@properties
@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text().map(mark_safe), lambda part: st.lists(part) | st.dictionaries(st.text(), part)))  # fmt: skip
def test_plain_changes_no_value_but_the_kind_of_its_texts(value: Any) -> None:
    made = plain(value)

    assert made == value
    problem = check_json(made, "it")
    assert problem is None or "NUL" in problem or "surrogate" in problem or "digits" in problem


# What the worker sees -------------------------------------------------------------------------------------------------


def test_nothing_of_the_request_leaks_in() -> None:
    """P40, P41: only variables explicitly passed; not the request, the user, the cookies or the parent's variables."""
    request = HttpRequest()
    request.user = User(id=1)
    template = compiled("{% background n=n %}{% everything_known %}{% csrf_token %}{{ request }}{% endbackground %}")

    template.render(RequestContext(request, {"n": 1, "secret": 2}, processors=[lambda request: {"processed": 3}]))

    (message,) = messages()
    assert "secret" not in message.body
    assert worked() == ["False,None,True,n"]


def test_what_a_partial_includes_sees_only_what_the_job_was_passed() -> None:
    """P14b: partials called from a job see only what the job passes on."""
    page('{% background "tests/outer.html" user_id=3 %}', name="nobody")

    assert worked() == ["False,None,True,user_id", "False,None,True,more,user_id"]


@pytest.mark.parametrize("source", ["{% autoescape off %}{}{% endautoescape %}", "{}"])
def test_autoescape_is_what_it_was_around_the_tag(source: str) -> None:
    page(source.replace("{}", "{% background n=n %}{% kept %}{{ n }}{% endkept %}{% endbackground %}"), n="<")

    assert worked() == ["<" if "off" in source else "&lt;"]


def test_autoescape_of_a_partial_is_what_it_was_around_the_tag() -> None:
    page('{% autoescape off %}{% background "tests/escaped.html" n="<" %}{% endautoescape %}')
    page('{% background "tests/escaped.html" n="<" %}')

    assert worked() == ["<", "&lt;"]


def test_the_worker_speaks_the_sites_language_in_the_sites_time_zone() -> None:
    """P40: the visitor's language is the request's."""
    with translation.override("fr"):
        page("{% background %}{% where_we_are as here %}{% effect here %}{% endbackground %}")

    assert worked() == ["en-us UTC"]


def test_the_language_may_be_passed() -> None:
    source = (
        "{% load i18n tz %}{% get_current_language as here %}{% background lang=here %}"
        '{% language lang %}{% timezone "Asia/Tokyo" %}{% where_we_are as b %}{% effect b %}{% endtimezone %}'
        "{% endlanguage %}{% endbackground %}"
    )
    with translation.override("fr"):
        page(source)

    assert worked() == ["fr Asia/Tokyo"]


def test_an_error_in_a_block_is_a_failed_attempt() -> None:
    """P30, P35: any error stops it, and is the attempt's."""
    page("{% background max_attempts=2 %}{% effect 1 %}{% explode 'no mailbox' %}{% endbackground %}")

    (outcome,) = work()

    assert outcome.state == "retrying"
    assert "ValueError: no mailbox" in outcome.error
    assert notes() == ["1"]


def test_the_output_is_thrown_away() -> None:
    """P9."""
    page("{% background %}secret of the house{% endbackground %}")

    (outcome,) = work()

    assert outcome.result == "null"


# Transactions ---------------------------------------------------------------------------------------------------------


def test_it_commits_and_rolls_back_with_everything_else() -> None:
    """P50, P51: on rollback neither data nor job exist."""
    source = "{% background n=1 %}{% effect n %}{% endbackground %}"
    with transaction.atomic():
        page(source)
        assert len(messages()) == 1
        transaction.set_rollback(True)
    assert messages() == []
    assert blocks() == 0

    page(source)  # the first use was rolled back; this one brings the source again

    assert worked() == ["1"]


def test_a_savepoint_takes_the_source_with_it_and_the_next_use_brings_it_again() -> None:
    template = compiled("{% background n=n %}{% effect n %}{% endbackground %}")
    with transaction.atomic():
        with transaction.atomic():
            template.render(Context({"n": 1}))
            transaction.set_rollback(True)
        template.render(Context({"n": 2}))

    assert worked() == ["2"]


def test_a_block_costs_one_statement_more_than_any_other_job() -> None:
    template = compiled("{% background n=1 %}{% endbackground %}")
    template.render(Context())

    with CaptureQueriesContext(
        connection,
    ) as captured:
        template.render(Context())

    said = [query["sql"].split()[0] for query in captured if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    assert said == ["INSERT", "INSERT"]
    assert blocks() == 1


def test_the_same_block_is_one_row_whoever_renders_it() -> None:
    for _ in range(3):
        named("tests/page.html", n=1)  # compiled once
    for _ in range(3):
        page("{% background n=1 %}{% effect n %}{% endbackground %}")  # compiled each time

    assert blocks() == 2
    assert len(messages()) == 6


def test_a_job_names_its_block_by_its_digest() -> None:
    page("{% background n=1 %}{% effect n %}{% endbackground %}")

    (message,) = messages()
    block = Block.objects.get()
    assert json.loads(message.body)["args"][0] == {"digest": block.digest}
    assert "effect" not in message.body
    assert Effect.objects.count() == 0
    assert uuid4() != message.uid


@override_settings(JOBS={"DATABASE": "other"})
def test_to_another_database_than_the_queues_the_source_travels_in_the_message() -> None:
    """It could not commit together with a row of the queue's database."""
    page("{% background n=1 %}{% effect n %}{% endbackground %}")

    assert blocks() == 0
    assert worked() == ["1"]
