"""The tasks that are timed. They do what the raw loops do for a row, and nothing else."""

from __future__ import annotations

import asyncio

from jobs import task
from tests.benchmarks import marks


@task
def mark(index: int) -> None:
    marks.mark(index)


@task
def carry(index: int, load: str = "") -> None:
    marks.mark(index)


@task
async def nap(index: int) -> None:
    marks.mark(index)
    await asyncio.sleep(marks.NAP)
