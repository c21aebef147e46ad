"""How the shop's pages and letters show things."""

from __future__ import annotations

from django import template

register = template.Library()


@register.filter
def money(cents: int) -> str:
    """Cents as euros."""
    return f"€\u2009{cents / 100:,.2f}"
