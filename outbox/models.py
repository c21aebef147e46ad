"""What is true in the outbox: two tables, and a message is in exactly one of them until it is delivered.

Neither table has an index besides its own number. Requests that write at the same time therefore never wait on one
another, and the message's `uid` is a plain column: it is made by the caller and known before the INSERT.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Envelope(models.Model):
    """The columns that a message carries wherever it is."""

    uid = models.UUIDField(help_text="Made by the writer and known before the commit; a job keeps it as its id.")
    headers = models.TextField(help_text="JSON object: where the message goes and under which conditions.")
    body = models.TextField(help_text="JSON text, passed on as it is, byte for byte.")
    written_at = models.DateTimeField(db_default=Now(), help_text="Database time of the INSERT.")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return str(self.uid)


class Message(Envelope):
    """Written and committed, not yet delivered: it lives for milliseconds while a relay runs."""

    id = models.BigAutoField(primary_key=True)

    class Meta:
        verbose_name = "message"
        permissions = [
            ("replay_message", "Can deliver set-aside messages again, or discard them"),
            ("view_body", "Can see what messages carry"),
        ]


class SetAsideMessage(Envelope):
    """It could not be delivered. A person replays it (it goes back to the outbox) or discards it."""

    id = models.BigAutoField(primary_key=True)
    set_aside_at = models.DateTimeField(db_default=Now())
    error = models.TextField()

    class Meta:
        verbose_name = "set-aside message"
