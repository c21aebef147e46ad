"""What an idempotency key comes to: the id that every caller with the same task and key computes.

A plain key takes no look at anything. A key that holds for a window, or until its job has ended, is read once, without
a lock: the number of its last generation and whether that still holds. Those who read the same compute the same id,
however many they are, and the gate makes one job of it; nobody waits on anybody. A crash leaves nothing: what is not
accepted was never spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from jobs.conf import jobs_settings
from jobs.envelope import dumps
from jobs.errors import InvalidOption
from jobs.ids import id_for_generation, id_for_key
from outbox.ask import ask

if TYPE_CHECKING:
    from jobs.tasks import Task

# A row says by itself how long it holds, whoever asks: by the database's clock, or as long as its job lives.
HOLDS = """CASE until WHEN 'finished' THEN EXISTS (SELECT 1 FROM jobs_job AS job WHERE job.id = held.id)
  ELSE expires_at > clock_timestamp() END"""

LAST = f"""SELECT asked.key, last.generation, last.holds FROM unnest(%s::text[]) AS asked(key)
CROSS JOIN LATERAL (SELECT generation, {HOLDS} AS holds FROM jobs_key AS held
  WHERE held.task = %s AND held.key = asked.key AND held.generation > 0 ORDER BY generation DESC LIMIT 1) AS last"""


class Identity(NamedTuple):
    """What a key makes of a message."""

    uid: UUID
    header: str
    """Goes on after the task's own headers."""


def identify(task: Task[Any, Any], keys: Sequence[str]) -> list[Identity]:
    """The identity for each key. With a window it reads the database of the queue, once for all of them."""
    if not task.has_window:
        return [Identity(id_for_key(task.name, key), f',"key":{dumps(key)}') for key in keys]
    found = ask(jobs_settings().DATABASE, LAST, (list(set(keys)), task.name))
    last = {key: generation if holds else generation + 1 for key, generation, holds in found}
    holds = f'"unique_for":{task.unique_for!r}' if task.unique_for is not None else f'"until":"{task.until}"'
    return [
        Identity(
            id_for_generation(task.name, key, generation),
            f',"key":{dumps(key)},"generation":{generation},{holds}',
        )
        for key in keys
        for generation in (last.get(key, 1),)
    ]


def require_key(task: Task[Any, Any]) -> None:
    """A window without a key would hold nothing."""
    option = "unique_for" if task.unique_for is not None else "until"
    raise InvalidOption(
        f"{task.name}: {option}= says how long an idempotency key holds, and there is none: give"
        " using(idempotency_key=...), or enqueue_many(..., idempotency_keys=[...])."
    )
