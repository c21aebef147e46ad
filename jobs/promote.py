"""Turn over what is due: scheduled and retrying jobs become ready.

It takes rows whose time has come by the database's clock; it leaves them ready, at the end of their queue, in the
order of their times. A crash undoes one batch, which the next look turns over.
"""

from __future__ import annotations

from outbox.session import Query

# statement_timestamp(), not clock_timestamp(): only a stable function can be a bound of the index, and with the other
# every future row would be read and compared.
# The list is the outer side of the join, so each row gets its ready_at in the list's order.
PROMOTE = """WITH due AS MATERIALIZED (
  SELECT ctid FROM jobs_job
  WHERE state IN ('scheduled', 'retrying') AND run_after <= statement_timestamp()
  ORDER BY run_after LIMIT %s FOR UPDATE SKIP LOCKED)
UPDATE jobs_job AS job SET state = 'ready', ready_at = clock_timestamp() FROM due WHERE job.ctid = due.ctid
RETURNING 1"""

NEXT_DUE = """SELECT extract(epoch FROM run_after - clock_timestamp())::float8 FROM jobs_job
WHERE state IN ('scheduled', 'retrying') ORDER BY run_after LIMIT 1"""


def promote(limit: int) -> list[Query]:
    """The query that turns over up to `limit` due jobs (a row for each), and the one that says when the next is due."""
    return [Query(PROMOTE, (limit,)), Query(NEXT_DUE)]
