"""Job ids: made by the caller, known before the INSERT, never changed."""

from __future__ import annotations

import sys
from uuid import UUID, uuid5

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils.compat import uuid7

KEYS = UUID("6b7f2e0c-5d0a-5f0e-9a63-2f6f0f1c7a11")
GENERATIONS = UUID("0c0a3f5e-61d4-5b1c-8f2e-8a5f4f0e3b27")


def new_id() -> UUID:
    """A UUIDv7: it starts with the time, so new rows lie together at the end of an index."""
    return uuid7()


def id_for_key(task_name: str, key: str) -> UUID:
    """The id of a keyed job: every caller with the same task and key computes the same one, without a lock."""
    return uuid5(KEYS, f"{task_name}\n{key}")


def id_for_generation(task_name: str, key: str, generation: int) -> UUID:
    """The same for a key that holds only for a time, and then begins anew: `generation` counts from 1."""
    return uuid5(GENERATIONS, f"{generation}\n{task_name}\n{key}")
