"""The gate: committed messages become jobs.

It takes messages from the relay; it leaves one statement that makes them ready or scheduled jobs inside the relay's
own transaction, and names the messages that can never be jobs. It touches no database itself. A crash is the relay's:
the move is undone whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache

from jobs.conf import jobs_settings
from jobs.envelope import Headers, loads, trace_text, unpack_body, unpack_headers
from outbox.arrays import plain, quoted
from outbox.errors import Undeliverable
from outbox.relay import Delivery, Written
from outbox.session import Query
from outbox.text import clean

CHANNEL = "jobs_ready"

TRACE = ',"trace":'
"""Where the last header begins. In a JSON string its quotes would have a backslash before them: it is a key."""

ARRAYS = """%s::uuid[], %s::text[], %s::text[], %s::smallint[], %s::smallint[], %s::text[], %s::text[],
  %s::timestamptz[], %s::timestamptz[], %s::text[], %s::uuid[], %s::smallint[], %s::smallint[], %s::boolean[],
  %s::text[]"""
NAMES = """id, task, queue, priority, max_attempts, source_name, arguments, enqueued_at, run_after, key, parent,
    depth, version, at_most_once, origin"""
GIVEN = f"unnest({ARRAYS}) AS given({NAMES})"

# The database's clock decides what is due, so the state is chosen here and not where the message was written.
# clock_timestamp() gives each row its own ready_at, in the order of the arrays: that order is the queue's order.
INSERT = """INSERT INTO jobs_job (id, task, queue, priority, max_attempts, source_name, arguments, enqueued_at,
  run_after, idempotency_key, parent, depth, version, at_most_once, origin, state, ready_at, attempts, crashes, lease,
  error)
SELECT id, task, queue, priority, max_attempts, source_name, arguments, enqueued_at, run_after, key, parent, depth,
  version, at_most_once, origin,
  CASE WHEN run_after > clock_timestamp() THEN 'scheduled' ELSE 'ready' END, clock_timestamp(), 0, 0, 0, ''
FROM """

# What has ended under this id stays ended: the message is one that was delivered before.
NOT_ENDED = "NOT EXISTS (SELECT 1 FROM jobs_finishedjob AS ended WHERE ended.id = given.id)"

ACCEPT = f"{INSERT} {GIVEN} WHERE {NOT_ENDED}"

# A keyed job exists only where its key was won. A relay that meets an uncommitted key of another relay waits for it
# here, behind the requests, never in one; the keys are taken in the order of their ids so that two relays cannot wait
# for each other.
ACCEPT_KEYED = f"""WITH given AS MATERIALIZED (SELECT * FROM {GIVEN}), won AS (
  INSERT INTO jobs_key (id, task, key, expires_at)
  SELECT id, task, key, clock_timestamp() + %s::interval FROM given WHERE key <> '' ORDER BY id
  ON CONFLICT (id) DO NOTHING RETURNING id)
{INSERT} given WHERE (key = '' OR id IN (SELECT id FROM won)) AND {NOT_ENDED}"""

# The whole of it, for a batch in which somebody has a callback, a trace, or a key that holds for a window. Such a key
# is not the job's own: the next job has it too, and must not be taken for this one by a service that is given the key.
# So the row of the job has none, and its id stands for it.
GIVEN_ALL = f"""unnest({ARRAYS}, %s::int[], %s::float8[], %s::text[], %s::text[], %s::text[])
  AS given({NAMES}, generation, unique_for, until, callbacks, trace)"""
INSERT_ALL = (
    INSERT.replace("error)", "error, callbacks, trace)")
    .replace(", 0, 0, 0, ''", ", 0, 0, 0, '', callbacks, trace")
    .replace("run_after, key,", "run_after, CASE generation WHEN 0 THEN key ELSE '' END,")
)

ACCEPT_ALL = f"""WITH given AS MATERIALIZED (SELECT * FROM {GIVEN_ALL}), won AS (
  INSERT INTO jobs_key (id, task, key, generation, until, expires_at)
  SELECT id, task, key, generation, until, clock_timestamp() + CASE generation WHEN 0 THEN %s::interval
    ELSE coalesce(unique_for, 0) * interval '1 second' END
  FROM given WHERE key <> '' ORDER BY id
  ON CONFLICT (id) DO NOTHING RETURNING id)
{INSERT_ALL}
  given WHERE (key = '' OR id IN (SELECT id FROM won)) AND {NOT_ENDED}"""

ACCEPT_IF = f"WITH guard AS ({{guard}}) {INSERT_ALL} {GIVEN_ALL} WHERE EXISTS (SELECT 1 FROM guard) RETURNING id"

# One for each column of GIVEN. Whatever came from outside is quoted.
DUMPS = (
    plain, quoted, quoted, plain, plain, quoted, quoted, quoted, quoted, quoted, plain, plain, plain, plain, quoted,
)  # fmt: skip
DUMPS_ALL = (*DUMPS, plain, plain, quoted, quoted, quoted)


def accept(messages: list[Written]) -> Delivery:
    """Turn messages into the queries that make them jobs, and name those that cannot be one."""
    good: list[tuple[Written, Headers]] = []
    rejected: list[tuple[Written, str]] = []
    for message in messages:
        try:
            headers = _read(message.headers)
            unpack_body(message.body)
        except Undeliverable as error:
            rejected.append((message, clean(str(error), 2000)))
        except ValueError as error:
            rejected.append((message, clean(f"the body is not right: {error}", 2000)))
        else:
            good.append((message, headers))
    if not good:
        return Delivery([], rejected)
    later = any(headers.run_after is not None or headers.delay for _, headers in good)
    return Delivery([_insert(good)], rejected, later, Query(f"NOTIFY {CHANNEL}"))


def accept_if(guard: Query, messages: list[Written]) -> Query:
    """One statement: `guard`, and where it gave a row, these messages become jobs. For messages of our own making:
    raises Undeliverable for what `accept` would set aside, and knows no keys."""
    rows = [_whole_row(message, unpack_headers(message.headers)) for message in messages]
    columns = [dump(column) for dump, column in zip(DUMPS_ALL, zip(*rows, strict=True), strict=True)]
    return Query(ACCEPT_IF.format(guard=guard.sql), [*guard.params, *columns])


def _read(text: str) -> Headers:
    """The headers of a message. A trace is another for every message, so what is kept is what stands before it."""
    if text.endswith("}}"):
        before, found, trace = text.rpartition(TRACE)
        if found:
            with suppress(Undeliverable, ValueError, RecursionError):  # it was written by others: in another order
                return _headers(before + "}")._replace(trace=trace_text(loads(trace[:-1])))
    return _headers(text)


@lru_cache(maxsize=1024)
def _headers(text: str) -> Headers:
    """Read once what the messages of one task have in common; what is not right is never kept."""
    return unpack_headers(text)


def _insert(good: list[tuple[Written, Headers]]) -> Query:
    keyed = any(headers.key for _, headers in good)
    if any(headers.generation or headers.callbacks or headers.trace for _, headers in good):
        every = [_whole_row(message, headers) for message, headers in _first_of_each_key(good)]
        columns = [dump(column) for dump, column in zip(DUMPS_ALL, zip(*every, strict=True), strict=True)]
        return Query(ACCEPT_ALL, [*columns, jobs_settings().KEEP_KEYS])
    rows = (_row(message, headers) for message, headers in (_first_of_each_key(good) if keyed else good))
    columns = [dump(column) for dump, column in zip(DUMPS, zip(*rows, strict=True), strict=True)]
    return Query(ACCEPT_KEYED, [*columns, jobs_settings().KEEP_KEYS]) if keyed else Query(ACCEPT, columns)


def _first_of_each_key(good: Iterable[tuple[Written, Headers]]) -> list[tuple[Written, Headers]]:
    """Without the later messages of a key: they are the same job."""
    seen = set()
    first = []
    for message, headers in good:
        if headers.key and message.uid in seen:
            continue
        seen.add(message.uid)
        first.append((message, headers))
    return first


def _row(message: Written, headers: Headers) -> tuple[object, ...]:
    return (
        message.uid,
        headers.task,
        headers.queue,
        headers.priority,
        headers.max_attempts,
        headers.source_name,
        message.body,
        message.written_at,
        _due(message, headers),
        headers.key,
        headers.parent,
        headers.depth,
        headers.version,
        headers.at_most_once,
        headers.origin,
    )


def _whole_row(message: Written, headers: Headers) -> tuple[object, ...]:
    rare = headers.generation, headers.unique_for, headers.until, headers.callbacks, headers.trace
    return (*_row(message, headers), *rare)


def _due(message: Written, headers: Headers) -> datetime | None:
    if headers.run_after is not None:
        return headers.run_after
    return message.written_at + headers.delay if headers.delay else None
