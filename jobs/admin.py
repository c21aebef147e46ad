"""Jobs in Django admin: one entry, the dashboard, on admin's default site; `register` puts it on any other one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from jobs.conf import jobs_settings
from jobs.edits import Edits
from jobs.models import Job, Key
from jobs.replays import Replays
from outbox.admin import ReadOnlyAdmin


class JobsAdmin(Edits, Replays):
    """The dashboard: see `pages`, `acts`, `edits` and `replays`."""


class KeyAdmin(ReadOnlyAdmin):
    """Idempotency keys, to look up which job a key has become."""

    list_display = ["key", "task", "id", "accepted_at", "expires_at"]
    search_fields = ["=id", "=key"]
    ordering = ["-accepted_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset(request)
        return queryset.using(jobs_settings().DATABASE)


def register(site: admin.AdminSite) -> None:
    """Put the dashboard on an AdminSite: one of your own that is not admin's default."""
    site.register(Job, JobsAdmin)
    site.register(Key, KeyAdmin)


register(admin.site)
