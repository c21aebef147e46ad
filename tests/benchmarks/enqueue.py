"""S7, S8: what an enqueue adds to a business transaction, and how fast many are enqueued at once.

A transaction of one INSERT and one enqueue beside one of two INSERTs, by turns in one process, both through Django; the
ratio is of medians, the one of means has the wake-ups in it. And `enqueue_many` beside the same rows by one
`INSERT ... SELECT unnest` and by COPY with the values already made: the faster one is the limit.
"""

from __future__ import annotations

import statistics
from typing import Any

from tests.benchmarks import programs
from tests.benchmarks.measures import Figures, Wrong, compare, spread, tidy
from tests.benchmarks.plan import Plan, tell
from tests.benchmarks.writer import UNTIMED


def run(plan: Plan) -> Figures:
    jobs = plan.choose(full=20_000, quick=20_000, smallest=200)
    transactions = plan.choose(full=1000, quick=300, smallest=20)
    found = []
    for number in range(plan.rounds):
        found.append(asked(plan, transactions, jobs))
        tell(f"enqueue {number + 1}: {found[-1]}")
    return {
        "jobs": jobs,
        **compare([one["ours"] for one in found], [max(one["unnest"], one["copy"]) for one in found]),
        **spread("unnest_per_second", [one["unnest"] for one in found]),
        "ratio_to_unnest": tidy(statistics.median(one["ours"] / one["unnest"] for one in found)),
        **spread("transaction_ms", [1000 * one["enqueue"]["median"] for one in found]),
        **spread("plain_transaction_ms", [1000 * one["insert"]["median"] for one in found]),
        "transaction_times_plain": _times(found, "median"),
        "transaction_mean_times_plain": _times(found, "mean"),
    }


def _times(rounds: list[dict[str, dict[str, float]]], which: str) -> float:
    return tidy(statistics.median(one["enqueue"][which] / one["insert"][which] for one in rounds))


def asked(plan: Plan, transactions: int, jobs: int) -> Any:
    with plan.server.database() as database:
        with programs.module(database.url, database.folder, "writer", "cost", transactions, jobs) as writer:
            answer = writer.answer()
        ((written,),) = database.execute("SELECT count(DISTINCT uid) FROM outbox_message")
        if written != (expected := transactions + UNTIMED + jobs):
            raise Wrong(f"{expected} jobs were enqueued, {written} messages are in the outbox")
    return answer
