"""The application's side: processes that enqueue, and print one JSON object.

    python -m tests.benchmarks.writer rate [--raw] PER_SECOND JOBS [PER_SECOND JOBS ...]
    python -m tests.benchmarks.writer cost TRANSACTIONS JOBS

`rate` writes jobs 1, 2, 3 ... one at a time, at one rate after the other. `cost` times the business transaction with an
enqueue and with a plain INSERT, then `enqueue_many` and the bare statements for the same rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import uuid
from functools import partial
from typing import Any

import django
import psycopg

from tests.benchmarks.raw import CHANNEL

QUIET = 0.5
"""Seconds between two rates: workers have to be idle again."""

BUSINESS = "INSERT INTO business (note) VALUES (%s)"
UNTIMED = 20
"""Transactions before the clock runs: the first ones open the connection."""

PLAIN = "INSERT INTO plain (uid, headers, body) VALUES (%s, %s, %s)"
MANY = "INSERT INTO raw_outbox (uid, headers, body) SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[])"
COPY = "COPY raw_outbox (uid, headers, body) FROM STDIN"

HEADERS = '{"v":1,"task":"tests.benchmarks.tasks.mark","queue":"default","priority":0,"max_attempts":1}'


def body(index: int) -> str:
    return f'{{"args":[{index}],"kwargs":{{}}}}'


def rate(phases: list[tuple[float, int]], raw: bool) -> dict[str, Any]:
    """Enqueue at steady rates; when each commit was done, by index, and how many a second they were at the end."""
    committed: dict[int, float] = {}
    one = _raw_one(committed) if raw else _one(committed)
    index = 0
    for per_second, jobs in phases:
        began = time.perf_counter()
        for n in range(jobs):
            pause = began + n / per_second - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            index += 1
            one(index)
        took = time.perf_counter() - began
        time.sleep(QUIET)
    return {"per_second": phases[-1][1] / took, "committed": committed}


def _one(committed: dict[int, float]) -> Any:
    django.setup()
    from django.db import connection, transaction

    from tests.benchmarks.tasks import mark

    def stamp(index: int) -> None:
        committed[index] = time.time()

    def one(index: int) -> None:
        with transaction.atomic():
            transaction.on_commit(partial(stamp, index))  # before the library's own hook: the commit, not the wake-up
            with connection.cursor() as cursor:
                cursor.execute(BUSINESS, (f"order {index}",))
            mark.enqueue(index)

    return one


def _raw_one(committed: dict[int, float]) -> Any:
    connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)

    def one(index: int) -> None:
        with connection.transaction():
            connection.execute(BUSINESS, (f"order {index}",))
            connection.execute("INSERT INTO raw_job (args) VALUES (%s)", (json.dumps({"i": index}),))
            connection.execute(f"NOTIFY {CHANNEL}")
        committed[index] = time.time()

    return one


def transactions(number: int) -> dict[str, Any]:
    """The business transaction with an enqueue, and with a plain INSERT of the same row, by turns."""
    from django.db import connection, transaction

    from tests.benchmarks.tasks import mark

    def enqueue(index: int) -> None:
        mark.enqueue(index)

    def insert(index: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute(PLAIN, (uuid.uuid4(), HEADERS, body(index)))

    times: dict[str, list[float]] = {"enqueue": [], "insert": []}
    for index in range(number + UNTIMED):
        for name, second in (("enqueue", enqueue), ("insert", insert)):
            began = time.perf_counter()
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute(BUSINESS, (f"order {index}",))
                second(index)
            if index >= UNTIMED:
                times[name].append(time.perf_counter() - began)
    return {name: {"median": statistics.median(taken), "mean": statistics.mean(taken)} for name, taken in times.items()}


def many(jobs: int) -> dict[str, Any]:
    """`enqueue_many`, and the same rows by one INSERT ... SELECT unnest, and by COPY, with the values at hand."""
    from django.db import connection, transaction

    from tests.benchmarks.tasks import mark

    connection.ensure_connection()
    calls = [(index,) for index in range(1, jobs + 1)]
    began = time.perf_counter()
    with transaction.atomic():
        handles = mark.enqueue_many(calls)
    ours = time.perf_counter() - began
    ids, headers, bodies = [handle.id for handle in handles], [HEADERS] * jobs, [body(index) for (index,) in calls]
    raw = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    began = time.perf_counter()
    raw.execute(MANY, (ids, headers, bodies))
    unnest = time.perf_counter() - began
    rows = list(zip(ids, headers, bodies, strict=True))
    began = time.perf_counter()
    with raw.cursor().copy(COPY) as copy:
        for row in rows:
            copy.write_row(row)
    return {"ours": jobs / ours, "unnest": jobs / unnest, "copy": jobs / (time.perf_counter() - began)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["rate", "cost"])
    parser.add_argument("numbers", type=float, nargs="+")
    parser.add_argument("--raw", action="store_true")
    given = parser.parse_args()
    numbers = given.numbers
    if given.what == "rate":
        phases = [(per_second, int(jobs)) for per_second, jobs in zip(numbers[::2], numbers[1::2], strict=True)]
        answer = rate(phases, given.raw)
    else:
        django.setup()
        answer = {**transactions(int(numbers[0])), **many(int(numbers[1]))}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
