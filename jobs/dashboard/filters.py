"""What a person asks a list for, read from the address: every value is checked or left out, never an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from jobs.dashboard.counts import STATES
from jobs.models import State
from outbox.text import clean

BANDS = {"high": (50, 100), "default": (-49, 49), "low": (-100, -50)}

SPANS = {"1h": 3600, "6h": 6 * 3600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
"""Times back from now, in seconds."""

TIMES: dict[str, str] = {
    State.READY: "ready_at",
    State.RUNNING: "claimed_at",
    State.SCHEDULED: "run_after",
    State.RETRYING: "run_after",
}
"""The column that a list is about; all others are ordered by ended_at."""


@dataclass(frozen=True)
class Filter:
    """One list of jobs."""

    state: str
    queue: str = ""
    task: str = ""
    source_name: str = ""
    """The start of it."""
    band: str = ""
    within: str = ""
    error: str = ""
    """Somewhere in the error's line."""
    search: str = ""
    """The start of the source name or of the task."""

    @property
    def time_column(self) -> str:
        return TIMES.get(self.state, "ended_at")

    @property
    def is_live(self) -> bool:
        return self.state in TIMES

    @property
    def narrows(self) -> bool:
        return self != Filter(self.state)

    def address(self, **changed: str) -> str:
        """The query string of this list, or of one that differs in `changed`."""
        given = replace(self, **changed)
        named = {name: getattr(given, name) for name in NAMES if getattr(given, name)}
        return urlencode(named)

    def conditions(self) -> tuple[str, list[Any]]:
        """What narrows the list, as SQL over the columns of a job, without the state."""
        parts, params = [], []
        for column in ("queue", "task"):
            if value := getattr(self, column):
                parts.append(f"{column} = %s")
                params.append(value)
        if self.source_name:
            parts.append("starts_with(source_name, %s)")
            params.append(self.source_name)
        if self.search:
            parts.append("(starts_with(source_name, %s) OR starts_with(task, %s))")
            params += [self.search, self.search]
        if self.error:
            parts.append("strpos(lower(error), lower(%s)) > 0")
            params.append(self.error)
        if self.band:
            parts.append("priority BETWEEN %s AND %s")
            params += BANDS[self.band]
        if self.within:
            sign, side = ("+", "<") if self.time_column == "run_after" else ("-", ">")
            parts.append(f"{self.time_column} {side} clock_timestamp() {sign} %s * interval '1 second'")
            params.append(SPANS[self.within])
        return "".join(f" AND {part}" for part in parts), params


NAMES = ("queue", "task", "source_name", "band", "within", "error", "search")

LIMITS = {"queue": 64, "task": 200, "source_name": 200, "error": 200, "search": 200}


def read(state: str, given: Mapping[str, Any]) -> Filter:
    """The list that an address asks for; what makes no sense is left out."""
    values = {name: clean(str(given.get(name, "")).strip(), limit) for name, limit in LIMITS.items()}
    band, within = str(given.get("band", "")), str(given.get("within", ""))
    return Filter(
        state if state in [each.value for each in STATES] else State.READY.value,
        band=band if band in BANDS else "",
        within=within if within in SPANS else "",
        **values,
    )


UUID_LIKE = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\Z")
