"""How the dashboard says numbers and times: short, and the same everywhere."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django import template
from django.utils import timezone
from django.utils.html import format_html

from jobs.conf import PRIORITIES
from jobs.dashboard.spoken import NOTHING, duration, number, rate, rough

register = template.Library()

for word in (duration, number, rate):
    register.filter(word)


@register.filter
def when(at: Any) -> str:
    """How long ago, or in how long, with the exact time to point at."""
    if not isinstance(at, datetime):
        return NOTHING
    seconds = (timezone.now() - at).total_seconds()
    words = f"{rough(seconds)} ago" if seconds >= 0 else f"in {rough(-seconds)}"
    if abs(seconds) < 0.9:
        words = "now"
    local = timezone.localtime(at)
    exact = local.isoformat(" ", "milliseconds")
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), exact, words)


@register.filter
def clock(at: Any) -> str:
    """The exact time of a day, in the site's time zone."""
    if not isinstance(at, datetime):
        return NOTHING
    local = timezone.localtime(at)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        local.isoformat(" ", "milliseconds"),
        f"{local:%H:%M:%S}.{local.microsecond // 1000:03}",
    )


@register.filter
def wall(at: Any, zone: str) -> str:
    """What the clock on the wall says in that zone; the year where it is another one."""
    if not isinstance(at, datetime):
        return NOTHING
    try:
        local = at.astimezone(ZoneInfo(zone))
    except (KeyError, ValueError, OSError):
        local = timezone.localtime(at)
    text = f"{local:%a} {local.day} {local:%b}{f' {local.year}' if local.year != timezone.now().year else ''}"
    text += f" {local:%H:%M:%S}" if local.second else f" {local:%H:%M}"
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), local.isoformat(" "), text)


@register.filter
def percent(share: Any) -> str:
    value = float(share or 0) * 100
    return "0 %" if not value else f"{value:.2g} %" if value < 10 else f"{value:.0f} %"


@register.filter
def priority(value: int) -> str:
    """Its name where it has one."""
    names = {number: name for name, number in PRIORITIES.items() if name != "normal"}
    return names.get(value, str(value))


@register.filter
def level(value: int) -> str:
    """The name of a log level."""
    return logging.getLevelName(value).lower() if value in (10, 20, 30, 40, 50) else str(value)


@register.filter
def short(value: Any) -> str:
    """The end of an id: its start is the time, which its neighbours share."""
    return f"…{str(value)[-8:]}"


@register.simple_tag
def query(**given: Any) -> str:
    """A query string of what is not empty."""
    return urlencode({name: value for name, value in given.items() if value})
