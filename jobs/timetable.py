"""Schedules: which task is due when, and what has become of the ticks so far.

`next_at` is the whole truth about the future: the tick that nobody has decided yet. Whoever moves it on writes the
jobs of that tick in the same statement, so a tick is decided once however many processes look.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Schedule(models.Model):
    """A task with its arguments, a rhythm, and what to do with ticks that were missed or come too soon."""

    class Missed(models.TextChoices):
        """What becomes of ticks that came while no scheduler ran."""

        ONCE = "once", "one job for all of them"
        SKIP = "skip", "no job"
        ALL = "all", "a job for each"

    class Overlap(models.TextChoices):
        """What becomes of a tick while the last job of the schedule has not ended."""

        ALLOW = "allow", "runs beside it"
        SKIP = "skip", "is skipped"
        QUEUE = "queue", "waits for it to end"

    id = models.UUIDField(primary_key=True, editable=False, help_text="The `parent` of the jobs it makes.")
    name = models.CharField(max_length=200, unique=True)
    task = models.CharField(max_length=200)
    cron = models.CharField(max_length=100, blank=True, default="")
    every = models.DurationField(null=True, blank=True)
    timezone = models.CharField(max_length=64, default="UTC")
    arguments = models.TextField(default='{"args":[],"kwargs":{}}', help_text="JSON text, as a job has them.")
    options = models.TextField(default="{}", help_text="JSON text: what the task's `using` is given.")
    tick_as = models.CharField(
        max_length=100, blank=True, default="", help_text="Keyword argument that is given the time of the tick."
    )
    missed = models.CharField(max_length=4, choices=Missed.choices, default=Missed.ONCE)
    missed_limit = models.IntegerField(default=100, help_text="Most jobs that missed ticks are made up for with.")
    overlap = models.CharField(max_length=5, choices=Overlap.choices, default=Overlap.ALLOW)

    next_at = models.DateTimeField(null=True, blank=True, help_text="The next tick; empty is never again.")
    hold_until = models.DateTimeField(null=True, blank=True, help_text="The tick waits for the last job to end.")
    last_at = models.DateTimeField(null=True, blank=True, help_text="The last tick that became a job.")
    last_job = models.UUIDField(null=True, blank=True)
    made = models.BigIntegerField(default=0, db_default=0, help_text="Jobs made.")
    missed_ticks = models.BigIntegerField(default=0, db_default=0, help_text="No scheduler ran, and none was made up.")
    skipped_ticks = models.BigIntegerField(default=0, db_default=0, help_text="The last job had not ended.")
    passed_at = models.DateTimeField(null=True, blank=True, help_text="When a tick last became no job.")
    trouble = models.CharField(max_length=500, blank=True, default="", db_default="", help_text="Why it cannot be run.")

    paused_at = models.DateTimeField(null=True, blank=True)
    paused_by = models.CharField(max_length=150, blank=True, default="", db_default="")
    pause_reason = models.CharField(max_length=200, blank=True, default="", db_default="")

    declared = models.BooleanField(default=False, db_default=False, help_text="In code, by @every.")
    digest = models.CharField(max_length=16, blank=True, default="", db_default="", help_text="Of what the code says.")
    superseded = models.TextField(
        blank=True, default="", db_default="", help_text="Digests that newer code has replaced."
    )
    declared_at = models.DateTimeField(null=True, blank=True, help_text="When code that says so last ran.")
    orphaned_at = models.DateTimeField(null=True, blank=True, help_text="Since then no running code has it.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        default_permissions = ()
        permissions = [
            ("manage_schedule", "Can create, edit, pause, resume and delete schedules"),
            ("run_schedule", "Can have schedules run now"),
        ]
        constraints = [
            models.CheckConstraint(
                name="jobs_schedule_rhythm",
                condition=Q(cron="", every__isnull=False) | (~Q(cron="") & Q(every__isnull=True)),
            ),
            models.CheckConstraint(name="jobs_schedule_limit", condition=Q(missed_limit__gte=1)),
        ]

    def __str__(self) -> str:
        return self.name
