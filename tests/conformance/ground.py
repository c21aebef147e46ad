"""The ground the behaviours stand on: one backend, tasks declared for it, and how to wait for them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jobs.backend.api import tasks as api
from tests import django_tasks
from tests.support.side_file import SideFile
from tests.support.wait import wait_until


class Ground:
    """One backend. `runs`: what is enqueued is run, by somebody, without being asked."""

    def __init__(self, alias: str, side_file: SideFile, *, runs: bool = True) -> None:
        self.alias = alias
        self.side_file = side_file
        self.runs = runs

    @property
    def backend(self) -> Any:
        return api.task_backends[self.alias]

    def supports(self, what: str) -> bool:
        return self.runs if what == "run" else bool(getattr(self.backend, f"supports_{what}"))

    def task(self, name: str, **options: Any) -> Any:
        """A task of tests/django_tasks.py, declared for this backend with Django's decorator."""
        known = getattr(django_tasks, name)
        if not options and known.backend == self.alias:
            return known
        return api.task(backend=self.alias, takes_context=known.takes_context, **options)(known.func)

    def finished(self, result: Any) -> Any:
        """Wait until it has ended, and answer the result as it is then."""
        if not result.is_finished:
            wait_until(lambda: self._look(result), within=30, what=f"{result.task.name} ends")
        return result

    def run(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self.finished(self.task(name).enqueue(*args, **kwargs))

    def said(self, result: Any, signal: str) -> list[list[str]]:
        """What a signal said of this job."""
        lines = [line.split() for line in self.side_file.lines()]
        return [line for line in lines if line[:2] == [signal, result.id]]

    @staticmethod
    def _look(result: Any) -> bool:
        result.refresh()
        return bool(result.is_finished)


@dataclass(frozen=True)
class Behaviour:
    """One thing a backend does, and what it must say it supports to be asked."""

    topic: str
    text: str
    needs: tuple[str, ...]
    check: Callable[[Ground], None]


@dataclass
class Verdict:
    """`yes`, `no` with the reason, or `unasked`: the backend does not claim it."""

    word: str
    why: str = field(default="", repr=False)


BEHAVIOURS: list[Behaviour] = []


def behaviour(topic: str, text: str, *needs: str) -> Callable[[Callable[[Ground], None]], Callable[[Ground], None]]:
    def add(check: Callable[[Ground], None]) -> Callable[[Ground], None]:
        BEHAVIOURS.append(Behaviour(topic, text, needs, check))
        return check

    return add


def judge(ground: Ground, one: Behaviour) -> Verdict:
    if not all(ground.supports(need) for need in one.needs):
        return Verdict("unasked")
    try:
        one.check(ground)
    except Exception:
        return Verdict("no", traceback.format_exc())
    return Verdict("yes")


@contextmanager
def telling() -> Iterator[None]:
    """Signals of this process are told in the side file too; those of a worker that has TELL_SIGNALS anyway."""
    if os.environ.get("TELL_SIGNALS"):
        django_tasks.listen()
    try:
        yield
    finally:
        django_tasks.stop_listening()
