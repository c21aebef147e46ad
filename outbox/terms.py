"""The terms of our transactions: what has to hold in each, whatever the site, the role or the application chose.

On a connection of our own they are said once, as it is opened. Behind a pooler, which lends a server connection for one
transaction and would pass on to others what we leave there, each transaction says them anew.
"""

from __future__ import annotations

from psycopg import Connection

# Plans must not depend on statistics: a table that was filled in bulk and never analysed looks tiny or empty to the
# planner, which then prefers to scan or sort it whole. With these off, each verb keeps the one plan it was written
# for, so it need not be planned anew for other values.
PLANS = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_incremental_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "lock_timeout": "0",
}

# READ COMMITTED whatever the application chose for its own connections: the claim re-checks rows that changed under
# it, and a serialization failure would only repeat what SKIP LOCKED already avoids.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
ISOLATION = {"default_transaction_isolation": "read committed", "default_transaction_read_only": "off"}

# synchronous_commit is only ever raised: a role with it off must not lose a claim or an outcome.
SETTINGS = f"""SELECT {", ".join(f"set_config('{name}', '{value}', true)" for name, value in PLANS.items())},
 set_config('statement_timeout', %s, true),
 set_config('synchronous_commit', CASE WHEN %s THEN
   CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END
   ELSE 'off' END, true)"""

NOT_DURABLE = "SET LOCAL synchronous_commit = off"

HOLD = "SELECT current_setting('enable_seqscan'), current_setting('synchronous_commit')"


def options(given: str, statement_timeout: str) -> str:
    """The parameter `options` of a connection that holds these terms, behind those that were `given`."""
    said = {**PLANS, **ISOLATION, "statement_timeout": statement_timeout}
    ours = " ".join(f"-c {name}={value}".replace("d c", r"d\ c") for name, value in said.items())
    return f"{given} {ours}".strip()


def hold(connection: Connection[tuple[object, ...]]) -> bool:
    """Whether the server was told, or whoever stands in between has kept it to himself."""
    ((seqscan, commits),) = connection.execute(HOLD).fetchall()
    if seqscan == "off" and commits == "off":
        connection.execute("SET synchronous_commit = on")
    return seqscan == "off"


def refused(error: Exception) -> bool:
    """Whether a connection was not opened because of these terms: a pooler takes few of them."""
    return "startup parameter" in str(error)
