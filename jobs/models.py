"""What is true of jobs: a row has exactly one home.

    outbox_message ──relay──▶ Job: scheduled ──promote──▶ ready ──claim──▶ running ──finish──▶ FinishedJob:
                                      retrying ◀───────────────────────────── │              succeeded, dead,
                                                          ready ◀── rescue ───┘              cancelled

`Job` is hot and small: what the claim and the relay touch stays small however much history is kept. `FinishedJob` is
append-only. The id is the same in every home. `lease` is raised by every claim and by nothing else; with `claimer` it
fences every write about a running job.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.formats import date_format
from django.utils.timezone import localtime, now

from jobs.delivery import PREFIX
from jobs.events import Event
from jobs.records import Block, Cancellation, LogLine, Note, Progress, Queue, Stat
from jobs.timetable import Schedule

__all__ = [
    "DUE_LATER", "ENDED", "LIVE", "Attempt", "Block", "Cancellation", "Event", "FinishedJob", "Job", "JobColumns",
    "Key", "LogLine", "Note", "Progress", "Queue", "Schedule", "Stat", "State", "Worker",
]  # fmt: skip


class State(models.TextChoices):
    """Where a job is."""

    WRITTEN = "written", "written"
    """In the outbox: committed or about to be, not yet relayed."""
    SET_ASIDE = "set_aside", "set aside"
    """The relay could not deliver it; a person replays or discards it."""
    SCHEDULED = "scheduled", "scheduled"
    """Due later, or waiting for a worker that knows its task."""
    READY = "ready", "ready"
    """May run now."""
    RUNNING = "running", "running"
    """Claimed by a slot."""
    RETRYING = "retrying", "retrying"
    """Failed with attempts left; waits for its backoff."""
    SUCCEEDED = "succeeded", "succeeded"
    """Ended well; its result is in the history."""
    DEAD = "dead", "dead"
    """Failed for good."""
    CANCELLED = "cancelled", "cancelled"
    """Stopped by a person, or because its `only_if` said no."""


LIVE = (State.SCHEDULED, State.READY, State.RUNNING, State.RETRYING)
ENDED = (State.SUCCEEDED, State.DEAD, State.CANCELLED)
DUE_LATER = (State.SCHEDULED, State.RETRYING)


class JobColumns(models.Model):
    """The columns a job keeps from home to home."""

    id = models.UUIDField(primary_key=True, editable=False)
    task = models.CharField(max_length=200)
    queue = models.CharField(max_length=64)
    priority = models.SmallIntegerField(default=0)
    state = models.CharField(max_length=10, choices=State.choices)
    source_name = models.CharField(max_length=200, blank=True, default="")
    arguments = models.TextField(help_text='JSON text: {"args": [...], "kwargs": {...}}, as it was enqueued.')
    version = models.SmallIntegerField(default=1, db_default=1, help_text="Version of the task it was enqueued for.")
    at_most_once = models.BooleanField(
        default=False, db_default=False, help_text="Never run a second time after a lost worker."
    )
    max_attempts = models.SmallIntegerField(default=1)
    attempts = models.SmallIntegerField(default=0, help_text="Attempts spent.")
    crashes = models.SmallIntegerField(default=0, help_text="Times its worker died while it ran.")
    lease = models.IntegerField(default=0, help_text="Times it was claimed; never lowered.")
    depth = models.SmallIntegerField(default=0)
    parent = models.UUIDField(null=True, blank=True, help_text="The job that enqueued it.")
    origin = models.CharField(
        max_length=300, blank=True, default="", db_default="", help_text="The request and the user it came from."
    )
    idempotency_key = models.CharField(max_length=200, blank=True, default="")
    enqueued_at = models.DateTimeField()
    run_after = models.DateTimeField(null=True, blank=True)
    ready_at = models.DateTimeField(null=True, blank=True, help_text="When it last became ready.")
    worker = models.BigIntegerField(null=True, blank=True)
    error = models.TextField(blank=True, default="", help_text="The last error in one line.")
    # NULL for nearly all: that is what the claim looks at.
    callbacks = models.TextField(null=True, blank=True, help_text="JSON text: what to enqueue when it ends.")  # noqa: DJ001
    trace = models.TextField(null=True, blank=True, help_text="JSON text: the trace it was enqueued in.")  # noqa: DJ001

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.task} {self.id}"

    @property
    def label(self) -> str:
        """The source_name, else the task's name."""
        return self.source_name or self.task


class Job(JobColumns):
    """A job that has not ended: scheduled, ready, running or retrying."""

    claimer = models.BigIntegerField(null=True, blank=True, help_text="Random number of the slot that claimed it.")
    claimed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "job"
        permissions = [
            ("view_arguments", "Can see the arguments and results of jobs"),
            ("requeue_job", "Can requeue dead and cancelled jobs"),
            ("run_job", "Can have scheduled and retrying jobs run now"),
            ("cancel_job", "Can cancel jobs, running ones too"),
            ("discard_job", "Can discard jobs for good"),
            ("edit_job", "Can edit the arguments of jobs"),
        ]
        indexes = [
            # The claim walks this: each queue in its order, and nothing that is due later stands in front.
            models.Index(
                "queue", models.F("priority").desc(), "ready_at", name="jobs_ready", condition=Q(state="ready")
            ),
            models.Index(
                fields=["run_after"], name="jobs_due_later", condition=Q(state__in=[s.value for s in DUE_LATER])
            ),
            models.Index(fields=["worker", "claimer"], name="jobs_running", condition=Q(state="running")),
            models.Index(fields=["parent"], name="jobs_children", condition=Q(parent__isnull=False)),
        ]
        constraints = [
            models.CheckConstraint(name="jobs_job_live", condition=Q(state__in=[s.value for s in LIVE])),
            models.CheckConstraint(
                name="jobs_job_running_iff_claimed",
                condition=Q(state="running", worker__isnull=False, claimer__isnull=False)
                | (~Q(state="running") & Q(worker__isnull=True, claimer__isnull=True)),
            ),
            models.CheckConstraint(
                name="jobs_job_counts", condition=Q(lease__gte=0, attempts__gte=0, crashes__gte=0, max_attempts__gte=1)
            ),
            models.CheckConstraint(name="jobs_job_priority", condition=Q(priority__gte=-100, priority__lte=100)),
            models.CheckConstraint(
                name="jobs_job_due_later",
                condition=~Q(state__in=[s.value for s in DUE_LATER]) | Q(run_after__isnull=False),
            ),
            models.CheckConstraint(name="jobs_job_ready_at", condition=~Q(state="ready") | Q(ready_at__isnull=False)),
        ]


class FinishedJob(JobColumns):
    """A job that has ended: the history."""

    # NULL is "nothing was kept"; the text "null" is a result.
    result = models.TextField(null=True, blank=True, help_text="JSON text of what the task returned.")  # noqa: DJ001
    started_at = models.DateTimeField(null=True, blank=True, help_text="Start of the last attempt.")
    ended_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "finished job"
        default_permissions = ()
        indexes = [
            # Two halves of one index: retention keeps the two for different times, and each row is in one of them.
            models.Index(fields=["ended_at"], name="jobs_ended_well", condition=Q(state="succeeded")),
            models.Index(fields=["ended_at"], name="jobs_ended_badly", condition=~Q(state="succeeded")),
            models.Index(fields=["parent"], name="jobs_ended_children", condition=Q(parent__isnull=False)),
        ]
        constraints = [
            models.CheckConstraint(name="jobs_finished_ended", condition=Q(state__in=[s.value for s in ENDED])),
        ]


class Attempt(models.Model):
    """One try that did not succeed: what happened, when, where. Successful tries leave no row."""

    class Kind(models.TextChoices):
        FAILED = "failed", "failed"
        """The task raised."""
        TIMED_OUT = "timed_out", "timed out"
        """Killed at its time limit."""
        CRASHED = "crashed", "crashed"
        """Its process died under it."""
        LOST = "lost", "lost"
        """Its whole worker was gone."""

    job = models.UUIDField()
    lease = models.IntegerField(help_text="Which claim of the job this was.")
    number = models.SmallIntegerField(help_text="Which attempt it was, from 1.")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    error = models.TextField(help_text="In one line.")
    traceback = models.TextField(blank=True, default="")
    task = models.CharField(max_length=200, blank=True, default="", db_default="")
    # Exception and frame together are what failures are grouped by; the line number is left out, it moves with edits.
    exception = models.CharField(max_length=200, blank=True, default="", db_default="")
    frame = models.CharField(
        max_length=300, blank=True, default="", db_default="", help_text="The application's own function it came from."
    )
    version = models.CharField(max_length=64, blank=True, default="", db_default="", help_text="The worker's code.")
    worker = models.BigIntegerField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["job", "lease"], name="jobs_attempt_once")]
        indexes = [models.Index(fields=["exception", "frame"], name="jobs_attempt_alike")]

    def __str__(self) -> str:
        return f"{self.job} #{self.number} {self.kind}"


class Key(models.Model):
    """An idempotency key that has been used: as long as it holds, the same task and key is this job.

    A plain key is one row for good, with generation 0. One that holds for a time (`unique_for`), or until its job has
    ended, is a row for each job it has become, counted from 1; the last one counts.
    """

    id = models.UUIDField(primary_key=True, editable=False, help_text="The job's id, computed from task and key.")
    task = models.CharField(max_length=200)
    key = models.CharField(max_length=200)
    accepted_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True, blank=True, help_text="May be forgotten after; empty is never.")
    generation = models.IntegerField(default=0, db_default=0)
    until = models.CharField(
        max_length=10, blank=True, default="", db_default="", help_text='"finished": it holds while its job lives.'
    )

    class Meta:
        verbose_name = "idempotency key"
        permissions = [("forget_key", "Can forget idempotency keys")]
        indexes = [
            models.Index(fields=["expires_at"], name="jobs_key_expires", condition=Q(expires_at__isnull=False)),
            # The last generation of a key. Plain keys have none and pay nothing for it.
            models.Index(
                fields=["task", "key", "-generation"], name="jobs_key_generation", condition=Q(generation__gt=0)
            ),
            # From an event to its jobs. By bytes, so that the start of a key is found under any collation.
            models.Index(
                fields=["key"],
                name="jobs_key_event",
                condition=Q(key__startswith=PREFIX),
                opclasses=["varchar_pattern_ops"],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.key}"

    def holds(self, *, lives: bool) -> str:
        """How long, in words; `lives`: its job has not ended."""
        if self.until == "finished":
            return "until its job has ended" if lives else "no more: its job has ended"
        if self.expires_at is None:
            return "for good"
        when = date_format(localtime(self.expires_at), "DATETIME_FORMAT")
        return f"until {when}" if self.expires_at > now() else f"no more, since {when}"


class Worker(models.Model):
    """One row for each running `runworkers`; its number is what a running job's `worker` says."""

    class Wish(models.TextChoices):
        """What a person wants of it; its keeper reads this once a second."""

        NONE = "", "work"
        QUIET = "quiet", "take no more jobs"
        STOP = "stop", "finish what runs, then end"

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=200, help_text="host:pid")
    queues = models.TextField(blank=True, default="", help_text="What --queues said; empty is all.")
    slots = models.SmallIntegerField(default=1)
    version = models.CharField(max_length=64, blank=True, default="", db_default="", help_text="Of the worker's code.")
    running = models.TextField(
        blank=True, default="", db_default="", help_text="JSON text: what each slot executes, as of the heartbeat."
    )
    wish = models.CharField(max_length=5, choices=Wish.choices, blank=True, default="", db_default="")
    started_at = models.DateTimeField(db_default=Now())
    heartbeat_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "worker"
        default_permissions = ()
        permissions = [("control_worker", "Can quiet and stop workers")]

    def __str__(self) -> str:
        return f"{self.id} {self.name}"
