"""The contract: a value passes only if it comes back as it is, and anything may stand in a row."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import json
import pathlib
import re
import signal
import uuid
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db.models import IntegerChoices, TextChoices
from django.utils.functional import SimpleLazyObject, lazystr
from django.utils.safestring import mark_safe
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from jobs.envelope import (
    MAX_NESTING,
    Headers,
    check_json,
    dumps,
    pack_body,
    unpack_body,
    unpack_headers,
)
from outbox.errors import Undeliverable
from tests.models import Effect
from tests.support.values import json_values, same, text

Point = namedtuple("Point", "x y")


class Colour(enum.StrEnum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 5


class Plain(enum.Enum):
    ONE = 1


class Choice(TextChoices):
    A = "a"


class Step(IntegerChoices):
    ONE = 1


class Text(str):
    pass


class Whole(int):
    pass


class Real(float):
    pass


class Items(list):  # type: ignore[type-arg]
    pass


class Mapping(dict):  # type: ignore[type-arg]
    pass


class Rude:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __hash__(self) -> int:
        return 1


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def cycle() -> list[Any]:
    ring: list[Any] = []
    ring += [ring, ring]
    return ring


def cycle_of_dicts() -> dict[str, Any]:
    ring: dict[str, Any] = {}
    ring["self"] = ring
    return ring


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """A test that hangs here ends with an error instead."""

    def late(*_: object) -> None:
        raise AssertionError(f"not done within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 2**63, -(10**3900), 0.0, -0.0, 1e16, 1e-320, 1.7976931348623157e308, "", "a",
        "äöü 漢字 😀 \u2028 \x7f \x1f \ufffd", [], {}, [[]], {"": {"": None}}, {"b": 1, "a": [1, 2.5, "x", None]},
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), nested(MAX_NESTING - 2),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_what_json_can_keep_comes_back(value: Any) -> None:
    assert check_json(value, "it") is None
    assert same(json.loads(dumps(value)), value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "is nan, which JSON cannot say"),
        (float("inf"), "is inf, which JSON cannot say"),
        (-float("inf"), "is -inf, which JSON cannot say"),
        (10**5000, "a whole number of over"),
        ("a\x00b", "contains a NUL character"),
        ("a\ud800b", "contains a lone surrogate"),
        ("\udfff", "contains a lone surrogate"),
        ({"a\x00": 1}, "a key contains a NUL character"),
        ({"a\ud800": 1}, "a key contains a lone surrogate"),
        ({1: 2}, "has the key 1; keys must be str"),
        ({1: 2, "1": 3}, "has the key 1; keys must be str"),
        ({None: 2}, "has the key None; keys must be str"),
        ({True: 2}, "has the key True; keys must be str"),
        ({Text("a"): 2}, "keys must be str"),
        ({Colour.RED: 2}, "keys must be str"),
        ((1, 2), "of type tuple, which would not come back as it is; pass list(...) of it"),
        (Point(1, 2), "pass list(...) of it"),
        ({1, 2}, "of type set, which would not come back as it is; pass list(...) of it"),
        (frozenset(), "pass list(...) of it"),
        (b"x", "of type bytes"),
        (bytearray(b"x"), "of type bytearray"),
        (dt.datetime.now(dt.UTC), "pass .isoformat() and parse it in the task"),
        (dt.date(2026, 1, 1), "pass .isoformat()"),
        (dt.time(12), "pass .isoformat()"),
        (dt.timedelta(1), "of type datetime.timedelta"),
        (decimal.Decimal("1.0"), "of type decimal.Decimal"),
        (fractions.Fraction(1, 3), "of type fractions.Fraction"),
        (1j, "of type complex"),
        (uuid.UUID(int=1), "of type uuid.UUID"),
        (pathlib.PurePosixPath("a"), "PurePosixPath, which would not come back as it is"),
        (mark_safe("<b>"), "pass str(...) of it"),
        (lazystr("a"), "of type"),
        (Colour.RED, "pass str(...) of it"),
        (Size.BIG, "pass int(...) of it"),
        (Choice.A, "pass str(...) of it"),
        (Step.ONE, "pass int(...) of it"),
        (Plain.ONE, "of type"),
        (Text("a"), "pass str(...) of it"),
        (Whole(1), "pass int(...) of it"),
        (Real(1), "pass float(...) of it"),
        (Items(), "of type"),
        (Mapping(), "pass dict(...) of it"),
        (OrderedDict(a=1), "pass dict(...) of it"),
        (defaultdict(int), "pass dict(...) of it"),
        (UserDict(a=1), "pass dict(...) of it"),
        ({"a": 1}.keys(), "of type dict_keys"),
        (range(3), "of type range"),
        (iter([]), "of type list_iterator"),
        ((n for n in ()), "of type generator"),
        (object(), "pass None, bool, int, float, str, list or dict"),
        (len, "of type builtin_function_or_method"),
        (int, "of type type"),
        (Effect(pk=5), "pass its primary key and load it in the task"),
        (SimpleLazyObject(lambda: Effect(pk=5)), "pass its primary key and load it in the task"),
        (Effect.objects, "of type"),
        (..., "of type ellipsis"),
        (cycle(), "nested deeper than 64 levels"),
        (cycle_of_dicts(), "nested deeper than 64 levels"),
        (nested(MAX_NESTING + 1), "nested deeper than 64 levels"),
        (nested(100_000), "nested deeper than 64 levels"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else type(value).__name__,
)
def test_what_json_would_change_is_refused_with_the_reason(value: Any, said: str) -> None:
    for deep in (value, [value], {"k": value}):
        with at_most(5):
            problem = check_json(deep, "it")

        assert problem is not None
        assert said in problem


@pytest.mark.parametrize("value", [Rude(), [Rude()], {"k": Rude()}, {Rude(): 1}], ids=["", "list", "dict", "key"])
def test_a_rude_object_is_refused_like_any_other(value: Any) -> None:
    problem = check_json(value, "it")

    assert problem is not None
    assert "it" in problem


def test_the_place_is_named() -> None:
    assert check_json([1, {"a": [None, (1,)]}], "args") == (
        "args[1]['a'][1] is of type tuple, which would not come back as it is; pass list(...) of it"
    )


def test_a_small_value_that_unfolds_to_a_huge_one_is_refused_soon() -> None:
    value: Any = 1
    for _ in range(50):
        value = [value, value]  # fifty lists in memory, 2 ** 50 numbers in JSON

    with at_most(2):
        assert check_json(value, "it") is not None


def test_the_number_of_digits_that_is_refused_is_the_one_that_is_named() -> None:
    problem = check_json(10**5000, "it") or ""
    digits = int(re.search(r"over (\d+) digits", problem)[1])  # type: ignore[index]

    assert check_json(10 ** (digits - 1), "it") is None


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.sampled_from([3900, 4299, 5000]).map(lambda digits: 10**digits)
    | st.sampled_from([1e16, -0.0, 5e-324])
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=4)
    | st.binary(max_size=2)
    | st.decimals()
    | st.datetimes()
    | st.uuids()
    | st.just(Size.BIG)
    | st.just(Text("a")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=2) | st.integers() | st.none() | st.booleans(), inner, max_size=3)
    ),
    max_leaves=6,
)

many = examples(max_examples=200, deadline=None, database=None)


@many
@given(args=st.lists(json_values, max_size=3), kwargs=st.dictionaries(text, json_values, max_size=3))
def test_whatever_json_says_comes_back_as_it_was(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert check_json(args, "args") is check_json(kwargs, "kwargs") is None

    again = unpack_body(pack_body(args, kwargs))

    assert same(list(again), [args, kwargs])


@many
@given(value=anything)
def test_a_value_is_refused_or_comes_back_as_it_was(value: Any) -> None:
    if check_json(value, "it") is None:
        stored = dumps(value)
        stored.encode()
        assert "\x00" not in stored
        assert same(json.loads(stored), value)


@many
@given(value=json_values)
def test_nothing_that_json_can_say_is_refused(value: Any) -> None:
    assert check_json(value, "it") is None


def test_json_is_stored_compact_and_readable() -> None:
    assert pack_body([1, "ä"], {"b": None, "a": -0.0}) == '{"args":[1,"ä"],"kwargs":{"b":null,"a":-0.0}}'


# ---------------------------------------------------------------------------------------------------------------
# What may stand in a row.

GOOD = {"v": 1, "task": "shop.tasks.send", "queue": "default"}

keys = st.sampled_from(
    ["v", "task", "queue", "priority", "max_attempts", "source_name", "delay", "run_after", "key", "parent", "depth"]
)
json_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        ["default", "a.b", "2999-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"]
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


@many
@given(changed=st.dictionaries(keys, json_anything, max_size=3))
def test_any_headers_are_read_or_said_to_be_undeliverable(changed: dict[str, Any]) -> None:
    try:
        headers = unpack_headers(json.dumps({**GOOD, **changed}))
    except Undeliverable:
        pass
    else:
        assert -100 <= headers.priority <= 100
        assert 1 <= headers.max_attempts <= 1000
        assert headers.run_after is None or headers.run_after.astimezone(dt.UTC)


@many
@given(row=st.text(max_size=30) | st.recursive(st.just("1"), lambda inner: inner.map(lambda x: f"[{x}]"), max_leaves=3))
def test_any_text_is_read_or_said_to_be_undeliverable(row: str) -> None:
    with pytest.raises(Undeliverable):
        unpack_headers(row)
    with pytest.raises(ValueError, match=r"."):
        unpack_body(row)


def test_headers_that_say_little_have_defaults() -> None:
    assert unpack_headers(json.dumps(GOOD)) == Headers(
        "shop.tasks.send", "default", 0, 1, "", None, None, "", None, 0, 1, False
    )


def test_headers_that_say_all() -> None:
    parent = uuid.uuid4()
    given = {
        **GOOD, "priority": -50, "max_attempts": 3, "source_name": "check/out", "delay": 1.5, "key": "k", "depth": 7,
        "parent": str(parent), "run_after": "2999-01-01T00:00:00+02:00",
    }  # fmt: skip

    headers = unpack_headers(json.dumps(given))

    assert headers.delay == dt.timedelta(seconds=1.5)
    assert headers.run_after == dt.datetime(2998, 12, 31, 22, tzinfo=dt.UTC)
    assert (headers.priority, headers.max_attempts, headers.source_name) == (-50, 3, "check/out")
    assert (headers.key, headers.parent, headers.depth) == ("k", parent, 7)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_body_with_a_word_that_no_json_has_is_not_read(word: str) -> None:
    with pytest.raises(ValueError, match=word):
        unpack_body(f'{{"args":[{word}],"kwargs":{{}}}}')
