"""How many examples the property tests draw: TEST_EXAMPLES in the environment multiplies it, for the scorecard."""

from __future__ import annotations

import os


def many(count: int, times: float | None = None) -> int:
    return max(1, round(count * (float(os.environ.get("TEST_EXAMPLES", "1")) if times is None else times)))
