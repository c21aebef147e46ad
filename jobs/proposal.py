"""What a person writes into the form of a schedule, and the plan that comes of it, or what is wrong with it.

Everything is checked as `@every` checks it. The task is looked up in the registry; nothing is imported by its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from jobs.dashboard.look import Found
from jobs.declare import registry
from jobs.envelope import loads, unpack_body
from jobs.errors import InvalidSchedule, JobsError
from jobs.plan import OPTIONS, Plan
from jobs.recur import UNITS, Rhythm
from jobs.redact import redacted_call, restored

EMPTY = {"timezone": "UTC", "arguments": '{"args": [], "kwargs": {}}', "missed": "once", "missed_limit": "100",
         "overlap": "allow", "unit": "minute"}  # fmt: skip

FIELDS = ("name", "task", "cron", "number", "unit", "timezone", "arguments", "tick_as", "missed", "missed_limit",
          "overlap", *OPTIONS)  # fmt: skip

LONGEST_FIELD = 1_100_000


@dataclass
class Proposal:
    """A form as it was filled in."""

    values: dict[str, str]
    before: Found | None = None
    """The schedule that is edited."""
    problem: str = ""
    plan: Plan | None = field(default=None)

    def said(self, name: str) -> str:
        return self.values.get(name, "")


def of_row(row: Found) -> Proposal:
    """The form of a schedule that stands in the table, its secrets hidden."""
    values = {name: str(row[name]) for name in FIELDS if row.get(name) is not None}
    values["unit"] = "minute"
    if row.every is not None:
        seconds = row.every.total_seconds()
        size, values["unit"] = next((size, unit) for size, unit in UNITS if seconds % size == 0 or size == 1)
        values["number"] = f"{seconds / size:g}"
    values |= {name: str(value) for name, value in _options(row).items() if name in OPTIONS}
    args, kwargs = redacted_call(*unpack_body(row.arguments), registry.get(row.task))
    values["arguments"] = json.dumps({"args": args, "kwargs": kwargs}, ensure_ascii=False)
    return Proposal(values, row)


def read(given: Mapping[str, str], before: Found | None = None) -> Proposal:
    """What came back from the form, with a plan or a problem."""
    values = {name: str(given.get(name, "")).replace("\x00", "")[:LONGEST_FIELD].strip() for name in FIELDS}
    proposal = Proposal(values, before)
    try:
        proposal.plan = _plan(proposal)
    except (JobsError, ValueError) as error:
        proposal.problem = str(error)
    except RecursionError:
        proposal.problem = "The arguments are nested too deep."
    return proposal


def _plan(proposal: Proposal) -> Plan:
    task = registry.get(proposal.said("task"))
    if task is None:
        raise InvalidSchedule("Choose a task: those are the ones that the code of this site has.")
    args, kwargs = _arguments(proposal)
    return Plan(
        name=proposal.said("name"), task=task, rhythm=_rhythm(proposal), args=args, kwargs=kwargs,
        options=_chosen(proposal), tick_as=proposal.said("tick_as"), missed=proposal.said("missed"),
        missed_limit=_whole(proposal, "missed_limit", "100"), overlap=proposal.said("overlap"),
    )  # fmt: skip


def _rhythm(proposal: Proposal) -> Rhythm:
    cron, number = " ".join(proposal.said("cron").split()), proposal.said("number")
    if cron and number:
        raise InvalidSchedule("A cron expression and an interval were both given: give one of the two.")
    if not cron and not number:
        raise InvalidSchedule("Say when: give a cron expression or an interval.")
    if cron:
        return Rhythm(cron=cron, timezone=proposal.said("timezone"))
    size = {unit: size for size, unit in UNITS}.get(proposal.said("unit"), 60)
    try:
        every = timedelta(seconds=_number(proposal, "number") * size)
    except (OverflowError, ValueError):
        raise InvalidSchedule(f"every {number!r}: give a number, above 0.") from None
    return Rhythm(every=every, timezone=proposal.said("timezone"))


def _arguments(proposal: Proposal) -> tuple[list[Any], dict[str, Any]]:
    try:
        content = loads(proposal.said("arguments"))
    except ValueError as error:
        raise InvalidSchedule(f"The arguments are not JSON: {error}") from None
    if type(content) is not dict or set(content) != {"args", "kwargs"}:
        raise InvalidSchedule('Arguments: give an object with a list "args" and an object "kwargs", nothing else.')
    if proposal.before is not None:
        args, kwargs = unpack_body(proposal.before.arguments)
        content = restored(content, {"args": args, "kwargs": kwargs})
    if type(content["args"]) is not list or type(content["kwargs"]) is not dict:
        raise InvalidSchedule('Arguments: "args" must be a list and "kwargs" an object.')
    return content["args"], content["kwargs"]


def _chosen(proposal: Proposal) -> dict[str, Any]:
    """What the task's `using` is given; what is left empty stays the task's own."""
    options: dict[str, Any] = {name: proposal.said(name) for name in OPTIONS if proposal.said(name)}
    if "priority" in options and options["priority"].lstrip("-").isdecimal():
        options["priority"] = int(options["priority"])
    if "max_attempts" in options:
        options["max_attempts"] = _whole(proposal, "max_attempts")
    if "delay" in options:
        options["delay"] = _number(proposal, "delay")
    return options


def _number(proposal: Proposal, name: str) -> float:
    text = proposal.said(name)
    try:
        return float(text)
    except ValueError:
        raise InvalidSchedule(f"{name}={text!r}: give a number.") from None


def _whole(proposal: Proposal, name: str, otherwise: str = "") -> int:
    text = proposal.said(name) or otherwise
    if not text.isdecimal() or len(text) > 9:
        raise InvalidSchedule(f"{name}={text!r}: give a whole number.")
    return int(text)


def _options(row: Found) -> dict[str, Any]:
    try:
        given = loads(row.options)
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}
