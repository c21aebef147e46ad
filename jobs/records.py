"""What is kept about jobs beside the jobs: counts, log lines, progress, pauses, blocks of templates, and what people
have done.

None of these rows decides what runs but two: a queue's pause and a cancellation, which the keepers read once a second.
Nothing here refers to a job by a foreign key: the rows of a job go when the job leaves the history.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Stat(models.Model):
    """What one process has counted in a few seconds; `compact` adds rows up to minutes and then to hours."""

    at = models.DateTimeField(db_default=Now(), help_text="When it was written; the start of its time once added up.")
    span = models.SmallIntegerField(default=0, db_default=0, help_text="Seconds it was added up to; 0 is not yet.")
    queue = models.CharField(max_length=64)
    task = models.CharField(max_length=200)
    # Or stale: an outcome that the fence refused, which is counted and is nobody's end.
    outcome = models.CharField(max_length=10, help_text="succeeded, retrying, dead, cancelled or crashed.")
    version = models.CharField(max_length=64, blank=True, default="", help_text="The worker's code.")
    count = models.IntegerField()
    waited = models.FloatField(help_text="Seconds from ready to started, all together.")
    ran = models.FloatField(help_text="Seconds from started to ended, all together.")
    waits = models.TextField(blank=True, default="", help_text="Histogram of the waits: see jobs.histogram.")
    runs = models.TextField(blank=True, default="", help_text="Histogram of the run times.")

    class Meta:
        verbose_name = "count"
        default_permissions = ()
        indexes = [models.Index(fields=["at"], name="jobs_stat_at")]

    def __str__(self) -> str:
        return f"{self.task} {self.outcome} {self.count}"


class LogLine(models.Model):
    """A line that a task has logged, kept with its attempt."""

    job = models.UUIDField()
    lease = models.IntegerField(help_text="Which claim of the job wrote it.")
    number = models.SmallIntegerField(help_text="Which attempt, from 1.")
    at = models.DateTimeField(help_text="By the worker's clock.")
    level = models.SmallIntegerField(help_text="As in `logging`: 20 is INFO, 40 is ERROR.")
    logger = models.CharField(max_length=100, blank=True, default="")
    text = models.TextField()
    task = models.CharField(max_length=200)
    source_name = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        db_table = "jobs_log"
        verbose_name = "log line"
        default_permissions = ()
        indexes = [
            models.Index(fields=["job", "id"], name="jobs_log_job"),
            models.Index(fields=["at"], name="jobs_log_at"),
        ]

    def __str__(self) -> str:
        return self.text


class Progress(models.Model):
    """How far a job says it is. Written at most once a second, fenced."""

    job = models.UUIDField(primary_key=True, editable=False)
    lease = models.IntegerField()
    done = models.FloatField()
    total = models.FloatField(null=True, blank=True, help_text="Empty where nobody knows how much there is.")
    text = models.CharField(max_length=200, blank=True, default="")
    began_at = models.DateTimeField(db_default=Now(), help_text="First word of this attempt: what a rate counts from.")
    at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "progress"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.done:g} of {self.total:g}" if self.total is not None else f"{self.done:g}"


class Queue(models.Model):
    """A queue that a person has paused. One that nobody has ever paused has no row."""

    name = models.CharField(primary_key=True, max_length=64)
    paused_at = models.DateTimeField(db_default=Now())
    until = models.DateTimeField(null=True, blank=True, help_text="It goes on by itself then; empty is never.")
    reason = models.CharField(max_length=200, blank=True, default="")
    by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        verbose_name = "paused queue"
        default_permissions = ()
        permissions = [
            ("pause_queue", "Can pause and resume queues"),
            ("clear_queue", "Can throw out everything that waits in a queue"),
        ]

    def __str__(self) -> str:
        return self.name


class Cancellation(models.Model):
    """A wish: this job shall not run, or not go on. The keepers carry it out and take the row away."""

    job = models.UUIDField(primary_key=True, editable=False)
    reason = models.CharField(max_length=300, blank=True, default="")
    asked_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.job)


class Note(models.Model):
    """What a person has done to a job, and why."""

    job = models.UUIDField()
    at = models.DateTimeField(db_default=Now())
    by = models.CharField(max_length=150, blank=True, default="")
    deed = models.CharField(max_length=20, help_text="requeued, cancelled, edited ...")
    reason = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["job"], name="jobs_note_job")]

    def __str__(self) -> str:
        return f"{self.deed} by {self.by}"


class Block(models.Model):
    """The source of a `{% background %}` block, signed. Jobs name it by its digest.

    The digest is not unique: two requests that write the same block at once never wait for each other, and it does not
    matter which of the rows a worker finds.
    """

    id = models.BigAutoField(primary_key=True)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the recipe.")
    signature = models.CharField(max_length=64, help_text="HMAC of the recipe with SECRET_KEY.")
    recipe = models.TextField(help_text="JSON text: source, libraries, engine, where it stands.")
    written_at = models.DateTimeField(db_default=Now())
    looked_at = models.DateTimeField(db_default=Now(), help_text="When retention last asked who names it.")
    used_at = models.DateTimeField(db_default=Now(), help_text="When a job was last known to name it.")

    class Meta:
        verbose_name = "background block"
        default_permissions = ()
        indexes = [models.Index(fields=["digest"], name="jobs_block_digest")]

    def __str__(self) -> str:
        return self.digest[:12]
