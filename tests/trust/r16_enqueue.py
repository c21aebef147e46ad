"""R16. Sixteen clients commit, each commit takes 5 ms: what an enqueue in each transaction costs them.

Beside it the same transactions with a plain INSERT instead of the enqueue, and with the naive wake-up, a NOTIFY inside
the transaction, which has all commits of the server wait for one another. Each client rests for 40 ms between two of
its transactions, since sixteen Pythons without a rest measure two processors and not the commits. Full size: 20 s of
each, twice, by turns.
"""

from __future__ import annotations

import json

from tests.trust.ground import Ground
from tests.trust.report import Report, percentile

CLIENTS, PAUSE = 16, 0.04


def measured(ground: Ground, what: str, seconds: float) -> list[float]:
    """Seconds of all transactions of all clients."""
    arguments = ("-m", "tests.trust.business", what, str(seconds), str(PAUSE))
    clients = [ground.program(*arguments) for _ in range(CLIENTS)]
    for client in clients:
        client.ended(within=seconds + 120)
    return [took for client in clients for took in json.loads(client.said().splitlines()[-1])]


def row(ground: Ground, report: Report) -> None:
    seconds, rounds = max(1.0, 20 * ground.scale), 2 if ground.scale >= 0.5 else 1
    ground.ready(ground.worker("--slots", "1", "--queues", "mail"))  # the relay is at work meanwhile
    found: dict[str, list[float]] = {"plain": [], "enqueue": [], "notify": []}
    for _ in range(rounds):
        for what, times in found.items():
            times += measured(ground, what, seconds)
    for what, times in found.items():
        report.figure(f"transactions a second: {what}", len(times) / seconds / rounds)
        report.figure(f"p50 in ms: {what}", 1000 * percentile(times, 0.5))
        report.figure(f"p99 in ms: {what}", 1000 * percentile(times, 0.99))
    plain = len(found["plain"])
    report.figure("percent lost by the naive way", 100 * (1 - len(found["notify"]) / plain))
    report.must("percent of the transactions a second lost", 100 * (1 - len(found["enqueue"]) / plain), "<=", 15.0)
