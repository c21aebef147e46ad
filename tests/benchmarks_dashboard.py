"""How fast the dashboard's pages are with much in the tables: row S14 of the targets.

`python -m tests.benchmarks_dashboard` fills a database of its own with 2,000,000 finished, 200,000 ready and 5,000 dead
jobs and a month of counts, asks for each page again and again through Django, and prints the 50th and 95th percentile
of each in milliseconds, and the slowest query there was. `--finished 200000` and the like make it smaller.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from contextlib import nullcontext
from typing import Any

READY = """INSERT INTO jobs_job (id, task, queue, priority, state, source_name, arguments, max_attempts, attempts,
  crashes, lease, depth, idempotency_key, enqueued_at, ready_at, error)
SELECT gen_random_uuid(), 'shop.tasks.t' || n %% 20, (ARRAY['default', 'mail', 'reports'])[1 + n %% 3],
  n %% 3 * 50 - 50, 'ready',
  CASE WHEN n %% 5 = 0 THEN 'checkout/receipt' ELSE '' END, repeat('x', 200), 3, 0, 0, 0, 0, '',
  now() - n * interval '1 ms', now() - n * interval '1 ms', '' FROM generate_series(1, %s) AS n"""

FINISHED = """INSERT INTO jobs_finishedjob (id, task, queue, priority, state, source_name, arguments, max_attempts,
  attempts, crashes, lease, depth, idempotency_key, enqueued_at, ready_at, started_at, ended_at, error, result, worker)
SELECT gen_random_uuid(), 'shop.tasks.t' || n %% 20, (ARRAY['default', 'mail', 'reports'])[1 + n %% 3], 0, %s, '',
  repeat('x', 200), 3, 1, 0, 1, 0, '', now() - n * interval '300 ms', now() - n * interval '300 ms',
  now() - n * interval '300 ms', now() - n * interval '300 ms', %s, 'null', 1 FROM generate_series(1, %s) AS n"""

ATTEMPTS = """INSERT INTO jobs_attempt (job, lease, number, kind, error, traceback, task, exception, frame, version,
  started_at, ended_at)
SELECT id, lease, 1, 'failed', 'ValueError: ' || task, repeat('x', 2000), task, 'ValueError',
  'shop/tasks.py in ' || task, 'v' || lease, started_at, ended_at FROM jobs_finishedjob WHERE state = 'dead'"""

LOG = """INSERT INTO jobs_log (job, lease, number, at, level, logger, text, task, source_name)
SELECT id, 1, 1, ended_at, 20, 'shop', repeat('x', 80), task, '' FROM jobs_finishedjob
  CROSS JOIN generate_series(1, 20) WHERE state = 'dead'"""

# As `compact` leaves them: minutes of the last hours, ten minutes of the last days, hours before that.
STATS = """INSERT INTO jobs_stat (at, span, queue, task, outcome, version, count, waited, ran, waits, runs)
SELECT at, 60, 'default', 'shop.tasks.t' || t, (ARRAY['succeeded', 'retrying'])[o], 'v1', 90, 9, 45,
  '10:20 11:30 12:30 14:8 20:2', '15:20 16:30 17:30 18:8 24:2'
FROM (SELECT now() - n * interval '1 minute' AS at FROM generate_series(1, 180) AS n
  UNION ALL SELECT now() - n * interval '10 minutes' FROM generate_series(18, 432) AS n
  UNION ALL SELECT now() - n * interval '2 hours' FROM generate_series(36, 168) AS n
  UNION ALL SELECT now() - n * interval '6 hours' FROM generate_series(56, 120) AS n) AS times,
  generate_series(0, 19) AS t, generate_series(1, 2) AS o"""


# One event for four finished jobs, and of each twentieth the jobs of two consumers; a hundred schedules.
EVENTS = """INSERT INTO jobs_event (id, type, payload, published_at, origin)
SELECT gen_random_uuid(), 'shop.kind' || n %% 20, '{"number": 1}', now() - n * interval '1200 ms', ''
FROM generate_series(1, %s) AS n"""

DELIVERIES = """INSERT INTO jobs_key (id, task, key, accepted_at)
SELECT gen_random_uuid(), 'shop.tasks.t' || c, %s || event.id || ':' || event.type, event.published_at
FROM (SELECT id, type, published_at FROM jobs_event ORDER BY published_at DESC LIMIT %s) AS event
  CROSS JOIN generate_series(1, 2) AS c"""

SCHEDULES = """INSERT INTO jobs_schedule (id, name, task, cron, timezone, arguments, options, tick_as, missed,
  missed_limit, overlap, next_at)
SELECT gen_random_uuid(), 'schedule ' || n, 'shop.tasks.t' || n % 20, '*/5 * * * *', 'UTC', '{"args":[],"kwargs":{}}',
  '{}', '', 'once', 100, 'allow', now() + n * interval '1 minute' FROM generate_series(1, 100) AS n"""


def fill(finished: int, ready: int, dead: int) -> None:
    from django.db import connection

    from jobs.delivery import PREFIX

    with connection.cursor() as cursor:
        cursor.execute(READY, (ready,))
        cursor.execute(FINISHED, ("succeeded", "", finished))
        cursor.execute(FINISHED, ("dead", "ValueError: no", dead))
        cursor.execute(ATTEMPTS)
        cursor.execute(LOG)
        cursor.execute(STATS)
        cursor.execute(EVENTS, (max(1, finished // 4),))
        cursor.execute(DELIVERIES, (PREFIX, max(1, finished // 80)))
        cursor.execute(SCHEDULES)
        cursor.execute("ANALYZE")


def pages() -> dict[str, str]:
    from jobs.models import Event, FinishedJob, Job, Schedule
    from tests.support.dashboard import STATES, at

    dead = FinishedJob.objects.filter(state="dead").first()
    job = Job.objects.first()
    event = Event.objects.order_by("-published_at").first()
    schedule = Schedule.objects.first()
    assert dead is not None and job is not None and event is not None and schedule is not None
    spans = {f"overview {span}": f"{at('changelist')}?span={span}" for span in ("1h", "6h", "24h", "7d", "30d")}
    lists = {f"list of {state}": at("list", state) for state in STATES}
    return {
        **spans,
        **lists,
        "succeeded, of a task": f"{at('list', 'succeeded')}?task=shop.tasks.t7",
        "succeeded, none matches": f"{at('list', 'succeeded')}?task=none",
        "succeeded, by error": f"{at('list', 'succeeded')}?error=nothing",
        "ready, of a task": f"{at('list', 'ready')}?task=shop.tasks.t7",
        "ready, none matches": f"{at('list', 'ready')}?task=none",
        "dead, searched": f"{at('list', 'dead')}?search=shop.tasks.t1",
        "a dead job": at("change", dead.pk),
        "a ready job": at("change", job.pk),
        "failures": at("failures"),
        "a group of failures": f"{at('failure')}?exception=ValueError&frame=shop/tasks.py in shop.tasks.t3",
        "queues": at("queues"),
        "workers": at("workers"),
        "events": at("events"),
        "events, of a type": f"{at('events')}?type=shop.kind7",
        "events, searched": f"{at('events')}?search={str(event.pk)[:6]}",
        "an event": at("event", event.pk),
        "schedules": at("schedules"),
        "a schedule": at("schedule", schedule.pk),
    }


def measure(url: str, times: int) -> tuple[list[float], float]:
    """Milliseconds of each answer, and of the slowest query."""
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client()
    client.force_login(User.objects.get_or_create(username="root", is_superuser=True, is_staff=True)[0])
    client.get(url)
    took = []
    for _ in range(times):
        began = time.perf_counter()
        assert client.get(url).status_code == 200
        took.append((time.perf_counter() - began) * 1000)
    with CaptureQueriesContext(connection) as captured:
        client.get(url)
    return took, max(float(query["time"]) for query in captured.captured_queries) * 1000


def run(finished: int, ready: int, dead: int, times: int) -> dict[str, Any]:
    """Fill, then measure every page: {page: {"p50": ms, "p95": ms, "slowest_query": ms}}."""
    fill(finished, ready, dead)
    found = {}
    for name, url in pages().items():
        took, slowest = measure(url, times)
        p95 = statistics.quantiles(took, n=20)[-1]
        found[name] = {"p50": round(statistics.median(took)), "p95": round(p95), "slowest_query": round(slowest)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", type=int, default=2_000_000)
    parser.add_argument("--ready", type=int, default=200_000)
    parser.add_argument("--dead", type=int, default=5_000)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help="In the empty database that DATABASE_URL names.")
    given = parser.parse_args()
    from tests.support.database import a_database

    with nullcontext() if given.here else a_database("benchmarks"):
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        found = run(given.finished, given.ready, given.dead, given.times)
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{'page':<28}{'p50 ms':>8}{'p95 ms':>8}{'slowest query':>15}")
    for name, row in found.items():
        print(f"{name:<28}{row['p50']:>8}{row['p95']:>8}{row['slowest_query']:>15}")


if __name__ == "__main__":
    main()
