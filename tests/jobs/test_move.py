"""The mover: whom it tells of what it has moved, and whose turn it is where many have heard of a message."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from jobs.board import ALL_QUEUES, Board, empty
from jobs.conf import JobsSettings
from jobs.duty import Duty
from jobs.intake import CHANNEL
from jobs.models import Job
from jobs.move import EARS, Mover
from outbox.models import Message
from outbox.session import Query, Session
from outbox.wake import CHANNEL as WRITTEN
from tests.factories import MessageFactory
from tests.support.locks import named
from tests.support.observer import listener
from tests.support.wait import wait_until

pytest_plugins = ["tests.support.ours"]


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board(2, 2)
    yield made
    for pipe in (*made.pipes, made.mover_pipe):
        for end in pipe:
            with suppress(OSError):
                os.close(end)


def mover(board: Board, queues: tuple[str, ...] | None = None) -> Mover:
    made = Mover(board, Duty(queues, "", 2, True, False), JobsSettings(SCHEDULES=False))
    made.step()
    return made


@pytest.mark.postgresql("NOTIFY")
@pytest.mark.parametrize(
    ("queues", "idle", "paused", "called"),
    [
        (None, 1, "", False),
        (None, 0, "", True),
        (("mail",), 2, "", True),  # idle, but perhaps not for this queue
        (None, 2, "mail", True),
        (None, 2, ALL_QUEUES, True),
    ],
)
def test_other_workers_are_called_unless_its_own_slots_will_take_it(
    ours: Session, board: Board, queues: tuple[str, ...] | None, idle: int, paused: str, called: bool
) -> None:
    moving = mover(board, queues)
    board.paused = paused
    for slot in board.slots[:idle]:
        slot.idle = True
    MessageFactory()
    moving._woken = True
    with listener(CHANNEL) as heard:
        moving.step()

        assert heard(5 if called else 0.3) == called
    assert Job.objects.count() == 1
    assert sum(empty(pipe[0]) for pipe in board.pipes) == min(idle, 1)
    moving._session.close()


@pytest.mark.postgresql("NOTIFY")
def test_only_the_relays_of_the_eldest_workers_hear_of_each_message(ours: Session, board: Board) -> None:
    moving = mover(board)
    heard = []
    for elders in (0, EARS, EARS - 1):
        board.elders = elders
        moving._wait(0)
        ours.glance(Query(f"NOTIFY {WRITTEN}"))
        heard.append(moving._session.wait(0.3 if elders == EARS else 5))

    assert heard == [True, False, True]
    moving._session.close()


@pytest.mark.parametrize("elders", [0, 1])
def test_whoever_is_not_the_eldest_looks_a_little_later(ours: Session, board: Board, elders: int) -> None:
    moving = mover(board)
    board.elders = elders
    stranger = named("stranger")
    MessageFactory()
    began = time.monotonic()
    stranger.glance(Query(f"NOTIFY {WRITTEN}"))
    wait_until(lambda: moving._wait(0.01) or moving._woken or time.monotonic() - began > 0.2 * elders)

    assert moving._woken is (not elders)  # a younger one asks whether it is still there, before it moves anything
    moving.step()
    assert not Message.objects.exists()
    moving._session.close()
