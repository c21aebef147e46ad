"""A table for what the tests' tasks do."""

from __future__ import annotations

from django.db import models


class Effect(models.Model):
    """Something a task did, and for which job."""

    job = models.UUIDField(null=True)
    note = models.CharField(max_length=200)
    made_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.note
