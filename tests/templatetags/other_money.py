"""A library that has a filter by the same name as the shop's."""

from __future__ import annotations

from django import template

register = template.Library()


@register.filter
def money(cents: int) -> str:
    return f"{cents} coins"
