"""What the recipes keep."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Rate(models.Model):
    """What one euro is worth in another currency."""

    currency = models.CharField(max_length=3, primary_key=True)
    per_euro = models.DecimalField(max_digits=12, decimal_places=6)
    fetched_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.per_euro} {self.currency}"


class Points(models.Model):
    """What a customer has collected."""

    email = models.EmailField(primary_key=True)
    points = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "points"

    def __str__(self) -> str:
        return f"{self.email}: {self.points}"
