"""Jobs in Django admin: everything a person may want to see, read-only."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobs.conf import PRIORITIES, jobs_settings
from jobs.models import Attempt, FinishedJob, Job, Key, Worker
from outbox.admin import ReadOnlyAdmin
from outbox.text import clean

ATTEMPT = '<details open><summary>{} {}: {}, {}</summary><p>{}</p><pre style="white-space:pre-wrap">{}</pre></details>'
HIDDEN = "hidden: you lack the permission to see arguments and results"


class QueueAdmin(ReadOnlyAdmin):
    """Reads from the queue's database, whatever the router says."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset(request)
        return queryset.using(jobs_settings().DATABASE)


class PriorityBand(admin.SimpleListFilter):
    title = "priority"
    parameter_name = "band"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("high", "high (50 and above)"), ("default", "default"), ("low", "low (-50 and below)")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        bounds = {"high": (50, 100), "default": (-49, 49), "low": (-100, -50)}.get(self.value() or "")
        return queryset if bounds is None else queryset.filter(priority__range=bounds)


class JobColumnsAdmin(QueueAdmin):
    """What the two homes of a job show alike."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Up to a megabyte each, and no list shows them; a page reads them when it does.
        return super().get_queryset(request).defer(*self.secret)

    search_help_text = "Job id, source name or task (from the start)."
    list_filter: ClassVar[Any] = ["state", "queue", PriorityBand, "task"]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(pk=UUID(term)), False
        except ValueError:
            return queryset.filter(source_name__startswith=term) | queryset.filter(task__startswith=term), False

    def has_view_arguments(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jobs.view_arguments")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        shown = [name for name in self.shown if self.has_view_arguments(request) or name not in self.told_by]
        return shown if self.has_view_arguments(request) else [*shown, "hidden"]

    shown: ClassVar[list[str]] = []
    secret: ClassVar[tuple[str, ...]] = ("arguments",)
    told_by = ("call", "outcome")

    @admin.display(description="arguments")
    def call(self, job: Job | FinishedJob) -> SafeString:
        return _pretty(job.arguments)

    @admin.display(description="arguments")
    def hidden(self, job: Job | FinishedJob) -> str:
        return HIDDEN

    @admin.display(description="source", ordering="source_name")
    def label(self, job: Job | FinishedJob) -> str:
        return job.label

    @admin.display(description="priority", ordering="priority")
    def band(self, job: Job | FinishedJob) -> str:
        names = {number: name for name, number in PRIORITIES.items() if name != "normal"}
        return names.get(job.priority, str(job.priority))

    @admin.display(description="attempts")
    def tries(self, job: Job | FinishedJob) -> str:
        crashes = f" + {job.crashes} crash{'es' * (job.crashes > 1)}" if job.crashes else ""
        return f"{job.attempts} of {job.max_attempts}{crashes}"

    @admin.display(description="attempts that failed")
    def failures(self, job: Job | FinishedJob) -> SafeString:
        attempts = Attempt.objects.using(jobs_settings().DATABASE).filter(job=job.pk).order_by("lease")
        return format_html_join(
            "",
            ATTEMPT,
            (
                ("attempt", a.number, a.get_kind_display(), a.ended_at.isoformat(" ", "seconds"), a.error, a.traceback)
                for a in attempts
            ),
        ) or format_html("{}", "none")


@admin.register(Job)
class JobAdmin(JobColumnsAdmin):
    list_display = ["id", "state", "label", "queue", "band", "tries", "enqueued_at", "run_after", "worker", "error"]
    ordering = ["-enqueued_at"]
    date_hierarchy = None
    list_filter = ["state", "queue", PriorityBand, ("enqueued_at", admin.DateFieldListFilter), "task"]
    shown = [
        "id", "state", "task", "source_name", "queue", "band", "tries", "call", "enqueued_at", "run_after", "ready_at",
        "claimed_at", "worker", "lease", "parent", "depth", "idempotency_key", "error", "failures",
    ]  # fmt: skip


@admin.register(FinishedJob)
class FinishedJobAdmin(JobColumnsAdmin):
    secret = ("arguments", "result")
    list_display = ["id", "state", "label", "queue", "band", "tries", "ended_at", "took", "error"]
    ordering = ["-ended_at"]
    list_filter = ["state", "queue", PriorityBand, ("ended_at", admin.DateFieldListFilter), "task"]
    shown = [
        "id", "state", "task", "source_name", "queue", "band", "tries", "call", "outcome", "enqueued_at", "run_after",
        "ready_at", "started_at", "ended_at", "took", "worker", "lease", "parent", "depth", "idempotency_key", "error",
        "failures",
    ]  # fmt: skip

    @admin.display(description="took")
    def took(self, job: FinishedJob) -> str:
        return f"{(job.ended_at - job.started_at).total_seconds():.3f} s" if job.started_at else ""

    @admin.display(description="result")
    def outcome(self, job: FinishedJob) -> SafeString:
        return _pretty(job.result) if job.result is not None else format_html("{}", "none")


@admin.register(Attempt)
class AttemptAdmin(QueueAdmin):
    list_display = ["job", "number", "kind", "error", "worker", "started_at", "ended_at"]
    list_filter = ["kind", ("ended_at", admin.DateFieldListFilter)]
    search_fields = ["=job", "error"]
    ordering = ["-id"]


@admin.register(Key)
class KeyAdmin(QueueAdmin):
    list_display = ["key", "task", "id", "accepted_at", "expires_at"]
    search_fields = ["=id", "=key"]
    ordering = ["-accepted_at"]


@admin.register(Worker)
class WorkerAdmin(QueueAdmin):
    list_display = ["id", "name", "slots", "queues", "started_at", "heartbeat_at"]
    ordering = ["id"]


def _pretty(text: str) -> SafeString:
    with suppress(ValueError, RecursionError):
        pretty = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        text = clean(pretty, len(pretty))
    return format_html('<pre style="white-space:pre-wrap;margin:0">{}</pre>', text)
