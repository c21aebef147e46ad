"""The log of events: what has happened, kept whether anybody consumed it or not.

A row is written by `publish` in the business transaction and never changed; retention takes it away. Which jobs it
caused stands in their idempotency keys (see `delivery`), not here.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Event(models.Model):
    """Something that has happened, once it is committed."""

    id = models.UUIDField(primary_key=True, editable=False)
    type = models.CharField(max_length=100)
    payload = models.TextField(help_text="JSON text: an object, as it was published.")
    published_at = models.DateTimeField(db_default=Now(), help_text="Database time of the INSERT.")
    origin = models.CharField(
        max_length=300, blank=True, default="", db_default="", help_text="The request and the user it came from."
    )
    parent = models.UUIDField(null=True, blank=True, help_text="The job that published it.")

    class Meta:
        verbose_name = "event"
        default_permissions = ()
        permissions = [("replay_event", "Can give events to their consumers again")]
        indexes = [
            models.Index(fields=["published_at", "id"], name="jobs_event_at"),
            models.Index(fields=["type", "published_at", "id"], name="jobs_event_type"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"
