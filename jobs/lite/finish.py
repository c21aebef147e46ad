"""Finish on SQLite: each outcome by itself, fenced, with its attempt and its callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.db import DataError

from jobs import finish
from jobs.envelope import dumps, loads
from jobs.ids import new_id
from outbox.lite.book import Do, Row, nothing, verb
from outbox.lite.values import items

FENCE = "WHERE id = %s AND state = 'running' AND lease = %s AND claimer = %s"

NAMES = [name.strip() for name in finish.KEPT.split(",")]

TAKE_OUT = f"DELETE FROM jobs_job {FENCE} RETURNING {finish.KEPT}, attempts, crashes"

KEEP = f"""INSERT INTO jobs_finishedjob ({finish.KEPT}, state, attempts, crashes, result, error, started_at, ended_at)
VALUES ({", ".join(["%s"] * len(NAMES))}, %s, %s, %s, %s, %s, later(clock_timestamp(), -%s), clock_timestamp())"""

PUT_BACK = f"""UPDATE jobs_job SET state = %s, attempts = %s, crashes = %s,
  error = CASE WHEN %s <> '' THEN %s ELSE error END,
  run_after = CASE WHEN %s = 'ready' THEN run_after ELSE later(clock_timestamp(), %s) END,
  worker = NULL, claimer = NULL, claimed_at = NULL
{FENCE} RETURNING id, lease, task"""

NOTE = """INSERT INTO jobs_attempt (job, lease, number, kind, error, traceback, task, exception, frame, version, worker,
  started_at, ended_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, coalesce((SELECT version FROM jobs_worker WHERE id = %s), ''), %s,
  later(clock_timestamp(), -%s), clock_timestamp())
ON CONFLICT (job, lease) DO NOTHING"""

WISH = "SELECT reason FROM jobs_cancellation WHERE job = %s AND reason <> ''"

CALL = "INSERT INTO outbox_message (uid, headers, body, written_at) VALUES (%s, %s, %s, clock_timestamp())"

nothing(finish.LOCK)  # the transaction is the only one that writes


class Said(NamedTuple):
    """One outcome as `finish` gives it: the columns of OUTCOMES."""

    id: str
    lease: int
    claimer: int
    state: str
    attempts: int
    crashes: int
    delay: float | None
    error: str
    traceback: str
    frame: str
    kind: str
    number: int
    age: float | None


KINDS = ("uuid", "int", "bigint", "text", "smallint", "smallint", "float8", *["text"] * 4, "smallint", "float8")


def outcomes(columns: Sequence[Any]) -> list[Said]:
    return [Said._make(row) for row in zip(*map(items, columns, KINDS), strict=True)]


@verb(finish.SUCCEED)
def succeed(do: Do, params: Sequence[Any], *, calling: bool = False) -> list[Row]:
    kinds = ("uuid", "int", "bigint", "text", "text", "float8")
    done = []
    for number, lease, claimer, result, note, age in zip(*map(items, params, kinds), strict=True):
        for *kept, attempts, crashes in do(TAKE_OUT, (number, lease, claimer)):
            do(KEEP, (*kept, "succeeded", attempts + 1, crashes, result, note, age))
            if calling:
                call(do, dict(zip(NAMES, kept, strict=True)), "succeeded", result, note)
            done.append((str(kept[0]),))
    return done


@verb(finish.DIE)
def die(do: Do, params: Sequence[Any], *, calling: bool = False) -> list[Row]:
    done = []
    for o in outcomes(params):
        for *kept, _, _ in do(TAKE_OUT, (o.id, o.lease, o.claimer)):
            job = dict(zip(NAMES, kept, strict=True))
            # A coroutine that was cancelled alone does not know by whom.
            wish = do(WISH, (o.id,)) if o.state == "cancelled" else []
            told = o._replace(error=wish[0][0] if wish else o.error)
            note(do, told, job["task"], job["worker"])
            do(KEEP, (*kept, o.state, o.attempts, o.crashes, None, told.error, o.age))
            if calling:
                call(do, job, o.state, None, told.error)
            done.append((str(kept[0]),))
    return done


verb(finish.SUCCEED_CALLING)(partial(succeed, calling=True))
verb(finish.DIE_CALLING)(partial(die, calling=True))


@verb(finish.RETURN)
def put_back(do: Do, params: Sequence[Any]) -> list[Row]:
    *columns, worker = params
    done = []
    for o in outcomes(columns):
        given = (o.state, o.attempts, o.crashes, o.error, o.error, o.state, o.delay, o.id, o.lease, o.claimer)
        for number, _, task in do(PUT_BACK, given):
            note(do, o, task, worker)
            done.append((str(number),))
    return done


def note(do: Do, o: Said, task: str, worker: int | None) -> None:
    """The row of a try that did not succeed."""
    if o.kind:
        exception = o.error.partition(": ")[0][:200]
        told = (o.id, o.lease, o.number, o.kind, o.error, o.traceback, task, exception, o.frame, worker, worker, o.age)
        do(NOTE, told)


def call(do: Do, job: dict[str, Any], outcome: str, result: str | None, error: str) -> None:
    """The messages of the callbacks that wait for such an end. The parts go on as the text they are."""
    awaited = {"complete", {"succeeded": "success", "dead": "failure"}.get(outcome, "complete")}
    for each in _callbacks(job["callbacks"]):
        if each["on"] in awaited:
            origin = f"on_{each['on']} of {job['task']}{', ' if job['origin'] else ''}{job['origin']}"[:300]
            lineage = {"parent": str(job["id"]), "depth": job["depth"] + 1, "origin": origin}
            body = dumps(each["body"])
            if each.get("ended"):
                body = _told(each["body"], job, outcome, result, error)
            uid = UUID(each["uid"]) if each.get("uid") else new_id()
            headers = dumps({**each["headers"], **lineage})
            if job["trace"]:
                headers = f'{headers[:-1]},"trace":{job["trace"]}}}'
            do(CALL, (uid, headers, body))


def _callbacks(text: str | None) -> list[dict[str, Any]]:
    try:
        return list(loads(text)) if text else []
    except ValueError as error:
        raise DataError(f"the callbacks cannot be read: {error}") from error


def _told(body: dict[str, Any], job: dict[str, Any], outcome: str, result: str | None, error: str) -> str:
    quoted: Callable[[str], str] = dumps
    ended = (
        f'"ended":{{"job_id":"{job["id"]}","task":{quoted(job["task"])},"outcome":"{outcome}",'
        f'"result":{"null" if result is None else result},"error":{quoted(error)}}}'
    )
    given = dumps(body["kwargs"])[:-1] + ("," if body["kwargs"] else "")
    return f'{{"args":{dumps(body["args"])},"kwargs":{given}{ended}}}}}'
