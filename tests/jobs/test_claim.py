"""The claim: who gets which rows, how many, and in which order."""

from __future__ import annotations

import random
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import claim as claims
from jobs.claim import DISCOVER, Lanes
from jobs.models import Job
from jobs.outcome import Happened
from outbox.session import Query, Session
from tests.factories import JobFactory
from tests.support.floor import (
    EVERYTHING,
    claim,
    column,
    conclude,
    everything,
    fill,
    outcome,
    properties,
    value,
)
from tests.support.locks import named, open_transaction, together

pytest_plugins = ["tests.support.ours"]

# What a planner might be talked into, by whoever runs the server.
HOSTILE = {
    "nested loops only": ("hashjoin", "mergejoin", "material", "sort", "hashagg", "memoize"),
    "sequential scans only": ("indexscan", "indexonlyscan", "bitmapscan", "tidscan"),
    "hash joins only": ("nestloop", "mergejoin", "memoize"),
    "merge joins only": ("nestloop", "hashjoin", "hashagg"),
}


@pytest.mark.postgresql("plans of its planner")
@pytest.mark.parametrize("statistics", ["never taken", "from the empty table", "from when all were running"])
@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("limit", [1, 10])
def test_no_plan_claims_more_than_the_limit(
    ours: Session, statistics: str, hostile: tuple[str, ...], limit: int
) -> None:
    if statistics == "from the empty table":
        ours.glance(Query("ANALYZE jobs_job"))
    fill(ours, 1000, "running" if statistics == "from when all were running" else "ready")
    if statistics == "from when all were running":
        ours.glance(Query("ANALYZE jobs_job"))
        ours.glance(Query("UPDATE jobs_job SET state = 'ready', worker = NULL, claimer = NULL"))
    query = claims.claim(1, 11, EVERYTHING, limit)

    connection = ours.connection
    connection.execute("BEGIN")
    for setting in hostile:
        connection.execute(f"SET LOCAL enable_{setting} = off")
    claimed = connection.execute(query.sql, query.params).fetchall()
    connection.execute("COMMIT")

    assert len(claimed) == limit
    assert value(ours, "SELECT count(*) FROM jobs_job WHERE state = 'running'") == limit
    assert value(ours, "SELECT count(*) FROM jobs_job WHERE lease > 0 AND state = 'running'") == limit


@pytest.mark.parametrize(("there", "limit", "got"), [(5, 3, 3), (3, 5, 3), (0, 5, 0), (5, 0, 0), (600, 500, 500)])
def test_a_claim_takes_the_limit_or_what_there_is(ours: Session, there: int, limit: int, got: int) -> None:
    fill(ours, there)

    assert len(claim(ours, limit)) == got
    assert Job.objects.filter(state="running").count() == got
    assert Job.objects.filter(state="ready").count() == there - got


def test_a_claim_over_several_lanes_takes_the_limit_in_all(ours: Session) -> None:
    for queue in ("default", "mail", "reports"):
        fill(ours, 4, queue=queue)
    lanes = Lanes(["default", "mail", "reports"]).next()

    assert len(claim(ours, 9, lanes=lanes)) == 9
    assert len(claim(ours, 9, lanes=lanes)) == 3


def test_a_claim_without_lanes_takes_nothing(ours: Session) -> None:
    fill(ours, 3)

    assert claim(ours, 10, lanes=[]) == []


def test_what_is_claimed_is_running_under_worker_and_claimer(ours: Session) -> None:
    row = JobFactory(
        priority=7,
        arguments='{"args":[1e+16,-0.0,"\u00e4"],"kwargs":{"b":1,"a":2}}',
        max_attempts=4,
        attempts=2,
        crashes=1,
        lease=8,
        source_name="checkout",
        idempotency_key="order-1",
        depth=3,
    )

    (job,) = claim(ours, 1, worker=5, claimer=2**62)

    assert job == claims.Claimed(
        row.id,
        row.task,
        "default",
        7,
        row.arguments,
        9,
        2**62,
        2,
        1,
        4,
        "checkout",
        "order-1",
        3,
        1,
        False,
        row.ready_at,
    )
    row.refresh_from_db()
    assert (row.state, row.worker, row.claimer, row.lease) == ("running", 5, 2**62, 9)
    assert abs(row.claimed_at - timezone.now()) < timedelta(seconds=10)


@pytest.mark.parametrize("state", ["running", "scheduled", "retrying"])
def test_what_is_not_ready_is_not_claimed(ours: Session, state: str) -> None:
    JobFactory(**{state: True})
    before = everything(ours)

    assert claim(ours) == []
    assert everything(ours) == before


def test_what_is_overdue_but_not_promoted_is_not_claimed(ours: Session) -> None:
    JobFactory(scheduled=True, run_after=timezone.now() - timedelta(days=1))

    assert claim(ours) == []


def test_jobs_of_other_queues_are_left_alone(ours: Session) -> None:
    mine = fill(ours, 2)
    fill(ours, 2, queue="mail")
    others = [row for row in everything(ours)["jobs_job"] if '"mail"' in row]

    assert {job.id for job in claim(ours)} == set(mine)
    assert [row for row in everything(ours)["jobs_job"] if '"mail"' in row] == others


# Order --------------------------------------------------------------------------------------------------------------


def shuffled_rows() -> list[tuple[UUID, str, int, int]]:
    """Ready rows of two queues with many priorities and ages, in no order: id, queue, priority, age in seconds."""
    chosen = random.Random(4)
    rows = [
        (queue, priority, age)
        for queue in ("default", "mail")
        for priority in (-100, -51, -50, -49, 0, 1, 49, 50, 51, 100)
        for age in (1, 2, 3)
    ]
    chosen.shuffle(rows)
    now = timezone.now()
    return [
        (JobFactory(queue=queue, priority=priority, ready_at=now - timedelta(seconds=age)).id, queue, priority, age)
        for queue, priority, age in rows
    ]


def test_strict_queues_are_emptied_one_after_the_other(ours: Session) -> None:
    rows = shuffled_rows()
    lanes = Lanes(["mail", "default"], strict=True).next()

    claimed = [job.id for job in claim(ours, lanes=lanes)]

    assert claimed == [row[0] for row in sorted(rows, key=lambda row: (row[1] != "mail", -row[2], -row[3]))]


def test_priority_rules_over_all_queues_in_bands(ours: Session) -> None:
    rows = shuffled_rows()
    lanes = Lanes(["default", "mail"]).next()
    turn = [queue for queue, low, _ in lanes if low == 50]

    claimed = [job.id for job in claim(ours, lanes=lanes)]

    def place(row: tuple[UUID, str, int, int]) -> tuple[int, int, int, int]:
        _, queue, priority, age = row
        band = 0 if priority >= 50 else 2 if priority <= -50 else 1
        return band, turn.index(queue), -priority, -age

    assert claimed == [row[0] for row in sorted(rows, key=place)]


def test_one_by_one_is_the_same_order_as_all_at_once(ours: Session) -> None:
    shuffled_rows()
    lanes = Lanes(["mail", "default"], strict=True).next()
    at_once = claim(ours, lanes=lanes)
    ours.glance(Query("UPDATE jobs_job SET state = 'ready', worker = NULL, claimer = NULL"))

    one_by_one = [claim(ours, 1, lanes=lanes)[0].id for _ in at_once]

    assert one_by_one == [job.id for job in at_once]


def test_the_eldest_of_a_priority_comes_first(ours: Session) -> None:
    now = timezone.now()
    ids = [JobFactory(ready_at=now - timedelta(milliseconds=age)).id for age in (5, 900, 40)]

    assert [job.id for job in claim(ours)] == [ids[1], ids[2], ids[0]]


def test_every_priority_is_in_exactly_one_band(ours: Session) -> None:
    for priority in range(-100, 101):
        fill(ours, 1, priority=priority)

    claimed = [job.priority for job in claim(ours)]

    assert claimed == sorted(range(-100, 101), reverse=True)


def test_low_is_served_in_any_twenty_claims_under_endless_high(ours: Session) -> None:
    fill(ours, 3, priority=-50)
    lanes = Lanes(["default"])
    fill(ours, 60, priority=50)

    served = [claim(ours, 1, lanes=lanes.next())[0].priority for _ in range(60)]

    assert all(-50 in served[start : start + 20] for start in range(41))
    assert served.count(-50) == 3


@pytest.mark.parametrize("weights", [None, (1.0, 3.0)], ids=["by priority", "by weight"])
def test_low_is_served_in_any_twenty_claims_of_several_queues(ours: Session, weights: tuple[float, ...] | None) -> None:
    random.seed(3)
    for queue in ("default", "mail"):
        fill(ours, 100, priority=80, queue=queue)
    fill(ours, 10, priority=-80, queue="default")
    lanes = Lanes(["default", "mail"], weights=weights)

    served = [claim(ours, 1, lanes=lanes.next())[0].priority for _ in range(100)]

    assert all(-80 in served[start : start + 20] for start in range(81))


# Locks --------------------------------------------------------------------------------------------------------------


@pytest.mark.postgresql("two transactions that write are open at once")
def test_a_row_that_somebody_holds_is_passed_over_at_once(ours: Session) -> None:
    held, free = fill(ours, 2)
    ours.glance(Query("UPDATE jobs_job SET ready_at = ready_at - interval '1 hour' WHERE id = %s", (held,)))

    with open_transaction("holder") as holder:
        holder.run(Query("SELECT 1 FROM jobs_job WHERE id = %s FOR UPDATE", (held,)))
        claimed = claim(named("impatient", patience=2))

    assert [job.id for job in claimed] == [free]
    assert [job.id for job in claim(ours)] == [held]


@pytest.mark.postgresql("two transactions that write are open at once")
def test_a_row_being_claimed_by_another_is_passed_over_at_once(ours: Session) -> None:
    fill(ours, 4)

    with open_transaction("other") as other:
        theirs = {row[0] for row in other.run(claims.claim(2, 22, EVERYTHING, 2))}
        mine = {job.id for job in claim(ours)}
        other.commit()

    assert len(theirs) == len(mine) == 2
    assert not theirs & mine


@pytest.mark.postgresql("two transactions that write are open at once")
def test_a_claim_that_is_rolled_back_leaves_the_lease_as_it_was(ours: Session) -> None:
    (job,) = fill(ours, 1)

    with open_transaction("other") as other:
        other.run(claims.claim(2, 22, EVERYTHING, 2))
        other.rollback()

    assert [(mine.id, mine.lease) for mine in claim(ours)] == [(job, 1)]


def test_claimers_at_the_same_time_get_different_jobs(ours: Session) -> None:
    ids = fill(ours, 4000)

    def take(claimer: int) -> list[tuple[UUID, int]]:
        session = named(f"claimer-{claimer}")
        taken: list[tuple[UUID, int]] = []
        while jobs := claim(session, 1 + claimer * 13, worker=claimer, claimer=claimer):
            taken += [(job.id, job.lease) for job in jobs]
        session.close()
        return taken

    taken = [each for part in together(*(lambda n=n: take(n) for n in range(1, 6))) for each in part]

    # A claim that finds every row it wanted in other hands comes back empty though others are left.
    taken += [(job.id, job.lease) for job in claim(ours, 500)]
    assert len(taken) == len({job for job, _ in taken}) == 4000
    assert {job for job, _ in taken} == set(ids)
    assert {lease for _, lease in taken} == {1}
    assert set(column(ours, "SELECT lease FROM jobs_job")) == {1}


# The lease ----------------------------------------------------------------------------------------------------------


@settings(properties, max_examples=40)
@given(
    happened=st.lists(
        st.sampled_from([Happened.HANDED_BACK, Happened.UNKNOWN, Happened.FAILED, Happened.CRASHED, Happened.LOST]),
        max_size=12,
    )
)
def test_every_claim_raises_the_lease_by_one_and_nothing_lowers_it(ours: Session, happened: list[Happened]) -> None:
    ours.run(Query("DELETE FROM jobs_job"), durable=False)
    JobFactory(max_attempts=100)
    leases = []

    for each in happened:
        (job,) = claim(ours, 1)
        leases.append(job.lease)
        # Crashes are forgotten here, so that the row lives on however often it crashes.
        assert conclude(ours, [outcome(job._replace(crashes=0), each, retry_in=0.0)]) == {job.id}
        leases.append(value(ours, "SELECT lease FROM jobs_job"))
        ours.run(Query("UPDATE jobs_job SET state = 'ready' WHERE state <> 'ready'"), durable=False)

    assert leases == [lease for number in range(1, len(happened) + 1) for lease in (number, number)]


# Which queues there are ---------------------------------------------------------------------------------------------


def test_the_queues_that_have_something_ready_are_discovered(ours: Session) -> None:
    for queue, state, n in [
        ("mail", "ready", 3),
        ("a/b", "ready", 1),
        ("reports", "ready", 50),
        ("default", "running", 2),
        ("later", "scheduled", 2),
    ]:
        fill(ours, n, state, queue=queue)

    found = ours.run(Query(DISCOVER))

    assert found == [("a/b",), ("mail",), ("reports",)]


def test_nothing_ready_is_no_queue(ours: Session) -> None:
    fill(ours, 2, "running")

    assert ours.run(Query(DISCOVER)) == []


def test_any_queue_is_served_as_it_is_discovered(ours: Session) -> None:
    fill(ours, 2, queue="one")
    fill(ours, 2, queue="two")
    lanes = Lanes([], any_queue=True)

    lanes.discovered(ours.run(Query(DISCOVER)))

    assert len(claim(ours, lanes=lanes.next())) == 4
    lanes.discovered(ours.run(Query(DISCOVER)))
    assert {queue for queue, _, _ in lanes.next()} == {"one", "two"}, "remembered for a while"


def test_of_the_queues_in_which_nothing_is_a_few_are_remembered() -> None:
    lanes = Lanes([], any_queue=True)

    assert lanes.discovered([("a",)])
    for names in ("bc", "de", "fg"):
        assert lanes.discovered([(name,) for name in names])

    assert list(lanes.queues) == ["b", "c", "d", "e", "f", "g"]
    assert not lanes.discovered([("b",)]), "it was asked before"
    assert list(lanes.queues) == ["b", "d", "e", "f", "g"]


def test_when_a_look_for_queues_goes_with_a_claim() -> None:
    lanes = Lanes([], any_queue=True)
    assert lanes.wants_look(), "nothing is known yet"

    assert lanes.had(0, 4, [("a",)]), "there is a queue that was not asked"
    assert not lanes.wants_look()
    assert lanes.had(1, 4, None)
    assert lanes.wants_look(), "the claim brought less than was wanted"
    assert not lanes.had(0, 4, [("a",)]), "what is ready there is somebody else's"
    assert not Lanes(["a"]).wants_look()
    assert not Lanes(["a"]).had(0, 4, None)
