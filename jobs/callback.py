"""Callbacks: other jobs that follow when a job ends, enqueued in the transaction that writes its outcome.

They are drafted by whoever enqueues the job, so a callback that could never run is refused there, and travel with it as
data: in the message's headers, then in a column of the row. The statement that writes an outcome writes the messages of
the callbacks from the rows it has moved itself: a stale outcome moves none and calls nobody, and a crash leaves both
the outcome and its callbacks, or neither.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

from jobs.conf import jobs_settings
from jobs.errors import InvalidArguments, InvalidOption
from jobs.ids import id_for_key
from jobs.pack import pack

if TYPE_CHECKING:
    from jobs.tasks import Task

EVENTS = ("success", "failure", "complete")
"""`success`: succeeded; `failure`: dead; `complete`: either, or cancelled."""

ENDED = "ended"
"""Name of the parameter that gets the Ended."""


class Ended(TypedDict):
    """What a callback is told of the job that ended, in its parameter `ended`, where it has one."""

    job_id: str
    task: str
    """Dotted name."""
    outcome: str
    """succeeded, dead or cancelled."""
    result: Any
    """What the task returned; None unless it succeeded and its result was kept."""
    error: str
    """The last error in one line, or why it was cancelled, or why its result was not kept; else empty."""


@dataclass(frozen=True)
class Callback:
    """A task with fixed arguments, to be enqueued when a job ends: `notify.callback(order.id)`.

    Raises InvalidArguments or InvalidOption for one that could never run.
    """

    task: Task[Any, Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = self.task.name
        if self.task.has_window:
            raise InvalidOption(f"{name} as a callback: unique_for= and until= are for those who enqueue themselves.")
        if self.task.database not in (None, jobs_settings().DATABASE):
            raise InvalidOption(
                f"{name} as a callback: it is enqueued on the queue's database ({jobs_settings().DATABASE!r}), with"
                " the outcome. Leave database= out."
            )
        if ENDED in self.kwargs:
            raise InvalidArguments(f"{name} as a callback: {ENDED!r} is given by the worker that ends the job.")
        pack(f"{name} as a callback", self.args, self.kwargs)
        self.task.check_call(self.args, {**self.kwargs, ENDED: {}} if self.wants_ended else self.kwargs)

    @cached_property
    def wants_ended(self) -> bool:
        parameter = inspect.signature(self.task.func).parameters.get(ENDED)
        return parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)

    @property
    def headers(self) -> dict[str, Any]:
        """Those that it has besides its task's own."""
        return {"key": key} if (key := self.task.idempotency_key) is not None else {}

    @property
    def body(self) -> dict[str, Any]:
        return {"args": list(self.args), "kwargs": dict(self.kwargs)}

    @property
    def marks(self) -> dict[str, Any]:
        """What the statement that writes it must know."""
        marks: dict[str, Any] = {ENDED: True} if self.wants_ended else {}
        if (key := self.task.idempotency_key) is not None:
            marks["uid"] = str(id_for_key(self.task.name, key))
        return marks


def as_callback(option: str, value: Any) -> Callback | None:
    """What was given to `on_success=` and the like: a callback, or a task that needs no arguments."""
    if value is None or isinstance(value, Callback):
        return value
    made = value.callback() if hasattr(value, "callback") else None
    if not isinstance(made, Callback):
        raise InvalidOption(f"{option}={value!r}: give a task, or a task with arguments: task.callback(order.id).")
    return made


def callbacks_of(task: Task[Any, Any]) -> list[tuple[str, Callback]]:
    """With the event that each waits for."""
    given = zip(EVENTS, (task.on_success, task.on_failure, task.on_complete), strict=True)
    return [(event, each) for event, each in given if each is not None]


def levels(task: Task[Any, Any]) -> int:
    """How far callbacks go on: those of its callbacks, and theirs."""
    return max((1 + levels(each.task) for _, each in callbacks_of(task)), default=0)


# A UUIDv7 as `new_id` makes them: the time first, the rest random.
NEW_ID = """(lpad(to_hex(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' ||
    substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid"""


def called(gone: str, *, outcome: str, result: str, error: str) -> str:
    """A part of the statement that ends jobs: it writes the callbacks of the rows in `gone`, and of no others.

    json, not jsonb: each part goes on as the text it is, to the digit. `outcome`, `result` and `error` are expressions.
    """
    return f"""called AS (
  INSERT INTO outbox_message (uid, headers, body)
  SELECT coalesce((it->>'uid')::uuid, {NEW_ID}),
    left((it->'headers')::text, -1) || ',"parent":"' || id || '","depth":' || depth + 1 || ',"origin":' ||
      to_json(left('on_' || (it->>'on') || ' of ' || task || CASE WHEN origin = '' THEN '' ELSE ', ' END || origin,
        300))::text || CASE WHEN trace IS NULL THEN '' ELSE ',"trace":' || trace END || '}}',
    CASE WHEN it->>'ended' IS NULL THEN (it->'body')::text
    ELSE '{{"args":' || (it->'body'->'args')::text || ',"kwargs":' || left((it->'body'->'kwargs')::text, -1) ||
      CASE WHEN (it->'body'->'kwargs')::text = '{{}}' THEN '' ELSE ',' END ||
      '"ended":{{"job_id":"' || id || '","task":' || to_json(task)::text || ',"outcome":"' || {outcome} ||
      '","result":' || coalesce({result}, 'null') || ',"error":' || to_json({error})::text || '}}}}}}' END
  FROM {gone} CROSS JOIN LATERAL json_array_elements(callbacks::json) AS it
  WHERE it->>'on' IN ('complete', CASE {outcome} WHEN 'succeeded' THEN 'success' WHEN 'dead' THEN 'failure' END))"""
