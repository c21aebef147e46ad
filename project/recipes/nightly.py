"""A nightly report: of a day that is over, so that it is the same whenever it runs."""

from __future__ import annotations

from datetime import date, timedelta

from django.conf import settings
from django.db.models import Count, Sum
from django.utils import timezone

from jobs import task
from project.recipes.letters import send_letter
from project.shop.models import Order


@task(priority="low", max_attempts=3)
def nightly_report(day: str | None = None) -> dict[str, int]:
    """Send what was sold on a day, such as "2026-01-31"; without one, yesterday."""
    of = date.fromisoformat(day) if day else timezone.localdate() - timedelta(days=1)
    sold = Order.objects.filter(placed_at__date=of).aggregate(orders=Count("pk"), revenue=Sum("total", default=0))
    send_letter(settings.REPORTS_TO, f"Sales of {of}", "{orders} orders, {revenue} cents\n".format(**sold))
    return sold
