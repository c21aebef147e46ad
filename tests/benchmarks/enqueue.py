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


def run(plan: Plan) -> Figures:
    jobs = plan.choose(full=20_000, quick=20_000, smallest=200)
    transactions = plan.choose(full=1000, quick=300, smallest=20)
    many, single = [], []
    for number in range(plan.rounds):
        many.append(asked(plan, "many", jobs, jobs))
        single.append(asked(plan, "transactions", transactions, transactions + 20))
        tell(f"enqueue {number + 1}: {many[-1]}, {single[-1]}")
    return {
        "jobs": jobs,
        **compare([one["ours"] for one in many], [max(one["unnest"], one["copy"]) for one in many]),
        **spread("unnest_per_second", [one["unnest"] for one in many]),
        **spread("transaction_ms", [1000 * one["enqueue"]["median"] for one in single]),
        **spread("plain_transaction_ms", [1000 * one["insert"]["median"] for one in single]),
        "transaction_times_plain": _times(single, "median"),
        "transaction_mean_times_plain": _times(single, "mean"),
    }


def _times(rounds: list[dict[str, dict[str, float]]], which: str) -> float:
    return tidy(statistics.median(one["enqueue"][which] / one["insert"][which] for one in rounds))


def asked(plan: Plan, what: str, number: int, messages: int) -> Any:
    with plan.server.database() as database:
        with programs.module(database.url, database.folder, "writer", what, number) as writer:
            answer = writer.answer()
        ((written,),) = database.execute("SELECT count(DISTINCT uid) FROM outbox_message")
        if written != messages:
            raise Wrong(f"{messages} jobs were enqueued, {written} messages are in the outbox")
    return answer
