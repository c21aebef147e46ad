"""The outbox's verbs on SQLite: each a few plain statements in the transaction of its caller."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from outbox import relay, write
from outbox.lite.book import Do, Row, said, verb

# The default of the column would give milliseconds only.
said(write.INSERT, "INSERT INTO outbox_message (uid, headers, body, written_at) VALUES (%s, %s, %s, clock_timestamp())")


@verb(relay.MOVE)
def move(do: Do, params: Sequence[Any]) -> list[Row]:
    """The transaction is the only one that writes, so nobody else can have these. A column may hold anything here: what
    is no time or no id gets one, or it could not even be set aside."""
    rows = do(
        """DELETE FROM outbox_message WHERE id IN (SELECT id FROM outbox_message WHERE id > %s ORDER BY id LIMIT %s)
        RETURNING id, uid, headers, body,
          greatest(least(written_at, '9998-01-01 00:00:00'), '0002-01-01 00:00:00') AS written_at""",
        params,
    )
    return [
        (
            number,
            uid if isinstance(uid, UUID) else UUID(int=number),
            str(headers),
            str(body),
            at if isinstance(at, datetime) else datetime.now(UTC),
        )
        for number, uid, headers, body, at in rows
    ]


SET_ASIDE = f"""{relay.SET_ASIDE.partition(" (")[0]} (uid, headers, body, written_at, error, set_aside_at)
SELECT uid, headers, body, written_at, error, clock_timestamp()
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::timestamptz[], %s::text[])
  AS refused(uid, headers, body, written_at, error)"""

said(relay.SET_ASIDE, SET_ASIDE)


@verb(relay.REPLAY)
def replay(do: Do, params: Sequence[Any]) -> list[Row]:
    back = do(
        """DELETE FROM outbox_setasidemessage WHERE id = ANY(%s::bigint[])
        RETURNING uid, headers, body, written_at""",
        params,
    )
    for row in back:
        do("INSERT INTO outbox_message (uid, headers, body, written_at) VALUES (%s, %s, %s, %s)", row)
    return [row[:1] for row in back]
