"""`{% load background %}`: work is moved to the background where it is thought of, also in a template."""

from __future__ import annotations

from django import template

from jobs.tag import do_background

register = template.Library()
register.tag("background", do_background)
