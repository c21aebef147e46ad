"""R18. Rows that cannot run stand in front of those that can: the claim takes at most three times as long.

Full size: 100,000 ready jobs of a queue nobody here serves, and 1,000,000 due in the future.
"""

from __future__ import annotations

import time

from jobs import claim as claims
from outbox.session import Query, Session, session_on
from tests.support.floor import EVERYTHING, fill
from tests.trust.ground import Ground
from tests.trust.report import Report, percentile


def claims_take(session: Session, count: int) -> list[float]:
    """Milliseconds of single claims, each of which finds one."""
    took = []
    for _ in range(count):
        fill(session, 1)
        began = time.monotonic()
        found = session.run(claims.claim(1, 11, EVERYTHING, 1), durable=False)
        took.append((time.monotonic() - began) * 1000)
        assert len(found) == 1
        session.run(Query("DELETE FROM jobs_job WHERE state = 'running'"), durable=False)
    return took


def row(ground: Ground, report: Report) -> None:
    session = session_on("default", statement_timeout=600)
    claims_take(session, 20)
    empty = claims_take(session, 300)
    fill(session, ground.size(100_000, 5000), queue="mail", priority=100)
    fill(session, ground.size(1_000_000, 20_000), "scheduled", priority=100)
    full = claims_take(session, 300)
    session.close()
    report.figure("ready in another queue", ground.size(100_000, 5000))
    report.figure("due in the future", ground.size(1_000_000, 20_000))
    for name, took in (("empty", empty), ("behind them", full)):
        report.figure(f"claim p50 in ms, {name}", percentile(took, 0.5))
        report.figure(f"claim p99 in ms, {name}", percentile(took, 0.99))
    report.must("p50 behind them, as a multiple", percentile(full, 0.5) / percentile(empty, 0.5), "<=", 3.0)
    # A millisecond is the machine's own noise.
    report.must("p99 behind them, as a multiple", percentile(full, 0.99) / max(1.0, percentile(empty, 0.99)), "<=", 3.0)
