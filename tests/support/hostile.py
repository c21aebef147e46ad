"""Errors and results as no reviewer would let them pass: what a task may raise, return or say."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


class CannotBeRead(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class CannotBeShown(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no")


class NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class WithNul(Exception):
    def __str__(self) -> str:
        return "a\x00b"


class WithSurrogate(Exception):
    def __str__(self) -> str:
        return "a\ud800b"


class VeryLong(Exception):
    def __str__(self) -> str:
        return "x" * 3_000_000


class ManyLines(Exception):
    def __str__(self) -> str:
        return "\n".join(map(str, range(5000)))


class NoModule(Exception):
    __module__ = None  # type: ignore[assignment]


class OddNotes(Exception):
    __notes__ = 5


class CausesItself(Exception):
    def __init__(self) -> None:
        super().__init__("round")
        self.__cause__ = self


class ManyInOne(ExceptionGroup):  # type: ignore[type-arg]
    def __new__(cls) -> Any:
        return super().__new__(cls, "many", [ValueError("\x00"), CannotBeRead()])


ERRORS: list[type[BaseException]] = [
    CannotBeRead,
    CannotBeShown,
    NotText,
    WithNul,
    WithSurrogate,
    VeryLong,
    ManyLines,
    NoModule,
    OddNotes,
    CausesItself,
    ManyInOne,
]


class SlyText(str):
    """Text that cannot be put into other text."""

    def __format__(self, _: str) -> str:
        raise RuntimeError("no")


class SaysSly(Exception):
    def __str__(self) -> str:
        return SlyText("sly")


class LeavesWhenRead(Exception):
    def __str__(self) -> str:
        raise SystemExit("no")


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__qualname__", "__module__"):
            raise RuntimeError("no")
        return super().__getattribute__(name)


class NoName(Exception, metaclass=Meta):
    pass


HOSTILE_ERRORS: dict[str, type[BaseException]] = {
    "its text cannot be formatted": SaysSly,
    "reading it ends the program": LeavesWhenRead,
    "its class has no name": NoName,
}


class Anything:
    """Nothing JSON knows, and hard to describe."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


odd_text = st.text(st.characters(), max_size=20) | st.sampled_from(["\x00", "\ud800", "\udfff\x00", "𝄞", "\u2028"])

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | odd_text
    | st.binary(max_size=5)
    | st.builds(pow, st.just(10), st.integers(3900, 4400))
    | st.builds(Anything)
    | st.dates()
    | st.uuids()
)

results = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(odd_text | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=8,
)
"""Whatever a task may return."""


def _error(kind: type[BaseException], args: list[Any], cause: BaseException | None) -> BaseException:
    try:
        error = kind(*args)
    except Exception:
        error = ValueError(*args)
    error.__cause__ = cause
    return error


kinds = st.sampled_from(
    [ValueError, KeyError, OSError, UnicodeError, SystemExit, KeyboardInterrupt, StopIteration, AssertionError]
)
simple_errors = st.builds(_error, kinds, st.lists(results, max_size=3), st.none())
errors = st.builds(_error, kinds, st.lists(results, max_size=3), st.none() | simple_errors) | st.sampled_from(
    ERRORS
).map(lambda kind: kind())
"""Whatever a task may raise."""

answers = (
    st.none()
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.integers()
    | st.timedeltas()
    | odd_text
    | st.booleans()
    | st.builds(pow, st.just(10), st.just(400))
)
"""Whatever a backoff function may answer."""
