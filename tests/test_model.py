"""All interleavings of two workers, a rescuer and an operator in a small model; and the model beside the statements."""

from __future__ import annotations

from uuid import UUID

import pytest

from jobs import operate, rescue
from jobs.claim import Claimed
from jobs.conf import JobsSettings
from jobs.outcome import Happened, decide
from jobs.rescue import Held, carry_out
from jobs.verdict import Fated
from outbox.session import Query, Session
from tests.support import model
from tests.support.floor import claim, conclude, fill, outcome
from tests.support.model import FENCES, Rules, Step, World, path_to, walk

pytest_plugins = ["tests.support.ours"]

SETTINGS = JobsSettings(MAX_CRASHES=model.MAX_CRASHES)


@pytest.fixture(scope="module")
def whole() -> model.Walk:
    return walk(Rules())


def test_no_interleaving_lets_a_stale_write_through_or_leaves_the_job_stuck(whole: model.Walk) -> None:
    print(f"{len(whole.worlds):,} worlds, {whole.edges:,} steps")
    assert (whole.wrong, whole.stuck) == ("", 0)
    assert len(whole.worlds) > 50_000
    assert {world.state for world in whole.worlds} == {"ready", "running", "retrying", *model.ENDED}


def test_no_interleaving_claims_again_what_may_run_at_most_once() -> None:
    found = walk(Rules(at_most_once=True))

    assert (found.wrong, found.stuck) == ("", 0)
    assert len(found.worlds) > 1000


STALE, AGAIN = "a stale write was accepted", "claimed again though it may have run"


@pytest.mark.parametrize(
    ("rules", "wrong"),
    [
        (Rules(fence=FENCES["none"]), STALE),
        (Rules(fence=FENCES["state"]), STALE),
        (Rules(fence=FENCES["attempt"]), STALE),
        (Rules(requeue_keeps_the_lease=False), STALE),
        (Rules(at_most_once=True, a_lost_one_is_dead=False), AGAIN),
    ],
    ids=[
        "no fence",
        "fence by state",
        "fence by attempt",
        "a requeue that starts the lease anew",
        "a lost one goes on",
    ],
)
def test_a_broken_variant_fails(rules: Rules, wrong: str) -> None:
    found = walk(rules)

    assert found.wrong == wrong
    assert found.path


# Beside the statements ----------------------------------------------------------------------------------------------


class Real:
    """The same steps by the library's own verbs, on a real row."""

    def __init__(self, session: Session) -> None:
        self.session = session
        (self.id,) = fill(session, 1)
        session.run(Query("UPDATE jobs_job SET max_attempts = %s", (model.MAX_ATTEMPTS,)), durable=False)
        self.hands: dict[int, Claimed] = {}
        self.verdicts: dict[int, Fated] = {}
        self.started: set[int] = set()
        self.looked: list[Held] = []

    def do(self, step: Step) -> None:
        who, worker, session = step.who, step.who + 1, self.session
        match step.name:
            case "claim":
                (self.hands[who],) = claim(session, 1, worker=worker, claimer=11 + who)
                self.started.discard(who)
            case "start":
                self.started.add(who)
            case "hand back":
                conclude(session, [outcome(self.hands.pop(who), Happened.HANDED_BACK, SETTINGS)], worker)
            case "succeed":
                conclude(session, [outcome(self.hands.pop(who), Happened.SUCCEEDED, SETTINGS)], worker)
            case "fail":
                conclude(session, [outcome(self.hands.pop(who), Happened.FAILED, SETTINGS)], worker)
            case "die":
                job = self.hands.pop(who)
                happened = Happened.CRASHED if who in self.started else Happened.HANDED_BACK
                self.verdicts[who] = Fated(str(job.id), job.lease, job.claimer, happened, 0.1)
            case "verdict":
                carry_out(session, [self.verdicts.pop(who)], worker, SETTINGS)
            case "look":
                owner = session.run(Query("SELECT worker FROM jobs_job WHERE id = %s", (self.id,)))[0][0]
                self.looked = rescue.read(session.run(Query(rescue.OF_WORKER, (owner,))))
            case "rescue":
                lost = [decide(job, Happened.LOST, SETTINGS) for job in self.looked]
                rescue._write(session, self.looked, lost, 0)
            case "promote":
                operate.run_now([self.id])
            case "requeue":
                operate.requeue([self.id])
            case "cancel":
                operate.cancel([self.id])

    def row(self) -> tuple[str, int, int, int]:
        (row,) = self.session.run(Query(ROW, (self.id, self.id)), durable=False)
        return row[0], row[1], row[2], row[3]


ROW = """SELECT state, lease, attempts, crashes FROM jobs_job WHERE id = %s
UNION ALL SELECT state, lease, attempts, crashes FROM jobs_finishedjob WHERE id = %s"""


def of_each_kind(whole: model.Walk) -> list[list[Step]]:
    """The shortest ways to each step from each kind of row, as a fresh one and as a stale one."""
    ways: dict[tuple[object, ...], list[Step]] = {}
    for world in whole.worlds:
        for step, after in model.steps(world, Rules()):
            memory = {"verdict": world.verdicts, "rescue": (world.looked,) * 2}.get(step.name, world.hands)[step.who]
            fresh = memory is not None and memory.serial == world.serial
            kind = (step.name, world.state, fresh, after.state, memory and memory.started)
            if kind not in ways:
                ways[kind] = [*path_to(whole.worlds, world), step]
    return list(ways.values())


def test_the_statements_do_what_the_model_says(whole: model.Walk, ours: Session) -> None:
    ways = of_each_kind(whole)
    ids: set[UUID] = set()
    for way in ways:
        ours.run_all([Query("DELETE FROM jobs_job"), Query("DELETE FROM jobs_finishedjob")], durable=False)
        real, world = Real(ours), World()
        for step in way:
            real.do(step)
            world = dict(model.steps(world, Rules()))[step]
            assert real.row() == (world.state, world.lease, world.attempts, world.crashes), (way, step)
        ids.add(real.id)

    assert len(ids) == len(ways) > 40
