"""Two at the same row at the same time: who waits, who passes by, who wins. Blocking is observed, never slept for."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from jobs import claim as claims
from jobs.claim import Claimed
from jobs.conf import JobsSettings
from jobs.finish import finish
from jobs.ids import id_for_key, new_id
from jobs.intake import accept
from jobs.models import Attempt, FinishedJob, Job, Key
from jobs.outcome import Happened, Outcome
from jobs.promote import promote
from jobs.prune import prune
from jobs.rescue import hand_back_left_over
from outbox import relay
from outbox.models import Message
from outbox.session import Query, Session
from tests.factories import KeyFactory, MessageFactory, in_home
from tests.support.floor import (
    DEFAULTS,
    EVERYTHING,
    broken,
    claim,
    column,
    conclude,
    fill,
    homes,
    outcome,
    value,
)
from tests.support.locks import meanwhile, named, open_transaction, together, wait_until_blocked

pytest_plugins = ["tests.support.ours"]

pytestmark = pytest.mark.postgresql("transactions that write at once and meet on row locks; SQLite has one writer")

KEYED = '{"v":1,"task":"tests.tasks.noop","queue":"default","priority":0,"max_attempts":1,"key":"%s"}'


def keyed(key: str) -> UUID:
    return MessageFactory(uid=id_for_key("tests.tasks.noop", key), headers=KEYED % key).uid


def taken(session: Session, batch: int) -> list[relay.Written]:
    """Messages as a relay has taken them, gone from the outbox."""
    return sorted(map(relay.Written._make, session.run(Query(relay.MOVE, (0, batch)), durable=False)))


# Claim and claim ----------------------------------------------------------------------------------------------------


def test_a_claim_never_waits_for_another(ours: Session) -> None:
    fill(ours, 10)

    with open_transaction("first") as first:
        theirs = {row[0] for row in first.run(claims.claim(1, 11, EVERYTHING, 6))}
        mine = {job.id for job in claim(named("second", patience=2), 6, claimer=22)}
        first.commit()

    assert (len(theirs), len(mine)) == (6, 4)
    assert not theirs & mine


def test_a_job_handed_back_while_another_claims_is_claimed_by_the_next(ours: Session) -> None:
    """The claim saw it as running in its snapshot, or finds it locked: it passes by, and nothing goes wrong."""
    fill(ours, 1)
    (job,) = claim(ours, 1)

    with open_transaction("handing back") as back:
        back.run_all(finish([outcome(job, "handed_back")], 1))
        during = claim(named("second", patience=2), 1, claimer=22)
        back.commit()

    assert during == []
    assert [(again.id, again.lease) for again in claim(ours, 1, claimer=22)] == [(job.id, 2)]


# Finish and finish --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["succeeded", "failed", "handed_back", "lost"])
@pytest.mark.parametrize("first", ["succeeded", "failed", "handed_back", "lost"])
def test_of_two_outcomes_of_one_claim_the_first_counts(ours: Session, first: str, second: str) -> None:
    """The same write repeated after a lost connection, while the old transaction is still at it."""
    fill(ours, 1)
    (job,) = claim(ours, 1)

    with open_transaction("first") as one:
        one.run_all(finish([outcome(job, first)], 1))
        with meanwhile(conclude, named("second"), [outcome(job, second)]) as other:
            wait_until_blocked("second")
            one.commit()
            assert other.result() == set()

    leads_to = {"succeeded": "succeeded", "failed": "retrying", "handed_back": "ready", "lost": "ready"}
    row = Job.objects.first() or FinishedJob.objects.get()
    assert row.state == leads_to[first]
    assert Attempt.objects.count() == (first in ("failed", "lost"))
    assert homes(ours) == {job.id: 1}


def test_of_two_outcomes_of_one_claim_the_second_counts_when_the_first_is_rolled_back(ours: Session) -> None:
    fill(ours, 1)
    (job,) = claim(ours, 1)

    with open_transaction("first") as one:
        one.run_all(finish([outcome(job, "failed")], 1))
        with meanwhile(conclude, named("second"), [outcome(job, "succeeded")]) as other:
            wait_until_blocked("second")
            one.rollback()
            assert other.result() == {job.id}

    assert in_home(job.id) == ["jobs_finishedjob"]
    assert not Attempt.objects.exists()


def test_a_zombie_that_meets_the_new_claimers_finish_changes_nothing(ours: Session) -> None:
    fill(ours, 1)
    (stale,) = claim(ours, 1)
    conclude(ours, [outcome(stale, "handed_back")])
    (fresh,) = claim(ours, 1, worker=2, claimer=22)

    with open_transaction("fresh") as its:
        its.run_all(finish([outcome(fresh, "failed", retry_in=0.0)], 2))
        with meanwhile(conclude, named("zombie"), [outcome(stale, "succeeded")]) as written:
            its.commit()
            assert written.result() == set()

    assert (Job.objects.get().state, Job.objects.get().lease) == ("retrying", 2)


def test_a_finish_and_a_claim_of_its_row_do_not_meet(ours: Session) -> None:
    fill(ours, 1)
    (job,) = claim(ours, 1)

    with open_transaction("finishing") as finishing:
        finishing.run_all(finish([outcome(job, "crashed")], 1))
        assert claim(named("claiming", patience=2), 1) == []
        finishing.commit()

    assert claim(ours, 1)[0].lease == 2


# Two writers over several rows --------------------------------------------------------------------------------------


def meet(ours: Session, mine: Sequence[str], theirs: Sequence[str]) -> None:
    """Two write outcomes of the same two jobs at once, and both must come through.

    Mine pauses after its first statement and goes on when theirs waits for it.
    """
    fill(ours, 2)
    jobs = sorted(claim(ours, 2), key=lambda job: job.id)
    my_writes = finish([outcome(job, way, retry_in=None) for job, way in zip(jobs, mine, strict=True)], 1)
    crashes = [2 if way == "third crash" else 0 for way in theirs]
    their_writes = [outcome(job._replace(crashes=n), "lost") for job, n in zip(jobs, crashes, strict=True)]

    with open_transaction("mine") as my:
        my.run(Query("SELECT set_config('deadlock_timeout', '50ms', true)"))
        my.run(my_writes[0])
        other = named("theirs")
        other.glance(Query("SELECT set_config('deadlock_timeout', '50ms', false)"))
        with meanwhile(conclude, other, their_writes) as waiting:
            wait_until_blocked("theirs")
            my.run_all(my_writes[1:])
            my.commit()
            waiting.result()


@pytest.mark.parametrize(
    "theirs", [("lost", "lost"), ("third crash", "lost"), ("lost", "third crash"), ("third crash", "third crash")]
)
@pytest.mark.parametrize(
    "mine",
    [
        ("succeeded", "succeeded"),
        ("succeeded", "failed"),
        ("failed", "succeeded"),
        ("succeeded", "handed_back"),
        ("handed_back", "succeeded"),
        ("failed", "handed_back"),
        ("handed_back", "failed"),
    ],
)
def test_a_slot_and_a_rescuer_that_meet_on_several_rows_do_not_deadlock(
    ours: Session, mine: tuple[str, str], theirs: tuple[str, str]
) -> None:
    """A worker that was only asleep writes what it has while another takes its jobs back."""
    meet(ours, mine, theirs)

    assert broken(ours) == []
    assert value(ours, "SELECT count(*) FROM jobs_job WHERE state = 'running'") == 0


# Relay and relay ----------------------------------------------------------------------------------------------------


def test_a_relay_never_waits_for_another(ours: Session) -> None:
    uids = [MessageFactory().uid for _ in range(6)]

    with open_transaction("first") as first:
        theirs = [row[1] for row in first.run(Query(relay.MOVE, (0, 4)))]
        moved = relay.step(named("second", patience=2), accept, 100)
        first.rollback()

    assert set(theirs) == set(uids[:4])
    assert moved == relay.Moved(2, 0)
    assert set(Job.objects.values_list("id", flat=True)) == set(uids[4:])
    assert relay.step(ours, accept, 100) == relay.Moved(4, 0)


def test_relays_at_the_same_time_deliver_each_message_once(ours: Session) -> None:
    insert = """INSERT INTO outbox_message (uid, headers, body)
        SELECT gen_random_uuid(), %s, '{"args":[],"kwargs":{}}' FROM generate_series(1, 3000) RETURNING uid"""
    headers = '{"v":1,"task":"tests.tasks.noop","queue":"default"}'
    uids = {row[0] for row in ours.run(Query(insert, (headers,)), durable=False)}

    def work(n: int) -> int:
        session = named(f"relay-{n}")
        delivered = 0
        while moved := relay.step(session, accept, 97).delivered:
            delivered += moved
        return delivered

    delivered = sum(together(*(lambda n=n: work(n) for n in range(4))))

    assert delivered + relay.step(ours, accept, 5000).delivered == 3000
    assert homes(ours) == dict.fromkeys(uids, 1)


def test_a_message_whose_relay_dies_in_the_middle_is_delivered_by_the_next(ours: Session) -> None:
    uid = MessageFactory().uid

    with open_transaction("dying") as dying:
        dying.run(Query(relay.MOVE, (0, 10)))
        end = "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE application_name = 'dying'"
        ours.glance(Query(end))

    assert in_home(uid) == ["outbox_message"]
    assert relay.step(ours, accept, 10) == relay.Moved(1, 0)
    assert in_home(uid) == ["jobs_job"]


# Promote and promote, prune and accept ------------------------------------------------------------------------------


def test_a_promoter_never_waits_for_another(ours: Session) -> None:
    fill(ours, 4, "scheduled")
    ours.glance(Query("UPDATE jobs_job SET run_after = clock_timestamp()"))

    with open_transaction("first") as first:
        theirs = first.run(promote(3)[0])
        mine = named("second", patience=2).run(promote(10)[0])
        first.commit()

    assert (len(theirs), len(mine)) == (3, 1)
    assert value(ours, "SELECT count(*) FROM jobs_job WHERE state = 'ready'") == 4


@pytest.mark.parametrize("commits", [True, False])
def test_two_relays_with_the_same_key_make_one_job(ours: Session, commits: bool) -> None:
    uid = keyed("order-1")
    first_message = taken(ours, 1)
    keyed("order-1")

    with open_transaction("first") as first:
        first.run_all(accept(first_message).queries)
        with meanwhile(relay.step, named("second"), accept, 10) as moved:
            wait_until_blocked("second")
            if commits:
                first.commit()
            else:
                first.rollback()
            assert moved.result() == relay.Moved(1, 0)

    assert in_home(uid) == ["jobs_job"]
    assert Key.objects.count() == Job.objects.count() == 1
    assert not Message.objects.exists()


def test_keyed_messages_in_any_order_do_not_deadlock_two_relays(ours: Session) -> None:
    """Each takes the keys in the order of their ids."""
    keys = [f"order-{n}" for n in range(60)]
    for _ in range(8):
        random.shuffle(keys)
        for key in keys:
            keyed(key)

    def work(n: int) -> int:
        session = named(f"relay-{n}")
        session.glance(Query("SET deadlock_timeout = '20ms'"))
        total = 0
        while moved := relay.step(session, accept, 40).total:
            total += moved
        return total

    total = sum(together(*(lambda n=n: work(n) for n in range(3))))

    assert total + relay.step(ours, accept, 1000).total == 480
    assert Job.objects.count() == Key.objects.count() == 60
    assert set(homes(ours).values()) == {1}


def test_a_relay_that_delivers_one_by_one_does_not_deadlock_with_one_that_takes_all(ours: Session) -> None:
    """One by one it takes the keys in the order of the ids as well, though the messages came the other way round."""
    keys = sorted(("a", "b"), key=lambda key: id_for_key("tests.tasks.noop", key), reverse=True)
    for key in keys:
        keyed(key)
    singly = sorted(taken(ours, 2), key=lambda message: message.uid)
    for key in keys:
        keyed(key)

    with open_transaction("one by one") as one:
        one.run(Query("SELECT set_config('deadlock_timeout', '50ms', true)"))
        one.run_all(accept(singly[:1]).queries)
        other = named("all")
        other.glance(Query("SET deadlock_timeout = '50ms'"))
        with meanwhile(relay.step, other, accept, 10) as moved:
            wait_until_blocked("all")
            one.run_all(accept(singly[1:]).queries)
            one.commit()
            assert moved.result() == relay.Moved(2, 0)

    assert Job.objects.count() == 2


def test_a_key_that_is_being_forgotten_is_waited_for_and_then_free(ours: Session) -> None:
    uid = id_for_key("tests.tasks.noop", "order-1")
    KeyFactory(id=uid, key="order-1")
    keyed("order-1")

    with open_transaction("pruning") as pruning:
        pruning.run(Query("DELETE FROM jobs_key WHERE id = %s", (uid,)))
        with meanwhile(relay.step, named("relaying"), accept, 10) as moved:
            wait_until_blocked("relaying")
            pruning.commit()
            assert moved.result() == relay.Moved(1, 0)

    assert in_home(uid) == ["jobs_job"]
    assert Key.objects.count() == 1


# One home at every commit -------------------------------------------------------------------------------------------


def test_a_job_is_in_exactly_one_home_at_every_moment_while_it_moves(ours: Session) -> None:
    """A watcher counts in one statement, so at one moment, while others relay, claim, finish, promote."""
    for _ in range(150):
        MessageFactory()
    ids = set(column(ours, "SELECT uid FROM outbox_message"))
    over = threading.Event()

    def watch() -> list[dict[UUID, int]]:
        session = named("watching")
        wrong = []
        while not over.is_set():
            seen = homes(session)
            if set(seen) != ids or set(seen.values()) != {1}:
                wrong.append({job: n for job, n in seen.items() if n != 1} | dict.fromkeys(ids - set(seen), 0))
        return wrong

    def move() -> None:
        session = named("moving")
        chosen = random.Random(5)
        while value(session, "SELECT count(*) FROM jobs_finishedjob") < len(ids):
            relay.step(session, accept, 20)
            jobs = claim(session, 10)
            ways = ["succeeded", "handed_back", "failed"]
            conclude(session, [outcome(job, chosen.choice(ways), retry_in=0.0) for job in jobs])
            session.run(promote(50)[0], durable=False)

    with meanwhile(watch) as watched:
        try:
            move()
        finally:
            over.set()
        assert watched.result() == []


# Everybody at once --------------------------------------------------------------------------------------------------

SECONDS = 6.0
ROWS = 300
FACTS = "SELECT id, lease, claimer, attempts, crashes, max_attempts FROM jobs_job WHERE state = 'running' LIMIT 80"


def test_everybody_at_once_never_deadlocks(ours: Session) -> None:
    """Claiming, finishing, handing back, rescuing, promoting and pruning on the same rows, from six threads.

    Worker 1 is taken for dead again and again while it goes on, so its slots and its rescuer meet on the same rows.
    """
    fill(ours, ROWS)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    until = time.monotonic() + SECONDS
    made: list[UUID] = column(ours, "SELECT id FROM jobs_job")
    errors: list[BaseException] = []
    before = value(ours, deadlocks)

    def worker(name: str, work: Callable[[Session, random.Random], object]) -> None:
        session = named(name)
        session.glance(Query("SET deadlock_timeout = '10ms'"))
        chosen = random.Random(name)
        while time.monotonic() < until and not errors:
            try:
                work(session, chosen)
            except psycopg.Error as error:
                errors.append(error)
        session.close()

    def outcomes_of(jobs: Sequence[Claimed], chosen: random.Random) -> list[Outcome]:
        ways = [Happened.SUCCEEDED, *[Happened.HANDED_BACK] * 3, *[Happened.FAILED] * 3, Happened.UNKNOWN]
        return [
            outcome(job, chosen.choice(ways), retry_in=0.0 if chosen.random() < 0.8 else None)._replace(delay=0.0)
            for job in jobs
        ]

    def slot(claimer: int) -> Callable[[Session, random.Random], object]:
        def work(session: Session, chosen: random.Random) -> None:
            jobs = claim(session, chosen.randint(1, 60), claimer=claimer)
            conclude(session, outcomes_of(jobs, chosen))

        return work

    def rescuer(session: Session, chosen: random.Random) -> None:
        hand_back_left_over(session, [11] if chosen.random() < 0.5 else [], [], 1, DEFAULTS)

    def second_rescuer(session: Session, chosen: random.Random) -> None:
        rows = session.glance(Query(FACTS))
        settings = JobsSettings(MAX_CRASHES=3 if chosen.random() < 0.9 else 1)
        conclude(session, [outcome(Held(*row), "lost", settings) for row in rows])

    def mover(session: Session, chosen: random.Random) -> None:
        session.run_all(promote(chosen.randint(1, 100)), durable=False)
        # New ones for those that have ended, so that there is always something to meet on.
        missing = ROWS - value(session, "SELECT count(*) FROM jobs_job")
        if missing > 0:
            made.extend(fill(session, missing))

    def pruner(session: Session, chosen: random.Random) -> None:
        settings = JobsSettings(KEEP_SUCCEEDED=timedelta(0), KEEP_DEAD=timedelta(seconds=1))
        prune(session, settings)
        time.sleep(0.05)

    together(
        lambda: worker("slot-a", slot(11)),
        lambda: worker("slot-b", slot(12)),
        lambda: worker("rescuer", rescuer),
        lambda: worker("second-rescuer", second_rescuer),
        lambda: worker("mover", mover),
        lambda: worker("pruner", pruner),
    )

    assert errors == []
    ours.glance(Query("SELECT pg_stat_force_next_flush()"))
    assert value(ours, deadlocks) == before
    assert broken(ours) == []
    left = homes(ours)
    assert set(left.values()) <= {1}
    assert set(left) <= set(made)
    assert len(made) > ROWS


class Held:
    """What `decide` wants to know of a row."""

    def __init__(self, *row: Any) -> None:
        self.id, self.lease, self.claimer, self.attempts, self.crashes, self.max_attempts = row
        self.task, self.queue, self.ready_at = "tests.tasks.noop", "default", None
        self.at_most_once = self.calls_back = False


def test_ids_made_at_the_same_time_are_all_different() -> None:
    made = together(*[lambda: {new_id() for _ in range(5000)}] * 4)

    assert len(set.union(*made)) == 20_000
