"""One job, wherever it is: from the moment it was written to its end, with everything that was kept on the way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import router

from jobs.conf import jobs_settings
from jobs.dashboard.look import Found, one, rows
from jobs.declare import registry
from jobs.delivery import Delivery, delivery_of
from jobs.envelope import unpack_body, unpack_headers
from jobs.frames import Fold, folds
from jobs.handle import JobProgress, progress_of
from jobs.models import DUE_LATER, Attempt, FinishedJob, Job, Key, LogLine, Note, Progress, State
from jobs.redact import named, names_of, redacted, redacted_call
from jobs.tasks import Task
from jobs.trace import trace_id
from outbox.errors import Undeliverable
from outbox.models import Message, SetAsideMessage
from outbox.text import clean

MOST_ATTEMPTS, MOST_LINES, MOST_CHILDREN, MOST_PARENTS = 100, 300, 25, 20

CHILDREN = f"""SELECT id, task, source_name, state FROM jobs_job WHERE parent = %s
UNION ALL SELECT id, task, source_name, state FROM jobs_finishedjob WHERE parent = %s
ORDER BY id LIMIT {MOST_CHILDREN + 1}"""

CALLED = f"""SELECT * FROM (SELECT id, task, source_name, state, parent, origin FROM jobs_job
  UNION ALL SELECT id, task, source_name, state, parent, origin FROM jobs_finishedjob) AS job
WHERE parent = %s AND starts_with(origin, 'on_') ORDER BY id LIMIT {MOST_CHILDREN}"""

PARENT = """SELECT id, task, source_name, state, parent, origin FROM jobs_job WHERE id = %s
UNION ALL SELECT id, task, source_name, state, parent, origin FROM jobs_finishedjob WHERE id = %s LIMIT 1"""

SCHEDULE = "SELECT id, name AS task, '' AS source_name, 'schedule' AS state FROM jobs_schedule WHERE id = %s"
"""What else a job may come from: it carries the schedule's id as its parent."""


@dataclass(frozen=True)
class Moment:
    """A point of the timeline, and how long the way to the next one took."""

    what: str
    at: datetime | None
    kind: str = ""
    note: str = ""
    seconds: float | None = None
    """Since the moment before."""


@dataclass(frozen=True)
class Try:
    """An attempt that did not succeed."""

    row: Attempt
    folds: list[Fold]

    @property
    def ran(self) -> float | None:
        return (self.row.ended_at - self.row.started_at).total_seconds() if self.row.started_at else None


@dataclass(frozen=True)
class Calls:
    """A callback, and the jobs it has become: one for each time the job has ended like that."""

    on: str
    task: str
    jobs: list[Found]


@dataclass(frozen=True)
class Story:
    """What the page of a job shows."""

    id: UUID
    state: str
    job: Job | FinishedJob | None
    """None while it is a message."""
    message: Found | None
    task: Task[Any, Any] | None
    moments: list[Moment]
    tries: list[Try]
    lines: list[LogLine]
    more_lines: bool
    progress: JobProgress | None
    notes: list[Note]
    parents: list[Found]
    children: list[Found]
    origin: str
    callbacks: list[Calls]
    key: Key | None
    trace: str = ""
    """The id of the trace it was enqueued in."""

    @property
    def delivery(self) -> Delivery | None:
        """The event it was made for, if it was."""
        return delivery_of(self.job.idempotency_key) if self.job is not None else None

    @property
    def trace_url(self) -> str:
        """Where the trace is looked at; empty where nobody has said."""
        return jobs_settings().TRACE_URL.replace("{trace_id}", self.trace)

    @property
    def state_label(self) -> str:
        return str(State(self.state).label)

    @property
    def key_holds(self) -> str:
        return self.key.holds(lives=isinstance(self.job, Job)) if self.key is not None else ""

    @property
    def label(self) -> str:
        return self.job.label if self.job is not None else (self.message.label if self.message is not None else "")


def story(job_id: UUID) -> Story | None:
    """The job of that id; None where it is nowhere."""
    alias = jobs_settings().DATABASE
    job: Job | FinishedJob | None = None
    for _ in range(2):  # a requeue moves it back while we look
        job = (
            Job.objects.using(alias).filter(pk=job_id).first()
            or FinishedJob.objects.using(alias).filter(pk=job_id).first()
        )
        if job is not None:
            break
    message = _message(job_id) if job is None else None
    if job is None and message is None:
        return None
    attempts = list(Attempt.objects.using(alias).filter(job=job_id).order_by("lease")[:MOST_ATTEMPTS])
    # The last lines are those that say why.
    lines = list(LogLine.objects.using(alias).filter(job=job_id).order_by("-id")[: MOST_LINES + 1])
    standing = Progress.objects.using(alias).filter(pk=job_id).first()
    notes = list(Note.objects.using(alias).filter(job=job_id).order_by("at", "id")[:100])
    parents = _parents(job.parent) if job is not None else []
    origin = job.origin if job is not None else ""
    return Story(
        job_id,
        job.state if job is not None else str(message.state if message is not None else ""),
        job,
        message,
        registry.get(job.task) if job is not None else None,
        _moments(job, attempts, notes) if job is not None else [],
        [Try(row, folds(row.traceback)) for row in attempts],
        lines[MOST_LINES - 1 :: -1] if len(lines) >= MOST_LINES else lines[::-1],
        len(lines) > MOST_LINES,
        progress_of(standing) if standing is not None and job is not None else None,
        notes,
        parents,
        rows(CHILDREN, (job_id, job_id)),
        origin or next((parent.origin for parent in parents if parent.origin), ""),
        _callbacks(job) if job is not None and job.callbacks else [],
        Key.objects.using(alias).filter(pk=job_id).first(),
        trace_id(job.trace) if job is not None else "",
    )


def _message(job_id: UUID) -> Found | None:
    """A job that has not reached the queue."""
    alias = router.db_for_write(Message)
    for model, state in ((Message, State.WRITTEN), (SetAsideMessage, State.SET_ASIDE)):
        row: Any = model.objects.using(alias).filter(uid=job_id).first()
        if row is not None:
            try:
                task = unpack_headers(row.headers).task
            except Undeliverable:
                task = "a message that cannot be read"
            return Found(
                number=row.pk,
                state=state.value,
                label=task,
                headers=row.headers,
                body=row.body,
                written_at=row.written_at,
                error=getattr(row, "error", ""),
                set_aside_at=getattr(row, "set_aside_at", None),
            )
    return None


def _callbacks(job: Job | FinishedJob) -> list[Calls]:
    try:
        kept = [(str(each["on"]), str(each["headers"]["task"])) for each in json.loads(job.callbacks or "")]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    called = rows(CALLED, (job.pk,))
    return [Calls(on, task, [one for one in called if one.origin.startswith(f"on_{on} of ")]) for on, task in kept]


def _parents(parent: UUID | None) -> list[Found]:
    """The job that enqueued it, the one that enqueued that one, and so on, as far as they are kept."""
    found: list[Found] = []
    while parent is not None and len(found) < MOST_PARENTS:
        row = one(PARENT, (parent, parent))
        if row is None and (schedule := one(SCHEDULE, (parent,))) is not None:
            found.append(Found({**schedule, "parent": None, "origin": ""}))
            break
        if row is None:
            found.append(Found(id=parent, task="", source_name="", state="gone", parent=None, origin=""))
            break
        found.append(row)
        parent = row.parent
    return found


def _moments(job: Job | FinishedJob, attempts: list[Attempt], notes: list[Note]) -> list[Moment]:
    points = [Moment("enqueued", job.enqueued_at, "written")]
    for attempt in attempts:
        if attempt.started_at is not None:
            points.append(Moment(f"attempt {attempt.number} started", attempt.started_at, "started"))
        ended = f"attempt {attempt.number} {attempt.get_kind_display()}"
        points.append(Moment(ended, attempt.ended_at, "failed", attempt.error))
    points += [Moment(f"{note.deed} by {note.by or 'somebody'}", note.at, "person", note.reason) for note in notes]
    if job.ready_at is not None:
        points.append(Moment("ready", job.ready_at, "ready"))
    if isinstance(job, FinishedJob):
        if job.started_at is not None and not any(a.lease == job.lease for a in attempts):
            points.append(Moment("started", job.started_at, "started"))
    elif job.claimed_at is not None:
        points.append(Moment("claimed", job.claimed_at, "started", f"by worker {job.worker}"))
    points.sort(key=lambda point: point.at or job.enqueued_at)
    if isinstance(job, FinishedJob):
        points.append(Moment(job.state, job.ended_at, job.state))
    elif job.state in DUE_LATER:
        points.append(Moment("due", job.run_after, "due"))
    befores = [None, *points[:-1]]
    return [
        Moment(
            point.what,
            point.at,
            point.kind,
            point.note,
            (point.at - before.at).total_seconds() if before and before.at and point.at else None,
        )
        for before, point in zip(befores, points, strict=True)
    ]


# Arguments and results as trees ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Branch:
    """A value of a tree, in words; `below` are the values in it."""

    name: str
    kind: str
    text: str
    below: list[Branch]
    cut: int = 0
    """Values that are not shown."""


MOST_BELOW, DEEPEST, LONGEST_TEXT = 100, 12, 5000


def arguments_tree(job: Job | FinishedJob | Found, task: Task[Any, Any] | None) -> list[Branch] | None:
    """The call as a tree, secrets hidden; None where the row holds none that can be read."""
    try:
        args, kwargs = unpack_body(job.arguments)
        shown, others = redacted_call(args, kwargs, task)
        return [branch(name, value) for name, value in [*named(shown, task), *others.items()]]
    except (ValueError, RecursionError):
        return None


def value_tree(text: str, task: Task[Any, Any] | None) -> Branch | None:
    """A result as a tree, secrets hidden; None where it is not JSON."""
    try:
        return branch("", redacted(json.loads(text), names_of(task)))
    except (ValueError, RecursionError):
        return None


def branch(name: str, value: Any, depth: int = 0) -> Branch:
    name = clean(name, 200)
    if isinstance(value, dict | list) and value and depth < DEEPEST:
        items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        below = [branch(str(key), item, depth + 1) for key, item in items[:MOST_BELOW]]
        kind = "object" if isinstance(value, dict) else "list"
        return Branch(
            name, kind, f"{len(value)} {'keys' if kind == 'object' else 'items'}", below, len(items) - len(below)
        )
    text = clean(json.dumps(value, ensure_ascii=False), LONGEST_TEXT)
    kind = {str: "text", bool: "word", type(None): "word"}.get(type(value), "number")
    return Branch(name, kind, text, [])


def editable(job: Job | FinishedJob, task: Task[Any, Any] | None) -> str:
    """The arguments as text for a person to edit, secrets hidden."""
    args, kwargs = unpack_body(job.arguments)
    shown, others = redacted_call(args, kwargs, task)
    return json.dumps({"args": shown, "kwargs": others}, indent=2, ensure_ascii=False)
