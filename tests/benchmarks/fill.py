"""Fill tables in bulk, ours and the raw ones, in one statement each."""

from __future__ import annotations

HOT_TABLES = ("outbox_message", "jobs_job", "jobs_finishedjob", "raw_job", "raw_outbox")

# The least a queue needs: a key, a state, the arguments, one index over what is ready. `raw_history` is for the loop
# that moves what is done, as our tables do; the other one marks it in place. `business` and `plain` are for enqueueing.
RAW_TABLES = """
CREATE TABLE raw_job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status smallint NOT NULL DEFAULT 0,
  args jsonb NOT NULL);
CREATE INDEX raw_ready ON raw_job (id) WHERE status = 0;
CREATE TABLE raw_history (id bigint PRIMARY KEY, args jsonb NOT NULL, ended_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE raw_outbox (LIKE outbox_message INCLUDING ALL);
CREATE TABLE raw_taken (uid uuid PRIMARY KEY, headers text NOT NULL, body text NOT NULL, written_at timestamptz);
CREATE TABLE business (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL,
  made_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, uid uuid NOT NULL, headers text NOT NULL,
  body text NOT NULL, written_at timestamptz NOT NULL DEFAULT clock_timestamp());
"""

# Ids that rise with n as those of a real enqueue rise with time.
UUID = "(lpad(to_hex(1700000000000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid"

BODY = """'{"args":[' || n || '],"kwargs":{}}'"""

# Parameters: task, state, from, to.
JOBS = f"""INSERT INTO jobs_job (id, task, queue, priority, max_attempts, source_name, arguments, enqueued_at,
  run_after, idempotency_key, depth, state, ready_at, attempts, crashes, lease, error)
SELECT {UUID}, given.task, 'default', 0, 3, '', {BODY}, clock_timestamp(),
  CASE WHEN given.state IN ('scheduled', 'retrying') THEN clock_timestamp() + interval '1 day' END, '', 0,
  given.state, clock_timestamp(), 0, 0, 0, ''
FROM (SELECT %s::text AS task, %s::text AS state) AS given, generate_series(%s::bigint, %s::bigint) AS n ORDER BY n"""

# Queues and priorities by turns, and in every so-manieth job an argument of so many letters more.
# Parameters: task, queues, priorities, every, letters, from, to.
MIXED = f"""INSERT INTO jobs_job (id, task, queue, priority, max_attempts, source_name, arguments, enqueued_at,
  idempotency_key, depth, state, ready_at, attempts, crashes, lease, error)
SELECT {UUID}, given.task, CASE WHEN n %% queues = 0 THEN 'default' ELSE 'q' || n %% queues END,
  CASE WHEN priorities = 1 THEN 0 ELSE n %% priorities * 200 / priorities - 100 END, 3, '',
  '{{"args":[' || n || CASE WHEN n %% every = 0 THEN ',"' || repeat('x', letters) || '"' ELSE '' END
    || '],"kwargs":{{}}}}', clock_timestamp(), '', 0, 'ready', clock_timestamp(), 0, 0, 0, ''
FROM (SELECT %s::text AS task, %s::int AS queues, %s::int AS priorities, %s::int AS every, %s::int AS letters) AS given,
  generate_series(%s::bigint, %s::bigint) AS n ORDER BY n"""

# Parameters: task, state, from, to.
HISTORY = f"""INSERT INTO jobs_finishedjob (id, task, queue, priority, source_name, arguments, max_attempts, lease,
  depth, idempotency_key, enqueued_at, ready_at, worker, state, attempts, crashes, result, error, started_at, ended_at)
SELECT {UUID}, given.task, 'default', 0, '', {BODY}, 3, 1, 0, '', now(), now(), 1, given.state, 1, 0, 'null', '', now(),
  clock_timestamp()
FROM (SELECT %s::text AS task, %s::text AS state) AS given, generate_series(%s::bigint, %s::bigint) AS n ORDER BY n"""

# Parameters: task, from, to.
INTO = f"""(uid, headers, body)
SELECT {UUID}, '{{"v":1,"task":"' || given.task || '","queue":"default","priority":0,"max_attempts":3}}', {BODY}
FROM (SELECT %s::text AS task) AS given, generate_series(%s::bigint, %s::bigint) AS n ORDER BY n"""
MESSAGES, RAW_MESSAGES = f"INSERT INTO outbox_message {INTO}", f"INSERT INTO raw_outbox {INTO}"

# Parameters: status, from, to.
RAW_JOBS = """INSERT INTO raw_job (status, args)
SELECT %s, jsonb_build_object('i', n) FROM generate_series(%s::bigint, %s::bigint) AS n ORDER BY n"""

# Parameters: from, to.
RAW_HISTORY = """INSERT INTO raw_history (id, args)
SELECT -n, jsonb_build_object('i', n) FROM generate_series(%s::bigint, %s::bigint) AS n ORDER BY n"""

TASK = "tests.benchmarks.tasks.mark"
CARRY = "tests.benchmarks.tasks.carry"
NAP = "tests.benchmarks.tasks.nap"
BALLAST = "ballast"
"""The task of rows that only stand in the way."""
