"""Tasks named for what they do."""

from __future__ import annotations

from jobs import task


@task
def add(a: int, b: int) -> int:
    return a + b


@task
def noop(n: int = 0) -> None:
    pass
