"""The keeper between two looks: whoever has come or gone in the meantime is neither rescued nor robbed of a verdict."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from jobs import keeper as keepers
from jobs.board import Board
from jobs.conf import JobsSettings
from jobs.keeper import Duty, Keeper
from jobs.models import Attempt, Job
from jobs.outcome import Happened
from jobs.verdict import Channel, Fated, Verdict, to_message
from outbox.session import Session
from tests.support.floor import claim, fill

pytest_plugins = ["tests.support.ours"]

SETTINGS = JobsSettings()


class Desk(NamedTuple):
    """A keeper, and what the supervisor and a slot have of it."""

    keeper: Keeper
    board: Board
    supervisor: Channel


@pytest.fixture
def desk(ours: Session) -> Iterator[Desk]:
    mine, theirs = socket.socketpair()
    board = Board(1, 2)
    supervisor = Channel(mine)
    keeper = Keeper(board, Channel(theirs), Duty(None, "", 1, relays=False, burst=False), SETTINGS)
    supervisor.send({"told": True})
    yield Desk(keeper, board, supervisor)
    keeper._session.close()
    supervisor.close()
    theirs.close()


def before_the_rows_are_read(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Have something happen after the keeper has looked at the board, once: its statements may take their time."""
    sweep, left = keepers.hand_back_left_over, [happens]

    def late(*given: object) -> int:
        if left:
            left.pop()()
        return sweep(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(keepers, "hand_back_left_over", late)


def test_what_a_slot_has_claimed_since_the_keeper_looked_is_its_own(
    ours: Session, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ours, 3)

    def a_new_slot_claims() -> None:
        desk.board.slots[0].claimer = 77
        assert len(claim(ours, 3, worker=desk.board.worker, claimer=77)) == 3

    before_the_rows_are_read(monkeypatch, a_new_slot_claims)
    desk.keeper.step()

    assert set(Job.objects.values_list("state", "claimer", "lease")) == {("running", 77, 1)}


def test_whoever_has_died_since_the_keeper_looked_is_judged_and_not_swept(
    ours: Session, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came and went between two looks; that it crashed must not be forgotten."""
    fill(ours, 1)

    def a_slot_comes_and_goes() -> None:
        desk.board.slots[0].claimer = 77
        (job,) = claim(ours, 1, worker=desk.board.worker, claimer=77)
        fate = Fated(str(job.id), job.lease, job.claimer, Happened.CRASHED, 0.1, "its process died")
        desk.supervisor.send(to_message(Verdict(1, "jobs-slot-none", [fate])))
        desk.board.slots[0].clear()

    before_the_rows_are_read(monkeypatch, a_slot_comes_and_goes)
    desk.keeper.step()
    assert set(Job.objects.values_list("state", "claimer")) == {("running", 77)}

    desk.keeper.step()
    assert set(Job.objects.values_list("state", "crashes")) == {("ready", 1)}
    assert Attempt.objects.get().kind == "crashed"


def test_what_no_slot_has_goes_back(ours: Session, desk: Desk) -> None:
    desk.board.slots[0].claimer = 78
    desk.keeper.step()
    fill(ours, 2)
    claim(ours, 2, worker=desk.board.worker, claimer=77)

    desk.keeper._sweep_at = 0.0
    desk.keeper.step()

    assert set(Job.objects.values_list("state", "crashes")) == {("ready", 0)}
