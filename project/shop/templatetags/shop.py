"""How the shop's pages and letters show things."""

from __future__ import annotations

from django import template

from jobs.context import current

register = template.Library()


@register.filter
def money(cents: int) -> str:
    """Cents as euros."""
    return f"€\u2009{cents / 100:,.2f}"


@register.simple_tag
def note_look(slug: str) -> str:
    """Somebody has looked at a product: a line in the log of the job. Statistics are nothing to keep a visitor for."""
    job = current.get()
    if job is not None:
        job.log(f"somebody has looked at {slug}")
    return ""
