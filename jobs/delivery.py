"""Which event a job was made for: it stands in the job's idempotency key, so no job pays for it with a column.

    event:0192f1c0-…:order.created           the job that the event caused, one for each consumer
    event:0192f1c0-…:order.created#fix-4711  the one of a repetition that a person has asked for, by its name

The key is what makes a delivery happen once: publishing, giving the past and repeating all meet in it.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from uuid import UUID

PREFIX = "event:"

EVENT_TYPE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}\Z")
REPETITION = re.compile(r"[A-Za-z0-9_.\-]{1,40}\Z")

KEY = re.compile(
    r"event:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):([A-Za-z0-9_.\-]{1,100})(?:#([A-Za-z0-9_.\-]{1,40}))?\Z"
)


class Delivery(NamedTuple):
    """An event on its way to a consumer."""

    event_id: UUID
    event_type: str
    again: str = ""
    """Name of the repetition; empty for the first time."""

    @property
    def key(self) -> str:
        return f"{PREFIX}{self.event_id}:{self.event_type}{f'#{self.again}' if self.again else ''}"


def delivery_of(key: str) -> Delivery | None:
    """The delivery that a key stands for; None for any other key."""
    if not key.startswith(PREFIX) or (match := KEY.match(key)) is None:
        return None
    return Delivery(UUID(match[1]), match[2], match[3] or "")
