"""Events given again, on SQLite: the probe of the keys is a plain join, and the planner needs no advice."""

from __future__ import annotations

from jobs import replay
from outbox.lite.book import nothing, said

HAD = """LEFT JOIN jobs_key AS had ON had.task = consumer.task
  AND had.key = 'event:' || dashed(event.id) || ':' || event.type || %s"""

said(replay.PAIRS, replay.PAIRS.replace(replay.HAD, HAD), template=True)
said(replay.COUNT, replay.COUNT.replace(replay.HAD, HAD), template=True)

nothing(replay.WALK, replay.AS_BEFORE)
