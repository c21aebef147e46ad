"""A library that has a filter and a tag by the names of the shop's."""

from __future__ import annotations

from django import template

register = template.Library()


@register.filter
def money(cents: int) -> str:
    return f"{cents} coins"


@register.simple_tag
def note_look(slug: str) -> str:
    return f"looked at {slug}"
