"""The pace of a relay: large steps for itself, small ones while others write."""

from __future__ import annotations

import pytest

from outbox.models import Message
from outbox.pace import FEW, LOOK_EVERY, Pace
from outbox.session import Session
from tests.factories import MessageFactory
from tests.support.committing import _django_db_helper, on_default  # noqa: F401

pytestmark = on_default


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("outbox.pace.time", made)
    return made


def after(pace: Pace, session: Session, clock: Clock, *, come: int, moved: int) -> int:
    """The next step's size once so many have come while a full step has moved so many."""
    clock.now += 1.01 * LOOK_EVERY
    if come:
        newest = Message.objects.order_by("-id").values_list("id", flat=True).first() or 0
        MessageFactory(id=newest + come)
    assert pace.moved(session, moved)
    return pace.batch


def test_a_backlog_is_moved_in_large_steps_while_nobody_writes(session: Session, clock: Clock) -> None:
    MessageFactory()
    pace = Pace(1000)

    assert [after(pace, session, clock, come=0, moved=1000) for _ in range(3)] == [1000] * 3


@pytest.mark.parametrize(("come", "expected"), [(1, FEW), (499, FEW), (500, 1000), (5000, 1000)])
def test_steps_are_small_while_others_write_less_than_these_can_take(
    session: Session, clock: Clock, come: int, expected: int
) -> None:
    MessageFactory()
    pace = Pace(1000)
    after(pace, session, clock, come=0, moved=1000)

    assert after(pace, session, clock, come=come, moved=1000) == expected


def test_small_steps_become_large_when_others_have_ended_or_write_too_much(session: Session, clock: Clock) -> None:
    MessageFactory()
    pace = Pace(1000)
    after(pace, session, clock, come=0, moved=1000)
    assert after(pace, session, clock, come=5, moved=1000) == FEW

    assert after(pace, session, clock, come=FEW // 2 + 1, moved=FEW) == 1000
    assert after(pace, session, clock, come=5, moved=1000) == FEW
    assert after(pace, session, clock, come=0, moved=FEW) == 1000


def test_at_the_end_of_a_backlog_everything_starts_again(session: Session, clock: Clock) -> None:
    MessageFactory()
    pace = Pace(1000)
    after(pace, session, clock, come=0, moved=1000)
    assert after(pace, session, clock, come=5, moved=1000) == FEW

    assert not pace.moved(session, FEW - 1)
    assert pace.batch == 1000
    assert after(pace, session, clock, come=0, moved=1000) == 1000, "what came before is not counted"


def test_steps_are_never_larger_than_the_setting_says(session: Session, clock: Clock) -> None:
    MessageFactory()
    pace = Pace(7)
    after(pace, session, clock, come=0, moved=7)

    assert after(pace, session, clock, come=1, moved=7) == 7


def test_between_two_looks_the_database_is_not_asked(session: Session, clock: Clock) -> None:
    pace = Pace(1000)
    assert after(pace, session, clock, come=1, moved=1000) == 1000
    session.close()

    assert pace.moved(session, 1000)
    assert not session.connected
