"""What stands in `TASKS[alias]` beside the backend's name, read and checked.

    TASKS = {
        "default": {
            "BACKEND": "jobs.backend.JobsBackend",
            "QUEUES": ["default", "mail"],
            "MAX_ATTEMPTS": 3,
            "BACKOFF": [5, 30, 120],
            "TIMEOUT": 60,
            "OPTIONS": {
                "DATABASE": "default",
                "MODULES": ["newsletter.sending"],
                "TASKS": {"newsletter.sending.send": {"max_attempts": 5, "source_name": "newsletter"}},
            },
        }
    }

MAX_ATTEMPTS, BACKOFF and TIMEOUT stand where the proposals for Django put them; in OPTIONS they mean the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from django.db import connections

from jobs.backend.declared import POLICY
from jobs.conf import jobs_settings
from jobs.errors import InvalidOption
from jobs.options import check_attempts, check_backoff, check_database, check_timeout
from outbox.session import SESSIONS

SAID_ABOVE = ("MAX_ATTEMPTS", "BACKOFF", "TIMEOUT")
ABOVE = ("BACKEND", "QUEUES", "OPTIONS", *SAID_ABOVE)
OPTIONS = (*SAID_ABOVE, "DATABASE", "MODULES", "TASKS")


@dataclass(frozen=True)
class BackendSettings:
    """Of one alias. Made again for each thread, as Django makes backends, so it checks nothing by itself."""

    alias: str
    params: Mapping[str, Any]
    options: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", self.params.get("OPTIONS", {}))

    def default(self, name: str) -> Any:
        """What a task gets that does not say it itself: of MAX_ATTEMPTS, BACKOFF, TIMEOUT; None where nobody says."""
        return self.params[name] if name in self.params else self.options.get(name)

    def of_task(self, name: str) -> Mapping[str, Any]:
        """What OPTIONS["TASKS"] says about one task."""
        said: Mapping[str, Any] = self.options.get("TASKS", {}).get(name, {})
        return said

    @property
    def database(self) -> str | None:
        database: str | None = self.options.get("DATABASE")
        return database

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(self.options.get("MODULES", ()))

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with them, each with what to do."""
        where = f"TASKS[{self.alias!r}]"
        for given, known, place in ((self.params, ABOVE, where), (self.options, OPTIONS, f'{where}["OPTIONS"]')):
            for name in sorted(set(given) - set(known)):
                yield f"{place} has {name!r}, which means nothing here.", f"It takes {', '.join(known)}."
        for check, name in ((check_attempts, "MAX_ATTEMPTS"), (check_timeout, "TIMEOUT"), (check_backoff, "BACKOFF")):
            try:
                if (value := self.default(name)) is not None:
                    check(value)
            except InvalidOption as error:
                yield f"{where}: {name} cannot be taken.", str(error)
        declared = jobs_settings().QUEUES
        queues = self.params.get("QUEUES", ["default"])
        missing = sorted(set(queues) - set(declared)) if declared else []
        if missing:
            yield (
                f'{where}["QUEUES"] has {", ".join(map(repr, missing))}, which no worker serves.',
                f'Add it: JOBS = {{"QUEUES": {sorted({*declared, *missing})!r}}}.',
            )
        if declared and not queues:
            yield (
                f'{where}["QUEUES"] allows any name, and JOBS["QUEUES"] only {", ".join(map(repr, declared))}.',
                'Set JOBS["QUEUES"] to [] as well, or name the queues in both.',
            )
        yield from self._of_options(f'{where}["OPTIONS"]')

    def _of_options(self, where: str) -> Iterator[tuple[str, str]]:
        try:
            check_database(self.database)
        except InvalidOption as error:
            yield f'{where}["DATABASE"] is not there.', str(error)
        else:
            if self.database is not None and connections[self.database].vendor not in SESSIONS:
                yield f'{where}["DATABASE"] is neither PostgreSQL nor SQLite.', "Name an alias of one that is."
        for name in self.modules:
            try:
                import_module(name)
            except Exception as error:
                yield f'{where}["MODULES"] has {name!r}, which cannot be imported.', f"{type(error).__name__}: {error}"
        for name, said in self.options.get("TASKS", {}).items():
            for option in sorted(set(said) - set(POLICY)):
                yield f'{where}["TASKS"][{name!r}] has {option!r}.', f"It takes {', '.join(POLICY)}."
