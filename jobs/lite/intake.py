"""The gate on SQLite: first the keys, then the jobs of those that were won."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobs import background, emit, intake, keys
from outbox.lite.book import Do, Row, said, verb

WIN = f"""INSERT INTO jobs_key (id, task, key, accepted_at, expires_at)
SELECT id, task, key, clock_timestamp(), clock_timestamp() + %s::interval FROM {intake.GIVEN}
WHERE key <> '' ORDER BY id ON CONFLICT (id) DO NOTHING RETURNING id"""

WIN_ALL = f"""INSERT INTO jobs_key (id, task, key, generation, until, accepted_at, expires_at)
SELECT id, task, key, generation, until, clock_timestamp(),
  CASE generation WHEN 0 THEN clock_timestamp() + %s::interval
    ELSE later(clock_timestamp(), coalesce(unique_for, 0)) END
FROM {intake.GIVEN_ALL} WHERE key <> '' ORDER BY id ON CONFLICT (id) DO NOTHING RETURNING id"""

WON = f"WHERE (key = '' OR id = ANY(%s::uuid[])) AND {intake.NOT_ENDED}"


@verb(intake.ACCEPT_KEYED)
def accept_keyed(do: Do, params: Sequence[Any]) -> list[Row]:
    *columns, keep = params
    won = [row[0] for row in do(WIN, [keep, *columns])]
    return do(f"{intake.INSERT} {intake.GIVEN} {WON}", [*columns, won])


@verb(intake.ACCEPT_ALL)
def accept_all(do: Do, params: Sequence[Any]) -> list[Row]:
    *columns, keep = params
    won = [row[0] for row in do(WIN_ALL, [keep, *columns])]
    return do(f"{intake.INSERT_ALL} {intake.GIVEN_ALL} {WON}", [*columns, won])


@verb(intake.ACCEPT_IF, template=True)
def accept_if(do: Do, params: Sequence[Any], guard: str) -> list[Row]:
    """What the guard has written stands, with its jobs, or neither."""
    given = guard.count("%s")
    if not do.as_said(guard, params[:given]):
        return []
    return do(f"{intake.INSERT_ALL} {intake.GIVEN_ALL} WHERE true RETURNING id", params[given:])


LAST = f"""SELECT held.key, held.generation, {keys.HOLDS} AS holds FROM jobs_key AS held
WHERE held.key = ANY(%s::text[]) AND held.task = %s AND held.generation = (
  SELECT max(generation) FROM jobs_key AS other
  WHERE other.task = held.task AND other.key = held.key AND other.generation > 0)"""

said(keys.LAST, LAST)

# The defaults of these columns would give milliseconds only.
PUBLISH = """INSERT INTO jobs_event (id, type, payload, origin, parent, published_at)
VALUES (%s, %s, %s, %s, %s, clock_timestamp())"""

said(emit.INSERT, PUBLISH)

KEEP = background.KEEP.replace(
    "recipe) SELECT %s, %s, %s",
    "recipe, written_at, looked_at, used_at)"
    " SELECT %s, %s, %s, clock_timestamp(), clock_timestamp(), clock_timestamp()",
)

said(background.KEEP, KEEP)
