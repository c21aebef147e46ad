"""The plans at 50,000 rows: with statistics, without, and with statistics that are no longer true.

Each statement is run as a worker runs it, with its settings, and rolled back. What it reads must depend on its batch
and not on the backlog.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from jobs import claim as claims
from jobs import keeper, move, prune, rescue
from jobs.claim import DISCOVER, Claimed, Lanes
from jobs.finish import finish
from jobs.ids import new_id
from jobs.intake import ACCEPT, ACCEPT_ALL, ACCEPT_KEYED
from jobs.keys import LAST
from jobs.promote import promote
from outbox import relay
from outbox.session import Query, Session, session_on
from tests.support.floor import outcome
from tests.support.plans import Plan, explain

pytestmark = [
    pytest.mark.usefixtures("db"),
    pytest.mark.slow,
    pytest.mark.postgresql("plans of its planner, under its settings"),
]

BACKLOG = 50_000
BATCH = 100

TABLES = (
    *("outbox_message", "jobs_job", "jobs_finishedjob", "jobs_attempt", "jobs_key"),
    *("jobs_worker", "jobs_cancellation"),
)
BIG = TABLES[:-2]

JOBS = """INSERT INTO jobs_job (id, task, queue, priority, state, source_name, arguments, max_attempts, attempts,
  crashes, lease, depth, idempotency_key, enqueued_at, run_after, ready_at, worker, claimer, claimed_at, error)
SELECT gen_random_uuid(), 'tests.tasks.noop', CASE WHEN n %% 3 = 0 THEN 'mail' ELSE 'default' END, n %% 5 * 10 - 20,
  %s, '', '{"args":[],"kwargs":{}}', 3, 0, 0, 1, 0, '', now(),
  CASE WHEN %s IN ('scheduled', 'retrying') THEN now() + (n - 200) * interval '1 second' END, now(),
  CASE WHEN %s = 'running' THEN n %% 100 END, CASE WHEN %s = 'running' THEN n %% 7 END, now(), ''
FROM generate_series(1, %s) AS n"""

FINISHED = """INSERT INTO jobs_finishedjob (id, task, queue, priority, state, source_name, arguments, max_attempts,
  attempts, crashes, lease, depth, idempotency_key, enqueued_at, error, ended_at)
SELECT gen_random_uuid(), 't', 'default', 0, CASE WHEN n %% 2 = 0 THEN 'succeeded' ELSE 'dead' END, '', '', 1, 1, 0, 1,
  0, '', now(), '', now() - n * interval '10 minutes' FROM generate_series(1, %s) AS n"""

OTHERS = (
    "INSERT INTO jobs_attempt (job, lease, number, kind, error, traceback, ended_at)"
    " SELECT id, 1, 1, 'failed', '', '', now() FROM jobs_finishedjob WHERE state = 'dead'",
    "INSERT INTO jobs_key (id, task, key, accepted_at, expires_at) SELECT id, task, id::text, now(),"
    " now() + interval '1 year' FROM jobs_finishedjob",
    "INSERT INTO jobs_key (id, task, key, accepted_at, expires_at) SELECT gen_random_uuid(), 't', n::text, now(),"
    " now() - interval '1 day' FROM generate_series(1, 2000) AS n",
    "INSERT INTO outbox_message (uid, headers, body, written_at) SELECT gen_random_uuid(), '{}', '{}', now()"
    " FROM generate_series(1, 50000)",
    "INSERT INTO jobs_worker (name, queues, slots, started_at, heartbeat_at) SELECT n::text, '', 2, now(), now()"
    " FROM generate_series(1, 90) AS n",
)

STATISTICS = ("fresh", "never taken", "from the empty tables", "from when all were running")


def fill(session: Session, statistics: str) -> None:
    """All homes full, with the statistics asked for."""

    def run(sql: str, *params: Any) -> None:
        session.connection.execute(sql, params, prepare=False)

    def analyse() -> None:
        run(f"ANALYZE {', '.join(TABLES)}")

    if statistics == "from the empty tables":
        analyse()
    run(FINISHED, BACKLOG)
    if statistics == "from when all were running":
        run(JOBS, "running", "", "running", "running", 2 * BACKLOG)
        analyse()
        run(
            "UPDATE jobs_job SET state = 'ready', worker = NULL, claimer = NULL WHERE ctid = ANY(ARRAY("
            " SELECT ctid FROM jobs_job LIMIT %s))",
            BACKLOG,
        )
        run(
            "UPDATE jobs_job SET state = 'scheduled', worker = NULL, claimer = NULL,"
            " run_after = now() + (random() * 50000 - 200) * interval '1 second'"
            " WHERE state = 'running' AND worker >= 20"
        )
    else:
        for state, n in {"ready": BACKLOG, "scheduled": BACKLOG, "retrying": 5000, "running": 10_000}.items():
            run(JOBS, state, state, state, state, n)
    for sql in OTHERS:
        run(sql)
    if statistics == "fresh":
        analyse()


def statements(session: Session) -> dict[str, tuple[Query, int]]:
    """Every statement that runs again and again, and the rows of its batch."""
    everywhere = Lanes(["default", "mail"]).next()
    low_first = everywhere[::-1]
    empty_first = [*Lanes(["none", "nothing"]).next(), *everywhere]
    now = timezone.now()

    def column(sql: str) -> list[Any]:
        return [row[0] for row in session.glance(Query(sql))]

    facts = session.glance(
        Query(
            "SELECT id, task, queue, priority, arguments, lease, claimer, attempts, crashes, max_attempts, source_name,"
            " idempotency_key, depth, version, at_most_once, ready_at, callbacks IS NOT NULL, trace FROM jobs_job"
            f" WHERE state = 'running' LIMIT {BATCH}"
        )
    )
    running = [Claimed._make(row) for row in facts]
    calling = [job._replace(calls_back=True) for job in running]
    ids = [job.id for job in running]
    old = column(f"SELECT id FROM jobs_finishedjob WHERE state = 'dead' LIMIT {BATCH}")
    used = column(f"SELECT id FROM jobs_key LIMIT {BATCH // 2}")
    rows = [given(n, now) for n in range(BATCH)]
    columns = [list(each) for each in zip(*rows, strict=True)]
    keyed = [*columns]
    keyed[0] = [*used, *columns[0][BATCH // 2 :]]
    keyed[9] = [f"key-{n}" for n in range(BATCH)]
    windowed = [*keyed, [n % 2 for n in range(BATCH)], [60.0 if n % 2 else None for n in range(BATCH)], [""] * BATCH]
    windowed += [[None] * BATCH] * 2
    turn, next_due = promote(BATCH)
    of_a_worker = column("SELECT count(*) FROM jobs_job WHERE state = 'running' AND worker = 5")[0]
    all_running = column("SELECT count(*) FROM jobs_job WHERE state = 'running'")[0]
    return {
        "claim": (claims.claim(1, 2, everywhere, BATCH), BATCH),
        "claim one": (claims.claim(1, 2, everywhere, 1), 1),
        "claim low first": (claims.claim(1, 2, low_first, BATCH), BATCH),
        "claim past empty queues": (claims.claim(1, 2, empty_first, BATCH), BATCH),
        "claim from empty queues": (claims.claim(1, 2, Lanes(["none"]).next(), BATCH), 1),
        "discover": (Query(DISCOVER), 3),
        "move": (Query(relay.MOVE, (0, BATCH)), BATCH),
        "accept": (Query(ACCEPT, columns), BATCH),
        "accept keyed": (Query(ACCEPT_KEYED, [*keyed, timedelta(days=1)]), BATCH),
        "accept all": (Query(ACCEPT_ALL, [*windowed, timedelta(days=1)]), BATCH),
        "last of keys": (Query(LAST, (keyed[9], "t")), BATCH),
        "promote": (turn, BATCH),
        "next due": (next_due, 1),
        "succeed": (finish([outcome(job, "succeeded") for job in running], 1)[-1], BATCH),
        "die": (finish([outcome(job, "failed", retry_in=None) for job in running], 1)[-1], BATCH),
        "succeed calling": (finish([outcome(job, "succeeded") for job in calling], 1)[-1], BATCH),
        "die calling": (finish([outcome(job, "failed", retry_in=None) for job in calling], 1)[-1], BATCH),
        "return": (finish([outcome(job, "handed_back") for job in running], 1)[-1], BATCH),
        "return stale": (finish([outcome(job, "lost")._replace(lease=9) for job in running], 1)[-1], BATCH),
        "of a verdict": (Query(rescue.OF_VERDICT, (ids, 5)), BATCH),
        "left over": (Query(rescue.LEFT_OVER, (5, [1, 2, 3], ids)), of_a_worker),
        "of a worker": (Query(rescue.OF_WORKER, (5,)), of_a_worker),
        "strays": (Query(rescue.STRAY), all_running),
        "prune succeeded": (prune_finished(prune.WELL), BATCH),
        "prune dead": (prune_finished(prune.BADLY), BATCH),
        "prune attempts": (Query(prune.TRACES[0], (old,)), BATCH),
        "prune keys": (Query(prune.KEYS, (BATCH,)), BATCH),
        "peek": (Query(keeper.PEEK.format(""), (8,)), 8),
        "peek at ours": (Query(keeper.PEEK.format(keeper.OURS), (["default", "mail"], 8)), 8),
        "left to do": (Query(keeper.LEFT_TO_DO.format(keeper.OUTBOX, "", ""), ([],)), 1),
    }


def prune_finished(which: str) -> Query:
    return Query(prune.FINISHED.format(which), (timedelta(days=7), BATCH))


def given(n: int, now: datetime) -> tuple[Any, ...]:
    return (new_id(), "t", "default", 0, 1, "", "{}", now, now if n % 2 else None, "", None, 0, 1, False, "")


Plans = dict[tuple[str, str, bool], tuple[Plan, int]]


@pytest.fixture(scope="module")
def plans(django_db_setup: None) -> Plans:
    """All statements explained under all statistics, in copies of the tables that are gone before the first test."""
    session = session_on("default", statement_timeout=60)
    taken: Plans = {}
    for statistics in STATISTICS:
        connection = session.connection
        connection.execute("CREATE SCHEMA plans")
        for table in TABLES:
            connection.execute(f"CREATE TABLE plans.{table} (LIKE public.{table} INCLUDING ALL)")
            connection.execute(f"ALTER TABLE plans.{table} SET (autovacuum_enabled = off)")
        connection.execute("SET search_path TO plans")
        try:
            fill(session, statistics)
            for name, (query, batch) in statements(session).items():
                for generic in (False, True):
                    taken[statistics, name, generic] = explain(session, query, generic=generic), batch
            taken[statistics, "anything", False] = explain(session, move.ANYTHING, settings=False), 1
        finally:
            connection.execute("SET search_path TO public")
            connection.execute("DROP SCHEMA plans CASCADE")
    session.close()
    return taken


NAMES = [
    *("claim", "claim one", "claim low first", "claim past empty queues", "claim from empty queues", "discover"),
    *("move", "accept", "accept keyed", "promote", "next due", "succeed", "die", "return", "return stale"),
    *("succeed calling", "die calling", "accept all", "last of keys"),
    *("of a verdict", "left over", "of a worker", "strays"),
    *("prune succeeded", "prune dead", "prune attempts", "prune keys", "peek", "peek at ours", "left to do"),
]

each_plan = [
    pytest.mark.parametrize("generic", [False, True], ids=["planned anew", "prepared"]),
    pytest.mark.parametrize("statistics", STATISTICS),
    pytest.mark.parametrize("name", NAMES),
]


def under_every_plan(test: Any) -> Any:
    for mark in each_plan:
        test = mark(test)
    return test


@under_every_plan
def test_nothing_is_read_or_sorted_whole(plans: Plans, name: str, statistics: str, generic: bool) -> None:
    plan, batch = plans[statistics, name, generic]

    assert not plan.read_whole(BIG), str(plan)
    assert not [kind for kind in plan.kinds if kind.startswith("Bitmap") or "Hash Join" in kind], str(plan)
    assert plan.most_sorted() <= batch, str(plan)


@under_every_plan
def test_what_is_read_depends_on_the_batch_alone(plans: Plans, name: str, statistics: str, generic: bool) -> None:
    plan, batch = plans[statistics, name, generic]

    for table in BIG:
        assert plan.read(table) <= 3 * batch + 20, str(plan)
    assert plan.buffers <= 20 + 15 * batch, str(plan)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_look_at_the_outbox_is_cheap_under_any_plan(plans: Plans, statistics: str) -> None:
    plan, _ = plans[statistics, "anything", False]

    assert plan.buffers <= 10, str(plan)


@pytest.mark.parametrize("generic", [False, True], ids=["planned anew", "prepared"])
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("name", ["succeed", "die", "return"])
def test_a_finish_takes_its_rows_in_the_order_of_the_ids(
    plans: Plans, name: str, statistics: str, generic: bool
) -> None:
    """The list is the outer side of the join: two writers that meet on several rows lock them in the same order."""
    plan, _ = plans[statistics, name, generic]
    joins = [node for node in plan.nodes if node["Node Type"] == "Nested Loop"]

    assert len(joins) == 1, str(plan)
    outer, inner = joins[0]["Plans"]
    assert outer["Node Type"] in ("Function Scan", "CTE Scan"), str(plan)
    assert inner.get("Relation Name") == "jobs_job", str(plan)


def test_every_statement_is_tested(plans: Plans) -> None:
    assert {name for _, name, _ in plans} == {*NAMES, "anything"}
