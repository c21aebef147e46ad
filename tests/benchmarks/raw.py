"""The limit: loops with nothing but what a queue cannot do without, over psycopg, on tables with nothing more either.

    python -m tests.benchmarks.raw drain mark|archive [--processes N] [--listen] [--most N]
    python -m tests.benchmarks.raw relay
    python -m tests.benchmarks.raw nap

Claim a hundred by UPDATE, do the work, keep the history, again. No checks, no leases, no retries, no limits: who kills
such a process loses its jobs. `mark` ends a job in its row, `archive` moves it to another table as ours does.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Any

import psycopg

from tests.benchmarks import marks

BATCH = 100

CHANNEL = "raw_ready"

# ARRAY(...) computes the ids once, whatever the planner believes of a table it has no statistics of.
CLAIM = """UPDATE raw_job SET status = 1 WHERE id = ANY(ARRAY(
  SELECT id FROM raw_job WHERE status = 0 ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)) RETURNING id, args"""

FINISH = {
    "mark": "UPDATE raw_job SET status = 2 WHERE id = ANY(%s)",
    "archive": """WITH gone AS (DELETE FROM raw_job WHERE id = ANY(%s) RETURNING id, args)
INSERT INTO raw_history (id, args) SELECT id, args FROM gone""",
}

MOVE = """WITH gone AS (DELETE FROM raw_outbox WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM raw_outbox ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)) RETURNING uid, headers, body, written_at)
INSERT INTO raw_taken SELECT * FROM gone"""

# The one plan these statements are meant to have; ours ask for theirs too.
PLANS = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off"


def connect(**options: Any) -> psycopg.Connection[tuple[Any, ...]]:
    connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, **options)
    connection.execute(PLANS)
    connection.prepare_threshold = 0
    return connection


def drain(finish: str, listen: bool, most: int, barrier: Barrier) -> None:
    """Until nothing is ready, or with `listen` for ever, or until `most` jobs have been done."""
    connection = connect()
    if listen:
        connection.execute(f"LISTEN {CHANNEL}")
    barrier.wait()
    done = 0
    while done < most:
        rows = connection.execute(CLAIM, (BATCH,)).fetchall()
        if not rows and not listen:
            return
        if not rows:
            for _ in connection.notifies(timeout=1, stop_after=1):
                pass
            continue
        for _, arguments in rows:
            marks.mark(arguments["i"])
        connection.execute(FINISH[finish], ([row[0] for row in rows],))
        done += len(rows)


def together(processes: int, run: Callable[[Barrier], None]) -> None:
    """Fork; each process gets ready and waits for the others: a limit should not wait for one of its halves."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    children = [context.Process(target=run, args=(barrier,)) for _ in range(processes)]
    for process in children:
        process.start()
    for process in children:
        process.join()
    if any(process.exitcode for process in children):
        raise SystemExit("a raw loop failed")


def relay() -> None:
    """Move everything from the outbox, a thousand at a time, and say how fast."""
    connection = connect()
    connection.execute("SET synchronous_commit = off")
    began, moved = time.monotonic(), 0
    while batch := connection.execute(MOVE, (1000,)).rowcount:
        moved += batch
    print(moved / (time.monotonic() - began))


async def nap(places: int = 100) -> None:
    """Many at once on one loop: as many asleep as there are places, claimed and finished beside it."""
    connection = await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"], autocommit=True)
    await connection.execute(PLANS)
    done: list[int] = []
    free = asyncio.Semaphore(places)
    asleep: set[asyncio.Task[None]] = set()

    async def work(number: int, index: int) -> None:
        marks.mark(index)
        await asyncio.sleep(marks.NAP)
        done.append(number)
        free.release()

    claimed = await claim(connection, places)
    while claimed:
        following = asyncio.create_task(exchange(connection, done, places))
        for number, arguments in claimed:
            await free.acquire()
            task = asyncio.create_task(work(number, arguments["i"]))
            asleep.add(task)
            task.add_done_callback(asleep.discard)
        claimed = await following
    await asyncio.gather(*asleep)
    await exchange(connection, done, 0)


async def exchange(
    connection: psycopg.AsyncConnection[tuple[Any, ...]], done: list[int], wanted: int
) -> list[tuple[Any, ...]]:
    finished = done[:]
    done.clear()
    if finished:
        await connection.execute(FINISH["mark"], (finished,))
    return await claim(connection, wanted) if wanted else []


async def claim(connection: psycopg.AsyncConnection[tuple[Any, ...]], wanted: int) -> list[tuple[Any, ...]]:
    return await (await connection.execute(CLAIM, (wanted,))).fetchall()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["drain", "relay", "nap"])
    parser.add_argument("finish", nargs="?", choices=["mark", "archive"], default="mark")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--listen", action="store_true")
    parser.add_argument("--most", type=int, default=10**9, help="Jobs after which each process ends.")
    given = parser.parse_args()
    if given.what == "relay":
        relay()
    elif given.what == "nap":
        asyncio.run(nap())
    else:
        together(given.processes, partial(drain, given.finish, given.listen, given.most))


if __name__ == "__main__":
    main()
