"""Any sequence of verbs, by honest workers and by zombies: no job is lost, doubled, or run more than it may be."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobs.claim import Claimed
from jobs.conf import JobsSettings
from jobs.intake import accept
from jobs.outcome import Happened, Outcome
from jobs.promote import promote
from jobs.prune import prune
from jobs.rescue import Watch, carry_out, hand_back_left_over
from jobs.verdict import Fated
from outbox import relay
from outbox.session import Query, Session
from tests import tasks
from tests.factories import WorkerFactory
from tests.support.examples import many
from tests.support.floor import broken, claim, conclude, homes, outcome, wipe

pytest_plugins = ["tests.support.ours"]
pytestmark = pytest.mark.slow

SETTINGS = JobsSettings(KEEP_SUCCEEDED=timedelta(0), KEEP_DEAD=timedelta(0), MAX_CRASHES=3)
WORKERS = (1, 2)
CLAIMERS = (11, 12)

LEASES = """SELECT id, lease, attempts, crashes FROM jobs_job
UNION ALL SELECT id, lease, attempts, crashes FROM jobs_finishedjob"""
MAKE_DUE = """UPDATE jobs_job SET run_after = clock_timestamp() - interval '1 second'
WHERE state IN ('scheduled', 'retrying')"""


class Undo(Exception):
    """Rolls a block back."""


@dataclass
class Known:
    """What the test knows of a committed job."""

    max_attempts: int
    starts: int = 0
    free: int = 0
    """Claims that were taken back uncharged."""
    charged: int = 0
    held: Claimed | None = None
    """The claim that may write, if there is one."""
    stale: list[Claimed] = field(default_factory=list)
    over: bool = False


# A block is a list of enqueues (their max_attempts), inner blocks, and whether it is undone at its end.
blocks: Any = st.deferred(
    lambda: st.tuples(st.lists(st.integers(1, 3) | blocks, min_size=1, max_size=3), st.booleans(), st.booleans())
)

chosen_jobs = st.integers(0, 10**6)


class Story(RuleBasedStateMachine):
    session: Session

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[UUID, Known] = {}
        wipe(self.session)
        for worker in WORKERS:
            WorkerFactory(id=worker)

    # Requests -------------------------------------------------------------------------------------------------------

    @initialize(attempts=st.lists(st.integers(1, 3), min_size=1, max_size=3))
    def begin(self, attempts: list[int]) -> None:
        for max_attempts in attempts:
            self.jobs[tasks.noop.using(max_attempts=max_attempts).enqueue().id] = Known(max_attempts)
        self.relay(10)

    @rule(block=blocks)
    def request(self, block: Any) -> None:
        self.jobs |= self._run(block)

    def _run(self, block: Any) -> dict[UUID, Known]:
        """Enqueue within a block of `atomic`; the jobs that its end leaves."""
        inside, undone, savepoint = block
        made: dict[UUID, Known] = {}
        with suppress(Undo), transaction.atomic(savepoint=savepoint or undone):
            for each in inside:
                if isinstance(each, int):
                    made[tasks.noop.using(max_attempts=each).enqueue().id] = Known(each)
                else:
                    made |= self._run(each)
            if undone:
                raise Undo
        return {} if undone else made

    # Moving ---------------------------------------------------------------------------------------------------------

    @rule(batch=st.integers(1, 5))
    def relay(self, batch: int) -> None:
        relay.step(self.session, accept, batch)

    @rule(limit=st.integers(1, 5))
    def time_passes(self, limit: int) -> None:
        self.session.run_all([Query(MAKE_DUE), *promote(limit)], durable=False)

    @rule()
    def old_ones_are_pruned(self) -> None:
        prune(self.session, SETTINGS)
        self.jobs = {job: known for job, known in self.jobs.items() if not known.over}

    @rule(limit=st.integers(1, 5), worker=st.sampled_from(WORKERS), claimer=st.sampled_from(CLAIMERS))
    def claim(self, limit: int, worker: int, claimer: int) -> None:
        got = claim(self.session, limit, worker=worker, claimer=claimer)

        assert len(got) <= limit
        for job in got:
            known = self.jobs[job.id]
            assert known.held is None and not known.over
            assert job.lease == known.starts + 1
            known.starts += 1
            known.held = job

    # Ending: by whoever holds the claim, and by those that held it once ----------------------------------------------

    def _pick(self, which: int, *, stale: bool) -> Claimed | None:
        claims = [
            claim
            for known in self.jobs.values()
            for claim in (known.stale if stale else [known.held] if known.held else [])
        ]
        return claims[which % len(claims)] if claims else None

    def _settle(self, job: Claimed, result: Outcome) -> None:
        known = self.jobs[job.id]
        known.held = None
        known.stale.append(job)
        known.over = result.state in ("succeeded", "dead", "cancelled")
        spent = result.attempts + result.crashes - job.attempts - job.crashes
        known.charged += spent
        known.free += not spent

    @precondition(lambda self: self._pick(0, stale=False))
    @rule(which=chosen_jobs, happened=st.sampled_from(list(Happened)), retry_in=st.sampled_from([None, 0.0, 9.0]))
    def outcome(self, which: int, happened: Happened, retry_in: float | None) -> None:
        job = self._pick(which, stale=False)
        assert job is not None
        result = outcome(job, happened, SETTINGS, retry_in=retry_in)

        assert conclude(self.session, [result]) == {job.id}
        self._settle(job, result)

    @precondition(lambda self: self._pick(0, stale=False))
    @rule(happened=st.lists(st.sampled_from(list(Happened)), min_size=1, max_size=5))
    def outcomes_in_one_batch(self, happened: list[Happened]) -> None:
        held = [known.held for known in self.jobs.values() if known.held]
        results = [outcome(job, each, SETTINGS) for job, each in zip(held, happened, strict=False)]

        assert conclude(self.session, results) == {result.id for result in results}
        for job, result in zip(held, results, strict=False):
            self._settle(job, result)

    @precondition(lambda self: self._pick(0, stale=True))
    @rule(which=chosen_jobs, happened=st.sampled_from(list(Happened)), retry_in=st.sampled_from([None, 0.0]))
    def a_zombie_writes(self, which: int, happened: Happened, retry_in: float | None) -> None:
        job = self._pick(which, stale=True)
        assert job is not None

        assert conclude(self.session, [outcome(job, happened, SETTINGS, retry_in=retry_in)]) == set()

    @precondition(lambda self: self._pick(0, stale=False))
    @rule(which=chosen_jobs, happened=st.sampled_from(["timed_out", "crashed", "handed_back"]), again=st.booleans())
    def a_slot_is_killed(self, which: int, happened: str, again: bool) -> None:
        job = self._pick(which, stale=False)
        assert job is not None
        ((worker,),) = self.session.glance(Query("SELECT worker FROM jobs_job WHERE id = %s", (job.id,)))
        verdict = [Fated(str(job.id), job.lease, job.claimer, happened, 1.0)]

        for _ in range(1 + again):
            carry_out(self.session, verdict, worker, SETTINGS)

        self._settle(job, outcome(job, happened, SETTINGS))

    @precondition(lambda self: self._pick(0, stale=True))
    @rule(which=chosen_jobs, happened=st.sampled_from(["timed_out", "crashed"]), worker=st.sampled_from(WORKERS))
    def a_verdict_comes_late(self, which: int, happened: str, worker: int) -> None:
        job = self._pick(which, stale=True)
        assert job is not None
        before = self.session.glance(Query(LEASES))

        carry_out(self.session, [Fated(str(job.id), job.lease, job.claimer, happened, 1.0)], worker, SETTINGS)

        assert sorted(self.session.glance(Query(LEASES))) == sorted(before)

    def _of(self, worker: int) -> list[Claimed]:
        rows = self.session.glance(Query("SELECT id FROM jobs_job WHERE state = 'running' AND worker = %s", (worker,)))
        return [held for (job,) in rows if (held := self.jobs[job].held) is not None]

    @rule(worker=st.sampled_from(WORKERS))
    def a_worker_is_lost(self, worker: int) -> None:
        held = self._of(worker)
        self.session.run(Query("DELETE FROM jobs_worker WHERE id = %s", (worker,)), durable=False)

        Watch().look(self.session, 99, SETTINGS)

        WorkerFactory(id=worker)
        for job in held:
            self._settle(job, outcome(job, "lost", SETTINGS))

    @rule(worker=st.sampled_from(WORKERS), claimer=st.sampled_from(CLAIMERS))
    def a_keeper_sweeps(self, worker: int, claimer: int) -> None:
        """One slot has lost its connection and goes on under a new number."""
        left = [job for job in self._of(worker) if job.claimer == claimer]
        others = [each for each in CLAIMERS if each != claimer]

        assert hand_back_left_over(self.session, others, [], worker, SETTINGS) == len(left)
        for job in left:
            self._settle(job, outcome(job, "handed_back", SETTINGS))

    # What always holds ----------------------------------------------------------------------------------------------

    @invariant()
    def every_job_has_one_home(self) -> None:
        assert homes(self.session) == dict.fromkeys(self.jobs, 1)

    @invariant()
    def rows_are_as_they_must_be(self) -> None:
        assert broken(self.session) == []

    @invariant()
    def the_lease_counts_the_claims_and_nothing_runs_more_than_it_may(self) -> None:
        for job, lease, attempts, crashes in self.session.glance(Query(LEASES)):
            known = self.jobs[job]
            assert lease == known.starts
            assert attempts + crashes == known.charged
            assert known.starts <= known.max_attempts + SETTINGS.MAX_CRASHES + known.free
            assert known.starts == known.charged + known.free + (known.held is not None)

    @invariant()
    def what_runs_is_what_somebody_holds(self) -> None:
        running = {row[0] for row in self.session.glance(Query("SELECT id FROM jobs_job WHERE state = 'running'"))}
        assert running == {job for job, known in self.jobs.items() if known.held}

    def teardown(self) -> None:
        """Whatever has happened, everything comes to an end from here."""
        for _ in range(50):
            relay.step(self.session, accept, 100)
            self.session.run_all([Query(MAKE_DUE), *promote(100)], durable=False)
            held = [known.held for known in self.jobs.values() if known.held]
            for known in self.jobs.values():
                known.held = None
            conclude(self.session, [outcome(job, "succeeded") for job in [*held, *claim(self.session, 100)]])
            if not self.session.glance(Query("SELECT 1 FROM jobs_job UNION ALL SELECT 1 FROM outbox_message")):
                break
        left = self.session.glance(Query("SELECT id FROM jobs_finishedjob"))
        assert {row[0] for row in left} == set(self.jobs)
        assert broken(self.session) == []


def test_no_sequence_of_verbs_breaks_an_invariant(ours: Session) -> None:
    Story.session = ours

    run_state_machine_as_test(
        Story,
        settings=settings(
            max_examples=many(50),
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
