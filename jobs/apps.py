"""Joins the two houses: tasks are discovered, and the gate is registered with the relay."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = "Jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from jobs import advice, background, checks, consume, trace  # noqa: F401  registers them
        from jobs.early import catch_up
        from jobs.intake import accept
        from outbox.lite.book import also
        from outbox.relay import deliver_to

        deliver_to(accept)
        trace.begin()
        also("jobs.lite")
        catch_up()
        autodiscover_modules("tasks", "consumers")
