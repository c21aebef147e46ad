"""The relay: move committed messages to their destination, each move one transaction.

It takes rows from the outbox by locking them, never by remembering the last number seen (numbers commit out of
order, and a cursor would skip the late ones). It leaves them where the destination's queries put them. A crash at
any point undoes the move whole: the messages wait for the next relay. Any number of relays work at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple, Protocol
from uuid import UUID

from outbox import faults
from outbox.errors import NoDestination, Undeliverable
from outbox.session import Query, Row, Session
from outbox.text import describe

logger = logging.getLogger("outbox")

# ARRAY(...) with LIMIT is computed once, before the DELETE; `id IN (SELECT ... LIMIT n)` may be planned as a join
# that runs the subquery again for each row and then moves the whole table. ctid is safe here: the subquery holds the
# row locks. Without SKIP LOCKED a second relay would wait for the first instead of taking the next rows. Without the
# bounds a time that Python has no word for could not even be read, and would hold up all the others. The lower bound on
# the number is 0 or steps over what the last step has taken: while anybody holds a snapshot those rows are still there.
MOVE = """DELETE FROM outbox_message WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM outbox_message WHERE id > %s ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING id, uid, headers, body,
  greatest(least(written_at, '9998-01-01 00:00+00'), '0002-01-01 00:00+00') AS written_at"""

SET_ASIDE = """INSERT INTO outbox_setasidemessage (uid, headers, body, written_at, error)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::timestamptz[], %s::text[])"""

REPLAY = """WITH back AS (DELETE FROM outbox_setasidemessage WHERE id = ANY(%s::bigint[])
  RETURNING uid, headers, body, written_at)
INSERT INTO outbox_message (uid, headers, body, written_at) SELECT * FROM back RETURNING uid"""


POISON: tuple[type[Exception], ...] = (*faults.REFUSED, Undeliverable)
"""Something is wrong with a message, not with the database."""


class Fetched(Protocol):
    """A cursor, whichever database's."""

    def fetchall(self) -> list[Row]: ...


class Written(NamedTuple):
    """A message in the relay's hands."""

    id: int
    uid: UUID
    headers: str
    body: str
    written_at: datetime


class Delivery(NamedTuple):
    """What a destination makes of a batch: the queries that take the good messages in, and the bad with the reason."""

    queries: list[Query]
    rejected: list[tuple[Written, str]]
    later: bool = False
    """Some of it is not for now: whoever looks after what falls due should look when."""
    announce: Query | None = None
    """Tells those who take it that something has come; runs last, and not at all where they are told otherwise."""


Deliver = Callable[[list[Written]], Delivery]
"""The seam to the house above. It touches no database itself: its queries run in the relay's transaction."""

_destination: list[Deliver] = []


def deliver_to(destination: Deliver) -> None:
    """Register where messages go. Called once, in `AppConfig.ready()` of the app that takes them."""
    _destination[:] = [destination]


def destination() -> Deliver:
    if not _destination:
        raise NoDestination
    return _destination[0]


@dataclass(frozen=True)
class Moved:
    """What one step did."""

    delivered: int
    set_aside: int
    later: bool = False
    """Some of the delivered is not for now."""
    last: int = field(default=0, compare=False)
    """The highest number among them."""

    @property
    def total(self) -> int:
        return self.delivered + self.set_aside


def step(
    session: Session, deliver: Deliver, batch: int, at_hand: Callable[[], int] = lambda: 0, after: int = 0
) -> Moved:
    """Move up to `batch` messages, of those whose number is above `after`. No more than are `at_hand`, waited for by
    those whom the caller tells himself, are not announced. Raises one of faults.OPERATIONAL when the database is in
    trouble: nothing moved."""
    try:
        try:
            return _move(session, deliver, (after, batch), at_hand)
        except faults.DEADLOCK:  # with a relay that delivers one by one: it has what it needs now
            return _move(session, deliver, (after, batch), at_hand)
    except POISON as error:
        logger.warning("outbox: a batch was refused (%s); delivering its messages one by one", describe(error))
    except faults.ANY:
        raise  # a restart, a full disk, a missing table: nothing is wrong with the messages
    except Exception as error:
        logger.warning("outbox: the destination failed (%s); delivering one by one", describe(error), exc_info=error)
    return _move_singly(session, deliver, (after, batch))


def _move(session: Session, deliver: Deliver, which: tuple[int, int], at_hand: Callable[[], int]) -> Moved:
    """The whole batch in one transaction and two round trips."""
    with session.transaction(durable=False) as connection:
        taken = read(connection.execute(MOVE, which))
        if not taken:
            return Moved(0, 0)
        delivery = deliver(taken)
        for query in delivery.queries:
            connection.execute(query.sql, query.params)
        if delivery.rejected:
            connection.execute(*set_aside(delivery.rejected))
        delivered = len(taken) - len(delivery.rejected)
        if delivery.announce is not None and delivered > at_hand():
            connection.execute(*delivery.announce)
    _tell(delivery.rejected)
    return Moved(delivered, len(delivery.rejected), delivery.later, taken[-1].id)


def _move_singly(session: Session, deliver: Deliver, which: tuple[int, int]) -> Moved:
    """The same with a savepoint around each message, so that the poisoned one fails alone.

    In the order of their ids, which is the order in which a destination takes its locks for a whole batch.
    """
    rejected: list[tuple[Written, str]] = []
    later = False
    announce = None
    with session.transaction(durable=False, pipelined=False) as connection:
        taken = read(connection.execute(MOVE, which))
        for message in sorted(taken, key=attrgetter("uid")):
            try:
                with connection.transaction():
                    delivery = deliver([message])
                    for query in delivery.queries:
                        connection.execute(query.sql, query.params)
                rejected += delivery.rejected
                later = later or delivery.later
                announce = delivery.announce or announce
            except faults.REFUSED as error:
                rejected.append((message, describe(error)))
            except faults.ANY:
                raise
            except Exception as error:
                rejected.append((message, describe(error)))
        if rejected:
            connection.execute(*set_aside(rejected))
        if announce is not None:
            connection.execute(*announce)
    _tell(rejected)
    return Moved(len(taken) - len(rejected), len(rejected), later, taken[-1].id if taken else 0)


def read(cursor: Fetched) -> list[Written]:
    """The rows as messages, eldest first: RETURNING promises no order."""
    return sorted(map(Written._make, cursor.fetchall()))


def set_aside(rejected: Iterable[tuple[Written, str]]) -> Query:
    columns = zip(*((*message[1:], error) for message, error in rejected), strict=True)
    return Query(SET_ASIDE, [list(column) for column in columns])


def replay(ids: list[int]) -> Query:
    """Put set-aside messages back into the outbox; its rows are the ids of those that were there."""
    return Query(REPLAY, (ids,))


def _tell(rejected: list[tuple[Written, str]]) -> None:
    for message, error in rejected:
        logger.error("outbox: message %s (%s) was set aside: %s", message.id, message.uid, error)
