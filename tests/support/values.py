"""Values for arguments, and a rule for what counts as the same value."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
"""All that can be stored: no NUL, no lone surrogate."""

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


def named(value: Any) -> str:
    """An id for a case of a test that is the same in every process: sets sorted, objects without their address."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(sorted(value)) if isinstance(value, set) else str(value))[:60]


def same(one: Any, other: Any) -> bool:
    """Equal to the type, the digit, the sign of zero and the order of keys."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)
