"""R10. A claim takes exactly as many as it asked for, under a planner set against it, and reads no more than it must.

Full size: 1,000,000 ready rows of 32 priorities, filled in bulk and never analysed.
"""

from __future__ import annotations

from jobs import claim as claims
from outbox.session import Query, session_on
from tests.support.floor import EVERYTHING
from tests.support.plans import explain
from tests.support.wait import wait_until
from tests.trust.ground import Ground
from tests.trust.report import Report

FILL = """INSERT INTO jobs_job (id, task, queue, priority, state, source_name, arguments, max_attempts, attempts,
  crashes, lease, depth, idempotency_key, enqueued_at, ready_at, error)
SELECT gen_random_uuid(), 'tests.tasks.noop', 'default', n %% 32 * 6 - 96, 'ready', '', '{"args":[],"kwargs":{}}', 3, 0,
  0, 0, 0, '', clock_timestamp(), clock_timestamp(), '' FROM generate_series(1, %s) AS n"""

AGAINST = (
    "enable_hashjoin", "enable_mergejoin", "enable_material", "enable_hashagg", "enable_sort", "enable_indexscan",
    "enable_bitmapscan", "enable_memoize",
)  # fmt: skip

# While somebody holds a snapshot in this database, an autovacuum of another table for one, a claim walks over the index
# entries of what the claims before it took: 11.6 pages a job were seen instead of 10. R17 is the row about that.
HELD = """SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND backend_xmin IS NOT NULL
  AND pid <> pg_backend_pid()"""


def row(ground: Ground, report: Report) -> None:
    rows = ground.size(1_000_000, 10_000)
    session = session_on("default", statement_timeout=60)
    session.connection.execute("ALTER TABLE jobs_job SET (autovacuum_enabled = false)")
    session.connection.execute(FILL, (rows,))
    wrong = claimed = scans = 0
    worst = 0.0
    for batch in (1, 10, 100, 500):
        wait_until(lambda: not session.glance(Query(HELD)), within=120, what="nobody else's snapshot")
        plan = explain(session, claims.claim(1, 11, EVERYTHING, batch))
        scans += bool(plan.read_whole(["jobs_job"]))
        report.figure(f"buffers of a batch of {batch}", plan.buffers)
        worst = max(worst, plan.buffers / (20 + 10 * batch))
        for setting in (None, *AGAINST):
            # As a worker runs it, and once more with each way of the planner's forbidden on the whole connection.
            if setting:
                session.connection.execute(f"SET {setting} = off".encode())
            took = len(session.run(claims.claim(1, 11, EVERYTHING, batch), durable=False))
            wrong += took != batch
            claimed += took
            session.connection.execute("RESET ALL")
    raw = session.glance(Query("SELECT count(*) FROM jobs_job WHERE state = 'running'"))[0][0]
    session.close()
    report.figure("rows", rows)
    report.figure("claims", 4 * (1 + len(AGAINST)))
    report.must("claims of another size than asked", wrong, "==", 0)
    report.must("rows running beyond those given out", raw - claimed, "==", 0)
    report.must("plans that read the table whole", scans, "==", 0)
    report.must("buffers, as a share of 20 + 10 x batch", worst, "<=", 1.0)
