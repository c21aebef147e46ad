"""A block is taken out of a template and put together again: the same tags, on the same lines, the same outcome."""

from __future__ import annotations

from typing import Any

import pytest
from django.template import Context, Engine, Template, TemplateSyntaxError, engines
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.lint import tags_in
from jobs.rebuild import Rebuilt, alias_of, engine_named
from jobs.recipe import Recipe
from jobs.tag import BackgroundNode
from tests.support.blocks import LOADS, compiled
from tests.support.floor import properties

CORPUS = {
    "text": "Dear all,\n\n  yours\n",
    "nothing": "",
    "variables": "{{a}} {{  b.c|upper|default:'x' }}{{ d|add:5 }}",
    "for": "{% for x in xs %}{{ forloop.counter }}:{{ x }}{% empty %}none{% endfor %}",
    "if": "{%if a and not zz %}yes{%elif b%}b{%else%}no{%endif%}",
    "verbatim": "{% verbatim %}{{ a }}{% if %}{# no #}{% endbackground %}{% endverbatim %}{{ a }}",
    "named verbatim": "{% verbatim  mine %}{% endverbatim %}{{ a }}{% endverbatim  mine %}{{ a }}",
    "comments": "{# one {{ a }} #}{% comment 'why' %}{% background %}{% endcomment %}{{ a }}",
    "an end in a comment": "{% comment %}{% endbackground %}{% endcomment %}{{ a }}{# {% endbackground %} #}",
    "tags in a comment": "{% comment %}{% if %}{% endbackground %}{% background %}{% endcomment %}{{ a }}",
    "blocktranslate": "{% load i18n %}{% blocktranslate count n=xs|length %}{{ n }} one{% plural %}{{ n }} many"
    "{% endblocktranslate %}",
    "trimmed": "{% load i18n %}{% blocktranslate with who=a trimmed %}\n  Hello\n  {{ who }}\n{% endblocktranslate %}",
    "translate": "{% load i18n %}{% translate 'Yes' as yes %}{{ yes }}{{ _('No') }}",
    "load from": "{% load localize from l10n %}{% load static tz %}{{ n|localize }}",
    "spaceless, with": "{% spaceless %}<p> {% with q=a r=b.c %}{{ q }}{{ r }}{% endwith %} </p>{% endspaceless %}",
    "cycle, ifchanged": "{% for x in xs %}{% cycle 'a' 'b' %}{% ifchanged x %}{{ x }}{% endifchanged %}{% endfor %}",
    "filter": "{% filter upper %}{{ a }}{% endfilter %}{% autoescape off %}{{ html }}{% endautoescape %}{{ html }}",
    "block": "{% block name %}in {{ a }}{% endblock %}{% block other %}{% endblock other %}",
    "include": "{% include 'tests/letter.html' with name=a %}{% include 'tests/letter.html' only %}",
    "extends": "{% extends 'tests/frame.html' %}{% block middle %}{{ block.super }} {{ a }}{% endblock %}",
    "braces": "{ {a} {{% if a %}x{% endif %}\n}} }} %} {# #} {{ a }}} { {{ a }} }",
    "templatetag": "{% templatetag openblock %} {% templatetag  closevariable %}",
    "quotes": """{{ a|default:"%" }}{{ zz|default:"{{" }}{{ zz|default:'#}' }}""",
    "odd blanks": "{%\tif\u00a0a\x0b%}t{%endif %}{{\u2028a\x1f}}",
    "lines": "\n{{ a }}\r\n{% if a %}\n\n{{ b.c }}{% endif %}\n",
    "regroup": "{% regroup rows by kind as kinds %}{% for k in kinds %}{{ k.grouper }}{{ k.list|length }}{% endfor %}",
    "own tags": "{% load works %}{{ a|shout }}{% where_we_are as here %}",
}

VALUES: dict[str, Any] = {
    "a": "A", "b": {"c": "C"}, "xs": [1, 1, 2], "n": 1234.5, "html": "<b>", "rows": [{"kind": 1}, {"kind": 1}], "d": 1,
}  # fmt: skip


def node_of(template: Template) -> BackgroundNode:
    ((node, _), *_rest) = tags_in(template.nodelist)
    return node


def rebuilt(template: Template) -> Rebuilt:
    """The first block of a template, as a worker makes it."""
    node = node_of(template)
    return Rebuilt(
        Recipe("django", node.name, node.line, True, source=node.source, loads=node.loads),
        engines["django"].engine,
    )


def outcome(render: Any) -> str:
    """What comes out, an error as well."""
    try:
        return str(render())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("source", CORPUS.values(), ids=CORPUS)
def test_a_rebuilt_block_renders_what_the_original_does(source: str) -> None:
    """P1: the code itself is stored with the job."""
    page = compiled(f"before{{% background %}}{source}{{% endbackground %}}after")

    assert outcome(lambda: rebuilt(page).render(Context(VALUES))) == outcome(
        lambda: Template(source).render(Context(VALUES))
    )


@pytest.mark.parametrize("source", CORPUS.values(), ids=CORPUS)
def test_a_block_is_the_same_with_and_without_debug(source: str) -> None:
    """Under DEBUG tokens have a position; the source must not depend on it."""
    text = f"{LOADS}{{% background %}}{source}{{% endbackground %}}"
    libraries = engines["django"].engine
    made = [
        Template(text, engine=Engine(debug=debug, libraries=libraries.libraries, loaders=libraries.loaders))
        for debug in (False, True)
    ]

    assert node_of(made[0]).source == node_of(made[1]).source
    assert node_of(made[0]).loads == node_of(made[1]).loads


pieces = st.sampled_from([
    *CORPUS.values(), "{", "}", "%", "#", "{{", "}}", "{%", "%}", "{#", "#}", " ", "\n", "{{ a }}", "{% if a %}",
    "{% endif %}", "{% verbatim %}", "{% endverbatim %}", "{% comment %}", "{% endcomment %}", "text",
    "{% background %}", "{% endbackground %}", "{% background 'tests/letter.html' %}", "{% background n=a %}",
]) | st.text(max_size=4)  # fmt: skip


@properties
@given(parts=st.lists(pieces, max_size=8))
@example(parts=["{", "{% if a %}", "}", "{% endif %}"])
@example(parts=["{{", " ", "{{ a }}"])
def test_any_block_that_compiles_renders_the_same_from_its_rebuilt_source(parts: list[str]) -> None:
    source = "".join(parts)
    try:
        page = compiled("{% background %}" + source + "{% endbackground %}")
        original = compiled(source)
    except (TemplateSyntaxError, AttributeError):  # Django's own, for a relative include in a template without a name
        return
    if len(page.nodelist) > 3 or "{% background" in source:
        return  # an end that came too early, or what would enqueue
    assert outcome(lambda: rebuilt(page).render(Context(VALUES))) == outcome(lambda: original.render(Context(VALUES)))


def test_blocks_in_blocks_are_part_of_the_source() -> None:
    """P11: a job may queue jobs."""
    inner = "{% background %}1{% background n=a %}2{% endbackground %}{% endbackground %}"
    partial = "{% background 'tests/letter.html' as job %}"
    page = compiled("{% background a=1 %}" + inner + partial + "{{ job }}{% endbackground %}")

    assert node_of(page).source == inner + partial + "{{ job }}"
    assert len(list(tags_in(page.nodelist))) == 4
    assert len(page.nodelist) == 2


def test_errors_in_a_block_name_the_line_of_the_template() -> None:
    source = "{% load works %}\n\n{% background %}\n{% shout %}{% endbackground %}"

    with pytest.raises(TemplateSyntaxError, match="line 4: 'shout'"):
        Template("{% load background %}" + source)
    with pytest.raises(TemplateSyntaxError, match="line 11: 'shout'"):
        Rebuilt(Recipe("django", "x.html", 10, True, source="\n{% shout %}"), engines["django"].engine)


def test_a_block_that_never_ends_says_so() -> None:
    with pytest.raises(TemplateSyntaxError, match=r"(?s)Unclosed tag on line 2: 'background'.*endbackground"):
        compiled("\n{% background %}{% if a %}{% endif %}")


def test_what_a_template_has_loaded_goes_along_and_nothing_else() -> None:
    page = Template(
        "{% load background %}{% load shout from works %}{% background %}{{ a|shout }}{% load l10n %}"
        "{% endbackground %}"
    )

    assert node_of(page).loads == (("background", None), ("works", ("shout",)))
    assert rebuilt(page).render(Context({"a": "hey"})) == "HEY!"


def test_what_is_loaded_in_a_block_stays_in_it() -> None:
    with pytest.raises(TemplateSyntaxError, match="Invalid filter: 'shout'"):
        Template("{% load background %}{% background %}{% load works %}{% endbackground %}{{ a|shout }}")


def test_the_later_of_two_libraries_with_one_name_is_the_one_that_counts() -> None:
    template = "{% load background %}{% load {} %}{% background %}{{ a|money }}{% endbackground %}"

    assert node_of(Template(template.replace("{}", "shop other_money"))).loads == (
        ("background", None), ("other_money", None),
    )  # fmt: skip
    assert rebuilt(Template(template.replace("{}", "shop other_money"))).render(Context({"a": 100})) == "100 coins"
    assert rebuilt(Template(template.replace("{}", "other_money shop"))).render(Context({"a": 100})) == "€\u20091.00"


def test_of_a_tag_that_two_libraries_have_only_the_later_one_goes_along() -> None:
    page = Template(
        "{% load background %}{% load shop %}{% load note_look from other_money %}{% background %}{% endbackground %}"
    )

    assert node_of(page).loads == (("background", None), ("other_money", ("note_look",)), ("shop", ("money",)))


def test_relative_names_in_a_block_count_from_the_template_it_stands_in() -> None:
    page = engines["django"].engine.get_template("tests/relative_block.html")

    assert rebuilt(page).render(Context()).strip() == "Dear friend,"


def test_a_library_that_is_gone_hurts_only_a_block_that_needs_it() -> None:
    loads = (("gone", None), ("works", ("shout", "gone_too")))
    engine = engines["django"].engine

    fine = Rebuilt(Recipe("django", "", 1, True, source="{{ a|shout }}", loads=loads), engine)
    assert fine.render(Context({"a": "x"})) == "X!"
    with pytest.raises(TemplateSyntaxError, match="gone_too"):
        Rebuilt(Recipe("django", "", 1, True, source="{{ a|gone_too }}", loads=loads), engine)


def test_blocks_of_a_background_block_are_not_the_pages() -> None:
    page = Template(
        "{% extends 'tests/frame.html' %}{% load background %}{% block middle %}{{ a }}{% endblock %}"
        "{% block end %}{% background %}{% block middle %}other{% endblock %}{% endbackground %}{% endblock %}"
    )

    ((node, unreached),) = tags_in(page.nodelist)
    assert node.source == "{% block middle %}other{% endblock %}"
    assert not unreached


def test_an_engine_is_found_by_its_name_and_the_other_way_round() -> None:
    engine = engines["django"].engine

    assert engine_named("django") is engine
    assert alias_of(engine) == "django"
    assert engine_named("jinja2") is None
    assert alias_of(Engine()) is None
