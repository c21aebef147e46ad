"""All behaviours, in the order of the table."""

from __future__ import annotations

from tests.conformance import declaring, enqueueing, finding, running, signalling, transacting
from tests.conformance.ground import BEHAVIOURS, Behaviour, Ground, Verdict, judge

__all__ = [
    "BEHAVIOURS", "Behaviour", "Ground", "Verdict",
    "declaring", "enqueueing", "finding", "judge", "running", "signalling", "transacting",
]  # fmt: skip
