"""Turn over what is due: scheduled and retrying jobs become ready.

It takes rows whose time has come by the database's clock; it leaves them ready, at the end of their queue. A crash
undoes one batch, which the next look turns over.
"""

from __future__ import annotations

from outbox.session import Query

# statement_timestamp(), not clock_timestamp(): only a stable function can be a bound of the index, and with the other
# every future row would be read and compared.
PROMOTE = """UPDATE jobs_job SET state = 'ready', ready_at = clock_timestamp() WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM jobs_job
  WHERE state IN ('scheduled', 'retrying') AND run_after <= statement_timestamp()
  ORDER BY run_after LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING 1"""

NEXT_DUE = """SELECT extract(epoch FROM run_after - clock_timestamp())::float8 FROM jobs_job
WHERE state IN ('scheduled', 'retrying') ORDER BY run_after LIMIT 1"""


def promote(limit: int) -> list[Query]:
    """The query that turns over up to `limit` due jobs (a row for each), and the one that says when the next is due."""
    return [Query(PROMOTE, (limit,)), Query(NEXT_DUE)]
