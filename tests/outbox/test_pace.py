"""The pace of a relay: large steps for itself, small ones with rests while others write."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from outbox import relay
from outbox.models import Message
from outbox.pace import FEW, FROM_THE_START, LOOK_EVERY, Pace
from outbox.relay import Moved
from outbox.session import Session
from tests.factories import MessageFactory
from tests.support.committing import _django_db_helper, on_default  # noqa: F401

pytestmark = on_default

Play = Callable[..., int]


@pytest.fixture
def rests() -> list[float]:
    return []


@pytest.fixture
def starts() -> list[int]:
    return []


@pytest.fixture
def play(session: Session, monkeypatch: pytest.MonkeyPatch, rests: list[float], starts: list[int]) -> Play:
    """Play a step that takes a tenth of a second and finds `left` messages while so many `come`; the size it had."""
    clock = [100.0]
    sizes: list[int] = []
    monkeypatch.setattr("outbox.pace.time", SimpleNamespace(monotonic=lambda: clock[0], sleep=rests.append))

    def step(_: Session, __: object, batch: int, ___: object, after: int) -> Moved:
        clock[0] += 2 * LOOK_EVERY
        sizes.append(batch)
        starts.append(after)
        return Moved(min(batch, left[0]), 0, last=len(sizes))

    left = [0]
    monkeypatch.setattr(relay, "step", step)

    def play(pace: Pace, *, come: int = 0, there: int = 10**6) -> int:
        left[0] = there
        if come:
            newest = Message.objects.order_by("-id").values_list("id", flat=True).first() or 0
            MessageFactory(id=newest + come)
        moved, full = pace.step(session)
        assert full is (moved.total == sizes[-1] or starts[-1] > 0)
        return sizes[-1]

    return play


def test_a_backlog_is_moved_in_large_steps_while_nobody_writes(play: Play, rests: list[float]) -> None:
    MessageFactory()
    pace = Pace(1000)

    assert [play(pace) for _ in range(4)] == [1000] * 4
    assert not rests


@pytest.mark.parametrize(("come", "expected"), [(1, FEW), (499, FEW), (500, 1000), (5000, 1000)])
def test_steps_are_small_while_others_write_less_than_these_can_take(
    play: Play, rests: list[float], come: int, expected: int
) -> None:
    MessageFactory()
    pace = Pace(1000)
    play(pace)
    play(pace, come=come)

    assert play(pace) == expected
    assert rests == ([pytest.approx(2 * LOOK_EVERY)] if expected == FEW else [])


def test_small_steps_become_large_when_others_have_ended_or_write_too_much(play: Play) -> None:
    MessageFactory()
    pace = Pace(1000)
    come = (0, 5, FEW // 2, 5, 0, 0)

    assert [play(pace, come=n) for n in come] == [1000, 1000, FEW, 1000, FEW, 1000]


def test_at_the_end_of_a_backlog_everything_starts_again(play: Play) -> None:
    MessageFactory()
    pace = Pace(1000)
    play(pace)
    play(pace, come=5)

    assert play(pace, there=FEW - 1) == FEW
    assert play(pace, come=5) == 1000, "what came before is not counted"
    assert play(pace) == 1000


def test_steps_are_never_larger_than_the_setting_says(play: Play) -> None:
    MessageFactory()
    pace = Pace(7)

    assert [play(pace, come=1) for _ in range(4)] == [7] * 4


def test_full_steps_go_on_where_the_last_one_ended_but_one_in_ten(play: Play, starts: list[int]) -> None:
    """For what is dead lies in front as long as anybody holds a snapshot; and a low number may be committed late."""
    MessageFactory()
    pace = Pace(1000)
    for _ in range(2 * FROM_THE_START + 1):
        play(pace)
    play(pace, there=3)
    play(pace, there=3)

    again = [0, *range(FROM_THE_START + 1, 2 * FROM_THE_START)]
    assert starts == [*range(FROM_THE_START), *again, 0, 2 * FROM_THE_START + 1, 0]


def test_a_message_that_is_committed_late_is_found(session: Session) -> None:
    for _ in range(8):
        MessageFactory()
    late = min(Message.objects.values_list("id", flat=True)) - 1
    pace = Pace(2)
    pace.step(session)
    MessageFactory(id=late)

    moved = []
    while (step := pace.step(session))[1]:
        moved.append(step[0].total)
    assert not Message.objects.exists()
    assert sum(moved) + step[0].total == 7


def test_what_it_moves_are_messages(session: Session) -> None:
    for _ in range(5):
        MessageFactory()
    pace = Pace(3)

    assert [pace.step(session) for _ in range(3)] == [(Moved(3, 0), True), (Moved(2, 0), True), (Moved(0, 0), False)]
