"""The keeper: what it looks at, how often, and whom it believes."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from jobs import operate
from jobs.board import ALL_QUEUES, Board, empty
from jobs.conf import JobsSettings
from jobs.duty import Duty, turn
from jobs.intake import CHANNEL
from jobs.keeper import Keeper
from jobs.models import Attempt, Job, Worker
from jobs.outcome import Happened
from jobs.verdict import Channel, Fated, Verdict, to_message
from outbox.session import Query, Session
from tests.factories import JobFactory
from tests.support.floor import column, fill, value
from tests.support.locks import named
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


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair()
    yield pair
    for end in pair:
        end.close()


@pytest.fixture
def supervisor(ends: tuple[socket.socket, socket.socket]) -> Channel:
    return Channel(ends[0])


@pytest.fixture
def keeper(
    ours: Session, board: Board, ends: tuple[socket.socket, socket.socket], supervisor: Channel
) -> Iterator[Keeper]:
    """Registered, told of all verdicts, and with everything due."""
    made = Keeper(board, Channel(ends[1]), Duty(("default", "mail"), "default, mail", 2, True, False), JobsSettings())
    supervisor.send({"told": True})
    made.step()
    yield made
    made._session.close()


def everything_due(keeper: Keeper) -> None:
    keeper._sweep_at = keeper._orders_at = keeper._peek_at = 0.0


def look(keeper: Keeper) -> None:
    everything_due(keeper)
    keeper._look(time.monotonic(), [slot.claimer for slot in keeper._board.slots], keeper._board.in_hands())


def test_a_look_does_everything(ours: Session, keeper: Keeper, board: Board) -> None:
    lost = JobFactory(running=True, worker=board.worker, claimer=99)
    fill(ours, 1, queue="mail")
    operate.pause("default")
    board.slots[1].idle = True

    look(keeper)

    lost.refresh_from_db()
    assert lost.state == "ready"
    assert board.paused == "default"
    assert empty(board.pipes[1][0])
    assert empty(board.mover_pipe[0])


def test_a_look_is_one_transaction(keeper: Keeper, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.slots[0].idle = True
    asked: list[list[Query]] = []
    run_all = keeper._session.run_all
    monkeypatch.setattr(
        keeper._session, "run_all", lambda queries, **how: asked.append(list(queries)) or run_all(queries, **how)
    )

    look(keeper)

    assert [len(queries) for queries in asked] == [3]
    assert min(keeper._sweep_at, keeper._orders_at, keeper._peek_at) > time.monotonic() + 0.5


def test_a_slot_that_claims_while_the_keeper_looks_keeps_its_job(ours: Session, keeper: Keeper, board: Board) -> None:
    """The board was read before a slot came back to life, took a number and claimed under it."""
    job = JobFactory(running=True, worker=board.worker, claimer=12)
    everything_due(keeper)
    board.slots[0].claimer = 12

    keeper._look(time.monotonic(), [11], [])

    job.refresh_from_db()
    assert (job.state, job.claimer) == ("running", 12)


def test_a_slot_that_comes_and_goes_while_the_keeper_looks_is_judged_and_not_swept(
    ours: Session, keeper: Keeper, board: Board, supervisor: Channel
) -> None:
    """That it crashed must not be forgotten: for an at_most_once job this would be a second run."""
    job = JobFactory(running=True, worker=board.worker, claimer=12, max_attempts=3)
    fate = Fated(str(job.id), job.lease, 12, Happened.CRASHED, 1.0, "its process died")
    supervisor.send(to_message(Verdict(1, "jobs-slot-none", [fate])))
    everything_due(keeper)

    keeper._look(time.monotonic(), [11], [])  # it was not on the board yet, and is not any more
    assert column(ours, "SELECT state FROM jobs_job") == ["running"]

    keeper._carry_out()
    assert Job.objects.values_list("state", "crashes").get() == ("ready", 1)
    assert Attempt.objects.get().kind == "crashed"


@pytest.mark.postgresql("LOCK TABLE")
def test_it_beats_although_nobody_gets_at_the_jobs(ours: Session, keeper: Keeper, board: Board) -> None:
    keeper._beat()
    Worker.objects.update(heartbeat_at="2026-01-01T00:00:00Z")
    locking = named("locking")
    with locking.transaction(durable=False, pipelined=False) as connection:
        connection.execute("LOCK TABLE jobs_job IN ACCESS EXCLUSIVE MODE")
        keeper._beat()

    assert value(ours, "SELECT heartbeat_at > now() - interval '1 minute' FROM jobs_worker")


@pytest.mark.postgresql("NOTIFY, which says whose it was")
def test_the_notifications_of_its_own_relay_and_slots_say_nothing_new(keeper: Keeper, board: Board) -> None:
    relay, slot, stranger = named("relay"), named("slot"), named("stranger")
    for session in (relay, slot, stranger):
        session.glance(Query("SELECT 1"))
    board.relay.backend, board.slots[1].backend = relay.backend, slot.backend
    before = keeper._peek_at
    assert before > 0

    for session in (relay, slot):
        session.glance(Query(f"NOTIFY {CHANNEL}"))
        keeper._wait(0.2)
    assert keeper._peek_at == before

    stranger.glance(Query(f"NOTIFY {CHANNEL}"))
    wait_until(lambda: keeper._wait(0.05) or keeper._peek_at < before)
    assert keeper._peek_at <= time.monotonic()


@pytest.mark.postgresql("NOTIFY")
def test_a_younger_worker_lets_its_elders_go_first(ours: Session, keeper: Keeper, board: Board) -> None:
    """All of them hear of a job; if all came at once, twenty would be in the way of the one who gets it."""
    keeper._beat()
    assert board.elders == 0
    register = Query("INSERT INTO jobs_worker (id, name, queues, slots) VALUES (-%s, 'elder', '', 1)")
    for number in (1, 2):
        ours.run(register._replace(params=(number,)))

    keeper._beat()
    ours.glance(Query(f"NOTIFY {CHANNEL}"))
    before = keeper._peek_at
    wait_until(lambda: keeper._wait(0.05) or keeper._peek_at < before)

    assert board.elders == 2
    assert 0.0 < turn(board.elders) - turn(board.elders - 1) < turn(board.elders) <= turn(1000) < 0.1
    assert time.monotonic() < keeper._peek_at + 0.5


@pytest.mark.parametrize(
    ("paused", "asked"), [("", ["default", "mail"]), ("mail", ["default"]), ("default\nmail", None), (ALL_QUEUES, None)]
)
def test_slots_are_not_woken_for_what_is_paused(
    ours: Session, keeper: Keeper, board: Board, paused: str, asked: list[str] | None
) -> None:
    board.slots[0].idle = True
    board.paused = paused

    query = keeper._peek()

    assert (None if query is None else query.params[0]) == asked


def test_with_nobody_idle_it_does_not_count_what_is_ready(keeper: Keeper) -> None:
    assert keeper._peek() is None


def test_a_retry_after_a_verdict_is_known_to_the_mover(ours: Session, keeper: Keeper, board: Board) -> None:
    job = JobFactory(running=True, worker=board.worker, claimer=12, max_attempts=3)
    empty(board.mover_pipe[0])
    keeper._verdicts.append(
        Verdict(1, "a slot that is dead", [Fated(str(job.id), job.lease, 12, "timed_out", 1.0, "late")])
    )

    keeper._carry_out()

    assert column(ours, "SELECT state FROM jobs_job") == ["retrying"]
    assert Job.objects.get().run_after is not None
    assert empty(board.mover_pipe[0])
