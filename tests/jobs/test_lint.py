"""`manage.py lintbackground`: which background block or partial uses what it is not given."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from django.core.management import call_command
from django.test import override_settings

from tests.support.blocks import templates

LINTED = {
    "good.html": "{% load background %}{% background a=1 b=x.y %}{{ a }}{% for q in b %}{{ q }}{{ forloop.first }}"
    "{% endfor %}{% with z=a %}{{ z }}{% endwith %}{% endbackground %}",
    "bad.html": "{% load background i18n %}\n{% background a=1 %}{{ a }}{{ user.name }}"
    "{% if order.paid and a %}{% endif %}"
    "{% for x in xs|slice:y %}{% endfor %}{% translate 'x' as w %}{{ w }}{{ late }}{% translate 'x' as late %}"
    "{% blocktranslate with k=kk %}{{ k }}{{ m }}{% endblocktranslate %}{{ o|default:'' }}{{ None }}"
    "{% endbackground %}",
    "partial.html": "{% load background %}{% background 'inner.html' user_id=1 more=2 %}",
    "inner.html": "{% extends 'frame.html' %}{% block b %}{{ user_id }}{% include 'part.html' with c=1 %}"
    "{% include 'part.html' only %}{% include what %}{% endblock %}",
    "frame.html": "{{ title }}{% block b %}{{ overridden }}{% endblock %}{% block c %}{{ footer }}{% endblock %}",
    "part.html": "{{ c }}{{ user_id }}",
    "complete.html": "{% load background %}{% background 'part.html' user_id=1 c=2 d=3 %}",
    "nested.html": "{% load background %}{% background a=1 %}{% background b=a c=zz %}{{ a }}{% endbackground %}"
    "{% endbackground %}",
    "never.html": "{% extends 'frame.html' %}{% load background %}{% background a=1 %}{{ a }}{% endbackground %}"
    "{% block b %}{% background a=1 %}{{ a }}{% endbackground %}{% endblock %}",
    "broken.html": "{% load background %}{% background priority='urgent' %}{% endbackground %}",
    "none.html": "{{ anything }} about background",
}  # fmt: skip


def linted(capsys: pytest.CaptureFixture[str], *arguments: str, **files: str) -> tuple[int, str]:
    status = 0
    with override_settings(TEMPLATES=templates(files=files)):
        try:
            call_command("lintbackground", *arguments)
        except SystemExit as ended:
            status = int(ended.code or 0)
    return status, capsys.readouterr().out


def test_the_lint_tells_what_each_block_uses_but_is_not_given(capsys: pytest.CaptureFixture[str]) -> None:
    """P74: undefined variables, and missing or unused arguments of a partial, are reported."""
    status, said = linted(capsys, "--json", **LINTED)

    found = json.loads(said)
    uses = {(use["template"], use["line"], use["form"], n): use for n, use in enumerate(found["uses"])}
    missing = {(*key[:3], ",".join(use["given"])): use["missing"] for key, use in uses.items()}
    assert missing == {
        ("good.html", 1, "block", "a,b"): [],
        ("bad.html", 2, "block", "a"): ["kk", "late", "m", "order", "user", "xs", "y"],
        ("partial.html", 1, "partial", "more,user_id"): ["c", "footer", "title", "user_id", "what"],
        ("complete.html", 1, "partial", "c,d,user_id"): [],
        ("nested.html", 1, "block", "a"): ["zz"],
        ("nested.html", 1, "block", "b,c"): ["a"],
        ("never.html", 1, "block", "a"): [],
    }
    by_template = {use["template"]: use for use in found["uses"]}
    assert by_template["complete.html"]["unused"] == ["d"]
    assert by_template["partial.html"]["unfollowed"] == ["what"]
    assert [use["problem"] != "" for use in found["uses"] if use["template"] == "never.html"] == [True, False]
    assert found["broken"][0]["template"] == "broken.html" and "urgent" in found["broken"][0]["error"]
    assert found["bad"] == 6
    assert status == 1


def test_the_lint_says_it_in_words_and_ends_well_where_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    status, said = linted(capsys, **{"good.html": LINTED["good.html"], "none.html": LINTED["none.html"]})

    assert status == 0
    assert "good.html:1  block\n    given: a, b\n" in said
    assert "All 1 background tags are given what they use." in said

    status, said = linted(capsys, **LINTED)

    assert status == 1
    assert "MISSING: kk, late, m, order, user, xs, y" in said
    assert "NEVER RENDERED" in said and "does not compile" in said
    assert "6 of 9 background tags need a look." in said


def test_the_projects_own_templates_are_found_in_their_folders(capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):
        call_command("lintbackground", "--json")
    found = json.loads(capsys.readouterr().out)

    assert ("tests/page.html", 3, ["n"], []) in [
        (use["template"], use["line"], use["given"], use["missing"]) for use in found["uses"]
    ]
    assert found["broken"] == []
