"""What keepers and movers ask and write on SQLite."""

from __future__ import annotations

from jobs import atomic, enrol, keeper, orders, rescue, tables
from outbox.lite.book import nothing, said

said(
    keeper.REGISTER,
    """INSERT INTO jobs_worker (name, queues, slots, version, running, started_at, heartbeat_at)
    VALUES (%s, %s, %s, %s, '', clock_timestamp(), clock_timestamp()) RETURNING id""",
)

said(rescue.BURY, "DELETE FROM jobs_worker WHERE id = %s AND at(heartbeat_at) = at(%s) RETURNING id")

nothing(rescue.END_SESSIONS, atomic.DURABLE)

said(
    orders.ORDERS,
    """SELECT 'pause' AS what, name, NULL AS job, NULL AS lease, NULL AS claimer, NULL AS worker FROM jobs_queue
      WHERE until IS NULL OR until > clock_timestamp()
    UNION ALL SELECT 'wish', wish, NULL, NULL, NULL, NULL FROM jobs_worker WHERE id = %s AND wish <> ''
    UNION ALL SELECT * FROM (SELECT 'cancel', wanted.reason, wanted.job, job.lease, job.claimer, job.worker
      FROM jobs_cancellation AS wanted LEFT JOIN jobs_job AS job ON job.id = wanted.job
      ORDER BY wanted.job LIMIT 1000)""",
)

said(
    enrol.LOOK,
    enrol.LOOK.replace(
        "clock_timestamp() - declared_at, clock_timestamp()",
        "(seconds(clock_timestamp()) - seconds(declared_at)) * 1e6 AS unseen, clock_timestamp() AS now",
    ),
)

said(
    tables.THERE,
    """SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE sqlite_master.name = wanted.name) AS found
    FROM unnest(%s::text[]) AS wanted(name)""",
)

said(
    tables.MISSING,
    """SELECT 1 AS missing FROM unnest(%s::text[], %s::text[]) AS named(tab, col)
    WHERE NOT EXISTS (SELECT 1 FROM pragma_table_info(named.tab) AS a WHERE a.name = named.col) LIMIT 1""",
)
