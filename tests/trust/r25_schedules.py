"""R25. Five schedulers race over 200 ticks while they are killed: one job a tick. Then ticks over a downtime, and DST.

Full size: a tick each 0.3 s, 60 kills of a scheduler, one in five of its whole worker. Nothing is run here.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

from jobs import child
from tests.support.processes import named
from tests.trust.ground import QUICK, Ground, Worker
from tests.trust.report import Report

TICKS, SCHEDULERS = 200, 5

INSERT = """INSERT INTO jobs_schedule (id, name, task, cron, every, timezone, arguments, options, tick_as, missed,
  missed_limit, overlap, next_at)
VALUES (gen_random_uuid(), %s, 'tests.trust.tasks.works', '', %s, 'UTC', '{"args":[],"kwargs":{}}', '{}', 'number', %s,
  10000, 'allow', clock_timestamp() + %s) RETURNING id, next_at"""


def row(ground: Ground, report: Report) -> None:
    step = timedelta(seconds=max(0.03, 0.3 * ground.scale))
    kills = ground.size(60, 8)
    fleet = [start(ground) for _ in range(SCHEDULERS)]
    ground.ready(*fleet)
    ((schedule, first),) = ground.sql(INSERT, "race", step, "all", timedelta(seconds=1))
    expected = [first + n * step for n in range(TICKS)]
    began, done, whole = time.monotonic(), 0, 0
    within = 60 + TICKS * step.total_seconds()
    while next_at(ground, schedule) <= expected[-1] and time.monotonic() < began + within:
        time.sleep(ground.rolls.random() * 2 * TICKS * step.total_seconds() / kills)
        n = ground.rolls.randrange(SCHEDULERS)
        if done % 5 == 4:
            child.kill_tree(fleet[n].pid)
            fleet[n].process.wait()
            fleet[n] = start(ground)
            done, whole = done + 1, whole + 1
        elif (relay := named(fleet[n].pid).get("relay")) is not None:
            with suppress(ProcessLookupError):
                os.kill(relay, signal.SIGKILL)
                done += 1
    made = ticks_of(ground, schedule)

    report.figure("schedulers", SCHEDULERS)
    report.figure("kills of a scheduler", done)
    report.figure("of them with its whole worker", whole)
    report.figure("seconds between two ticks", step.total_seconds())
    report.must("ticks with exactly one job", sum(made[tick] == 1 for tick in expected), "==", TICKS)
    report.must("ticks with more than one", sum(count > 1 for count in made.values()), "==", 0)
    report.must("jobs of no tick", sum((tick - first) % step != timedelta(0) for tick in made), "==", 0)
    report.must("in two homes", ground.value("SELECT count(*) - count(DISTINCT id) FROM jobs_job"), "==", 0)
    downtime(ground, report)
    clocks(report)


def start(ground: Ground) -> Worker:
    """A worker of a queue nobody writes to: it schedules, and runs nothing."""
    return ground.worker("--slots", "1", "--queues", "mail", jobs=QUICK)


def next_at(ground: Ground, schedule: UUID) -> datetime:
    at: datetime = ground.value("SELECT next_at FROM jobs_schedule WHERE id = %s", schedule)
    return at


def ticks_of(ground: Ground, schedule: UUID) -> Counter[datetime]:
    """How many jobs each tick has become: the task is given the time of its tick."""
    jobs = ground.sql("SELECT arguments FROM jobs_job WHERE parent = %s", schedule)
    return Counter(datetime.fromisoformat(json.loads(arguments)["kwargs"]["number"]) for (arguments,) in jobs)


def downtime(ground: Ground, report: Report) -> None:
    """Every tick of the last three and a half hours was missed when a scheduler looks."""
    hour = timedelta(hours=1)
    rows = {missed: ground.sql(INSERT, missed, hour, missed, -3.5 * hour)[0][0] for missed in ("once", "skip", "all")}
    ground.wait(lambda: all(next_at(ground, one) > datetime.now().astimezone() for one in rows.values()), 60)
    for missed, jobs in (("once", 1), ("skip", 0), ("all", 4)):
        report.must(f"jobs of four missed ticks: {missed}", ticks_of(ground, rows[missed]).total(), "==", jobs)


def clocks(report: Report) -> None:
    """The table of the documentation."""
    from tests.jobs.test_recur import ROWS, came

    right = sum(came(zone, day, clocks, cron) == said for zone, day, clocks, cron, said in ROWS)
    report.figure("time zones", len({zone for zone, *_ in ROWS}))
    report.must("rows of the DST table that hold", right, "==", len(ROWS))
