"""What the recipes keep."""

from __future__ import annotations

from django.db import models


class Points(models.Model):
    """What a customer has collected."""

    email = models.EmailField(primary_key=True)
    points = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "points"

    def __str__(self) -> str:
        return f"{self.email}: {self.points}"
