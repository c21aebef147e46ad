"""Jobs in Django admin: one entry, the dashboard, on admin's default site; `register` puts it on any other one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from jobs.conf import jobs_settings
from jobs.edits import Edits
from jobs.forget import forget_keys
from jobs.models import Job, Key
from jobs.replays import Replays
from jobs.schedules import Schedules
from outbox.admin import ReadOnlyAdmin


class JobsAdmin(Edits, Replays, Schedules):
    """The dashboard: see `pages`, `acts`, `edits`, `replays` and `schedules`."""


class KeyAdmin(ReadOnlyAdmin):
    """Idempotency keys, to look up which job a key has become, and to forget one."""

    list_display = ["key", "holds", "task", "job", "accepted_at"]
    fields = ["key", "holds", "task", "job", "accepted_at", "generation"]
    search_fields = ["=id", "=key", "=task"]
    search_help_text = "The key, the dotted name of the task, or the id of the job, each as a whole."
    ordering = ["-accepted_at"]
    actions = ["forget"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset(request)
        lives = Exists(Job.objects.filter(pk=OuterRef("pk")))
        annotated: QuerySet[Any] = queryset.using(jobs_settings().DATABASE).annotate(lives=lives)
        return annotated

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["job", "holds"]

    @admin.display(description="job")
    def job(self, key: Key) -> str:
        address = reverse("admin:jobs_job_change", args=(key.pk,), current_app=self.admin_site.name)
        return format_html('<a href="{}">{}</a>', address, key.pk)

    @admin.display(description="holds")
    def holds(self, key: Key) -> str:
        return key.holds(lives=bool(getattr(key, "lives", False)))

    @admin.action(
        description="Forget the selected keys (an ended job of a plain key is discarded with it)",
        permissions=["forget"],
    )
    def forget(self, request: HttpRequest, queryset: QuerySet[Key]) -> None:
        keys = {key.pk: key for key in queryset}
        done, living = forget_keys(keys)
        for each in done:
            self.log_change(request, keys[each], "Forgotten: the next enqueue with it is a new job.")
        messages.success(request, f"{len(done)} keys are forgotten.")
        if living:
            messages.warning(
                request, f"{living} are left alone: their job has not ended, and a new one would have the same id."
            )

    def has_forget_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jobs.forget_key")


def register(site: admin.AdminSite) -> None:
    """Put the dashboard on an AdminSite: one of your own that is not admin's default."""
    site.register(Job, JobsAdmin)
    site.register(Key, KeyAdmin)


register(admin.site)
