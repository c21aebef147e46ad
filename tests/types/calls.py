"""Right and wrong calls. A line that must be refused ends in `# wrong`; every other line must pass.

`assert_type` says what a type checker must know of the right ones.
"""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from jobs import JobContext, JobHandle, task
from jobs.errors import GiveUp


@task
def add(a: int, b: int = 0, *, scale: float = 1.0) -> int:
    return int((a + b) * scale)


@task(priority="high", max_attempts=3, timeout=timedelta(seconds=20), retry_on=[OSError], never_retry_on=GiveUp)
def send(to: str) -> None: ...


@task(takes_context=True)
def report(context: JobContext, year: int) -> dict[str, int]:
    context.progress(1, 2, "half")
    return {"year": year, "attempt": context.attempt}


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task(takes_context=True, max_attempts=2)
async def fetch_with(context: JobContext, url: str) -> list[str]:
    return [url, str(context.job_id)]


async def coroutine(context: JobContext) -> int:
    return context.attempt


def wants_a_number(context: int, year: int) -> None: ...


# What the decorator takes.

assert_type(task(takes_context=True)(coroutine).enqueue(), JobHandle[int])
task(takes_context=True)(wants_a_number)  # wrong
task(wants_a_number).enqueue(1, 2)
task(prioritty="high")  # wrong
task(priority=1.5)  # wrong
task(max_attempts="three")  # wrong
task(backoff=[1, timedelta(minutes=1)])
task(backoff=lambda error, context: context.attempt * 2.0)
task(backoff=lambda error, context: "soon")  # wrong
task(retry_on="OSError")  # wrong

# What enqueue takes and gives.

handle = add.enqueue(1)
assert_type(handle, JobHandle[int])
assert_type(handle.return_value, int)
assert_type(handle.wait(10), bool)
add.enqueue(1, 2)
add.enqueue(1, b=2, scale=0.5)
add.enqueue()  # wrong
add.enqueue("1")  # wrong
add.enqueue(1, 2, 3)  # wrong
add.enqueue(1, c=2)  # wrong
add.enqueue(1, b="2")  # wrong

assert_type(send.enqueue("x").return_value, None)
send.enqueue(None)  # wrong
send.enqueue(to=1)  # wrong

# The context is the worker's to give.

assert_type(report.enqueue(2026).return_value, dict[str, int])
report.enqueue(year=2026)
report.enqueue()  # wrong
report.enqueue("2026")  # wrong
report.enqueue(JobContext, 2026)  # wrong

# An async task is enqueued like any other, and its result is what it returns when awaited.

assert_type(fetch.enqueue("x"), JobHandle[bytes])
assert_type(fetch.enqueue("x").return_value, bytes)
fetch.enqueue(1)  # wrong
assert_type(fetch_with.enqueue("x").return_value, list[str])
fetch_with.enqueue()  # wrong

# A copy with other options takes the same arguments.

later = add.using(delay=5, priority="low", idempotency_key="k", run_after=None)
assert_type(later.enqueue(1, b=2), JobHandle[int])
later.enqueue("1")  # wrong
add.using(dealy=5)  # wrong
add.using(delay="5")  # wrong
add.using(priority=None)  # wrong
add.using(max_attempts="3")  # wrong

# Many at once: the arguments of each call are bound when they are enqueued, the results have their type.

assert_type(add.enqueue_many([(1,), {"a": 2}]), list[JobHandle[int]])
add.enqueue_many([1])  # wrong
add.enqueue_many((1, 2))  # wrong
add.enqueue_many([(1,)], idempotency_keys=[1])  # wrong

# Here and now, and later by id.

assert_type(add.call(1, b=2), int)
assert_type(fetch.call("x"), bytes)
add.call("1")  # wrong
assert_type(add.get_result("0192"), JobHandle[int])
add.get_result(5)  # wrong


async def in_async_code() -> None:
    assert_type(await add.aenqueue(1), JobHandle[int])
    await add.aenqueue("1")  # wrong
    assert_type(await fetch.aenqueue("x"), JobHandle[bytes])
    assert_type(await add.acall(1), int)
    assert_type(await fetch.acall("x"), bytes)
    assert_type(await add.aenqueue_many([(1,)]), list[JobHandle[int]])
    await (await add.aenqueue(1)).arefresh()
    assert_type(await handle.await_end(5), bool)
    add.enqueue(await fetch.acall("x"))  # wrong
