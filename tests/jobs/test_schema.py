"""A payload is held against the schema of its event type, and what is wrong is said by its place."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

import pytest
from django.core.exceptions import ValidationError

from jobs.errors import InvalidOption
from jobs.schema import read


class Line(TypedDict):
    product: str
    quantity: int


class Placed(TypedDict):
    order: int
    total: float
    status: Literal["paid", "open"]
    email: str | None
    lines: list[Line]
    labels: dict[str, str]
    gift: NotRequired[bool]
    note: NotRequired[Annotated[str, "for people"]]
    anything: NotRequired[Any]


class Loose(TypedDict, total=False):
    order: Required[int]
    note: str


@dataclass
class Shipped:
    order: int
    carrier: str = "post"
    parcels: list[int] = field(default_factory=list)


class Tree(TypedDict):
    name: str
    below: list[Tree]


def good(**changed: Any) -> dict[str, Any]:
    made = {
        "order": 1,
        "total": 2.5,
        "status": "paid",
        "email": None,
        "lines": [{"product": "ink", "quantity": 2}],
        "labels": {"a": "b"},
    }
    return {name: value for name, value in {**made, **changed}.items() if value is not ...}


@pytest.mark.parametrize("changed", [{}, {"total": 2}, {"email": "a@b"}, {"gift": True}, {"anything": [1]}])
def test_what_fits_fits(changed: dict[str, Any]) -> None:
    assert read(Placed)(good(**changed), "payload") is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"order": "1"}, 'payload["order"] is of type str; the schema wants int'),
        ({"order": True}, 'payload["order"] is of type bool; the schema wants int'),
        ({"order": None}, 'payload["order"] is None; the schema wants int'),
        ({"order": ...}, 'payload["order"] is missing; Placed wants it'),
        ({"oder": 1}, "payload[\"oder\"] is not in Placed; did you mean 'order'?"),
        ({"zzz": 1}, 'payload["zzz"] is not in Placed'),
        ({"total": "2.5"}, 'payload["total"] is of type str; the schema wants float'),
        ({"status": "gone"}, "payload[\"status\"] is of type str; the schema wants Literal['paid', 'open']"),
        ({"email": 5}, 'payload["email"] is of type int; the schema wants str or None'),
        ({"lines": {}}, 'payload["lines"] is of type dict; the schema wants list'),
        ({"lines": [{"product": "ink"}]}, 'payload["lines"][0]["quantity"] is missing; Line wants it'),
        ({"lines": [5]}, 'payload["lines"][0] is of type int; Line wants an object'),
        ({"labels": {"a": 1}}, 'payload["labels"]["a"] is of type int; the schema wants str'),
        ({"gift": 1}, 'payload["gift"] is of type int; the schema wants bool'),
        ({"note": 1}, 'payload["note"] is of type int; the schema wants str'),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(changed: dict[str, Any], said: str) -> None:
    """P80: an event is checked by its type's own definition."""
    assert read(Placed)(good(**changed), "payload").startswith(said)  # type: ignore[union-attr]


def test_keys_that_may_be_left_out() -> None:
    assert read(Loose)({"order": 1}, "payload") is None
    assert read(Loose)({"note": "x"}, "payload") == 'payload["order"] is missing; Loose wants it'
    assert read(Shipped)({"order": 1}, "payload") is None
    assert read(Shipped)({"carrier": "x"}, "payload") == 'payload["order"] is missing; Shipped wants it'
    assert "wants int" in str(read(Shipped)({"order": 1, "parcels": ["x"]}, "payload"))


def test_an_object_that_holds_its_own_kind() -> None:
    check = read(Tree)

    assert check({"name": "a", "below": [{"name": "b", "below": []}]}, "payload") is None
    assert check({"name": "a", "below": [{"name": 1, "below": []}]}, "payload") == (
        'payload["below"][0]["name"] is of type int; the schema wants str'
    )


class Either(TypedDict):
    who: Line | None


def test_inside_an_object_that_may_be_none_the_place_is_said() -> None:
    assert read(Either)({"who": {"product": "ink", "quantity": "2"}}, "payload") == (
        'payload["who"]["quantity"] is of type str; the schema wants int'
    )
    assert read(Either)({"who": 1}, "payload") == 'payload["who"] is of type int; Line wants an object'.replace(
        "Line wants an object", "the schema wants Line or None"
    )


def refuse(payload: dict[str, Any]) -> None:
    raise ValueError("the total\ndoes not add up")


def refuse_by_field(payload: dict[str, Any]) -> None:
    raise ValidationError({"total": ["must be positive"], "order": ["is closed"]})


def refuse_as_a_whole(payload: dict[str, Any]) -> None:
    raise ValidationError("no such order")


def say_no(payload: dict[str, Any]) -> bool:
    return False


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (refuse, "payload: the total does not add up"),
        (refuse_by_field, "payload: total: must be positive; order: is closed"),
        (refuse_as_a_whole, "payload: no such order"),
        (say_no, "payload was refused by say_no"),
        (lambda payload: payload["x"], "payload: 'x'"),
        (lambda payload: payload, None),
    ],
)
def test_a_function_says_what_is_wrong_in_its_own_words(function: Any, said: str | None) -> None:
    assert read(function)({}, "payload") == said


class HasTime(TypedDict):
    at: datetime


class HasNumbers(TypedDict):
    by_number: dict[int, str]


class Unreadable(TypedDict):
    other: "nowhere.Thing"  # type: ignore[name-defined]  # noqa: F821, UP037


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (HasTime, "HasTime.at is datetime, which JSON cannot keep"),
        (HasNumbers, "HasNumbers.by_number is dict[int, str]; the keys of an object in JSON are str"),
        (Unreadable, "its types cannot be read"),
        (OrderedDict, "give a TypedDict or a dataclass"),
        ({"type": "object"}, "give a TypedDict or a dataclass"),
    ],
)
def test_a_schema_that_cannot_be_is_refused_where_it_is_written(schema: Any, said: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        read(schema)

    assert said in str(refused.value)
