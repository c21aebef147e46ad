"""Metrics for Prometheus: what stands now and what has ended today, read from the tables when a scrape asks.

It takes nothing from the hot path: any process that reaches the database can answer, and all answer the same. It needs
the extra `metrics` (prometheus-client). Register it where your site answers its scrapes,

    from prometheus_client import REGISTRY
    from jobs.metrics import JobsCollector

    REGISTRY.register(JobsCollector())

or have `manage.py jobmetrics --textfile FILE` write a file for node_exporter. Counters count from midnight UTC and
start again there, as a restarted process would: `rate()` and `increase()` take that as it is meant.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from django.db import Error
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.dashboard.look import Found, TooSlow, rows
from jobs.dashboard.now import Now, look
from jobs.histogram import SIZE, merged, upper

logger = logging.getLogger("jobs")

STEP = 4
"""Buckets of `jobs.histogram` that one of ours holds: each reaches four times as far as the one before."""

TODAY = """SELECT queue, task, outcome, sum(count)::bigint AS n, sum(waited)::float8 AS waited, sum(ran)::float8 AS ran,
  string_agg(waits, ' ') AS waits, string_agg(runs, ' ') AS runs
FROM jobs_stat WHERE at >= date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
GROUP BY queue, task, outcome ORDER BY queue, task, outcome"""


class JobsCollector(Collector):
    """Gauges of what stands now, counters and histograms of what has ended since midnight UTC.

    A database that does not answer makes `jobs_up` 0 and leaves the others out; a scrape never raises.
    """

    def collect(self) -> Iterator[Metric]:
        try:
            found = [*_standing(look()), *_ended(rows(TODAY))]
        except (Error, TooSlow) as error:
            logger.warning("metrics cannot be read: %s", str(error).strip() or "a query took over two seconds")
            found = []
        yield GaugeMetricFamily("jobs_up", "Whether the database could be asked.", value=float(bool(found)))
        yield from found

    def describe(self) -> list[Metric]:
        """Nothing is read when it is registered: the database may not be there yet."""
        return []


def registry() -> CollectorRegistry:
    """A registry with nothing else in it."""
    made = CollectorRegistry(auto_describe=False)
    made.register(JobsCollector())
    return made


def _gauge(name: str, words: str, values: list[tuple[str, float]], label: str) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, words, labels=[label])
    for value_of, value in values:
        gauge.add_metric([value_of], value)
    return gauge


def _standing(now: Now) -> Iterator[Metric]:
    yield GaugeMetricFamily("outbox_messages", "Messages committed and not relayed yet.", value=now.outbox.depth)
    yield GaugeMetricFamily("outbox_lag_seconds", "Age of the eldest of them.", value=now.outbox.lag)
    states = [(name, float(count.n)) for name, count in now.counts.items()]
    yield _gauge("jobs_jobs", "Jobs by state; what has succeeded is an estimate.", states, "state")
    each = now.queues
    yield _gauge("jobs_queue_ready", "Jobs that may run now.", [(q.name, q.depth) for q in each], "queue")
    yield _gauge("jobs_queue_running", "Jobs that run.", [(q.name, q.running) for q in each], "queue")
    yield _gauge(
        "jobs_queue_lag_seconds", "How long the eldest ready job waits.", [(q.name, q.lag) for q in each], "queue"
    )
    paused = [(q.name, float(q.pause is not None)) for q in each]
    yield _gauge("jobs_queue_paused", "1 where a person has paused it.", paused, "queue")
    alive = [worker for worker in now.workers if worker.alive]
    yield GaugeMetricFamily("jobs_workers", "Workers with a recent heartbeat.", value=len(alive))
    yield GaugeMetricFamily("jobs_slots", "Their slots.", value=sum(worker.slots for worker in alive))
    busy = sum(worker.busy_slots for worker in alive)
    yield GaugeMetricFamily("jobs_slots_busy", "Slots that execute a job, as of the heartbeat.", value=busy)


def _ended(found: list[Found]) -> Iterator[Metric]:
    outcomes = CounterMetricFamily(
        "jobs_outcomes",
        "Outcomes since midnight UTC: succeeded, retrying, dead, cancelled, crashed (rescued), stale (refused).",
        labels=["queue", "task", "outcome"],
    )
    waits: dict[str, list[Found]] = {}
    runs: dict[str, list[Found]] = {}
    for row in found:
        outcomes.add_metric([row.queue, row.task, row.outcome], row.n)
        waits.setdefault(row.queue, []).append(row)
        runs.setdefault(row.task, []).append(row)
    yield outcomes
    yield _histogram("jobs_wait_seconds", "From ready to started.", "queue", waits, "waits", "waited")
    yield _histogram("jobs_run_seconds", "From started to ended.", "task", runs, "runs", "ran")


def _histogram(
    name: str, words: str, label: str, groups: dict[str, list[Found]], texts: str, sums: str
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, words, labels=[label])
    for group, members in groups.items():
        counts = merged(row[texts] for row in members)
        below, total = [], 0
        for bucket in range(SIZE):
            total += counts[bucket]
            if bucket % STEP == 0 and bucket < SIZE - 1:
                below.append((f"{upper(bucket):g}", float(total)))
        below.append(("+Inf", float(total)))
        family.add_metric([group], below, sum(row[sums] for row in members))
    return family
