"""Whether there are traces here: one name to look at on a job's way, which is None where there are none.

OpenTelemetry is imported only where it is installed and `JOBS["TRACING"]` is not "off". What it is told stands in
`jobs.spans`; nothing else of this package knows it.
"""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

from jobs.conf import jobs_settings

if TYPE_CHECKING:
    from jobs.spans import Spans

spans: Spans | None = None
"""What makes spans in this process; None where nothing does."""

TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def begin() -> None:
    """Make spans from now on, or no more: as it is installed and set."""
    global spans
    spans = None
    style = jobs_settings().TRACING
    if style in ("parent", "link") and installed():
        from jobs.spans import Spans

        spans = Spans(style)


def installed() -> bool:
    """Whether OpenTelemetry's API is there, without an import of it."""
    try:
        return find_spec("opentelemetry.trace") is not None
    except (ImportError, ValueError):  # no package of that name, or somebody else's
        return False


def trace_id(text: str | None) -> str:
    """The trace in what a job carries, as W3C writes it: 32 hex digits; empty where there is none."""
    try:
        found = TRACEPARENT.match(json.loads(text or "{}").get("traceparent", ""))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return ""
    return found["trace"] if found else ""
