"""The business of the scorecard: orders that commit together with their jobs, and what tasks write."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """A business row whose job is enqueued in the same transaction."""

    number = models.BigIntegerField()
    job = models.UUIDField()

    def __str__(self) -> str:
        return str(self.number)


class Effect(models.Model):
    """Something a task wrote in a table."""

    number = models.BigIntegerField()

    def __str__(self) -> str:
        return str(self.number)
