"""Currency rates: fetched as soon as possible, tried again while the bank does not answer."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.utils import timezone

from jobs import task
from project.recipes.models import Rate
from project.recipes.web import get_json


@task(priority="high", max_attempts=5, timeout=20, retry_on=OSError)
def fetch_rates() -> int:
    """Keep today's rates; returns how many. Done twice it is the same rows."""
    rates = get_json(settings.BANK_URL, timeout=10)["rates"]
    now = timezone.now()
    Rate.objects.bulk_create(
        [Rate(currency=name, per_euro=Decimal(str(rate)), fetched_at=now) for name, rate in rates.items()],
        update_conflicts=True,
        unique_fields=["currency"],
        update_fields=["per_euro", "fetched_at"],
    )
    return len(rates)
