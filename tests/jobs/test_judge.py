"""Who is to blame when a slot dies. Pure: the board as it was read goes in."""

from __future__ import annotations

import signal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.board import Ended, Running
from jobs.ids import new_id
from jobs.judge import BLOCKED, crashed, culprit, spared, spell, timed_out, with_ended
from jobs.outcome import Happened
from jobs.verdict import Channel, Fated, Verdict, from_message, to_message
from tests.support.floor import properties

KILLED = int(signal.SIGKILL)
"""The wait status of a process that SIGKILL ended."""


def at(place: int, *, started: float = 100.0, deadline: float = 160.0) -> Running:
    """A job at that place of the board; 0 is the sync job."""
    return Running(place, place + 1, new_id(), 3, 77, started, deadline)


def fates(fated: list[Fated]) -> dict[UUID, str]:
    return {UUID(one.job): one.happened for one in fated}


# A limit ------------------------------------------------------------------------------------------------------------


def test_a_sync_job_at_its_limit_is_its_own_culprit() -> None:
    late, other = at(0), at(4)

    assert culprit(late, [late, other], (4, 0.0), now=161.0) is late


def test_a_coroutine_that_blocks_the_loop_is_the_culprit_of_its_neighbours_limit() -> None:
    late, blocker = at(1), at(2, started=159.0, deadline=400.0)

    assert culprit(late, [late, blocker], (2, 160.0), now=161.0) is blocker


@pytest.mark.parametrize(
    ("stepping", "why"),
    [
        ((1, 100.0), "the loop is in the late one itself"),
        ((0, 100.0), "the loop is in nobody"),
        ((2, 161.0 - BLOCKED), "the other has only just been entered"),
        ((9, 100.0), "the place the loop is in has been freed"),
    ],
)
def test_otherwise_the_late_coroutine_is_its_own_culprit(stepping: tuple[int, float], why: str) -> None:
    late, other = at(1), at(2)

    assert culprit(late, [late, other], stepping, now=161.0) is late, why


def test_only_the_guilty_one_is_timed_out() -> None:
    late, neighbour, third = at(0), at(1), at(2)

    fated = timed_out([late, neighbour, third], late, "File x", now=161.5)

    assert fates(fated) == {
        late.job: Happened.TIMED_OUT,
        neighbour.job: Happened.HANDED_BACK,
        third.job: Happened.HANDED_BACK,
    }
    told = next(one for one in fated if one.happened == Happened.TIMED_OUT)
    assert (told.lease, told.claimer, told.ran) == (3, 77, 61.5)
    assert told.error == "TimedOut: killed at its limit of 60 s"
    assert told.stack == "File x"
    assert all(one.error == one.stack == "" for one in fated if one is not told)


def test_who_blocked_the_loop_before_its_own_limit_is_told_so() -> None:
    late, blocker = at(1), at(2, started=158.0, deadline=400.0)

    fated = timed_out([late, blocker], blocker, "", now=161.0)

    assert fates(fated) == {late.job: Happened.HANDED_BACK, blocker.job: Happened.TIMED_OUT}
    assert "blocked the event loop" in fated[1].error
    assert "3.0 s" in fated[1].error


# A crash ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "stepping", "guilty"),
    [
        ([0], 0, {0}),
        ([0, 1, 2], 0, {0}),
        ([0, 1, 2], 2, {0, 2}),
        ([1, 2, 3], 2, {2}),
        ([1, 2, 3], 0, {1, 2, 3}),
        ([1, 2], 3, {1, 2}),
        ([1], 0, {1}),
        ([], 0, set()),
        ([], 4, set()),
    ],
)
def test_who_may_have_crashed_the_process(places: list[int], stepping: int, guilty: set[int]) -> None:
    running = [at(place) for place in places]

    fated = fates(crashed(running, stepping, KILLED, now=120.0))

    assert {job.place for job in running if fated[job.job] == Happened.CRASHED} == guilty
    assert {job.place for job in running if fated[job.job] == Happened.HANDED_BACK} == set(places) - guilty


def test_a_crash_says_how_the_process_ended() -> None:
    (one,) = crashed([at(0)], 0, KILLED, now=101.0)

    assert one.error == "its process died: killed by SIGKILL"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit status 0"),
        (70 << 8, "exit status 70"),
        (int(signal.SIGSEGV), "killed by SIGSEGV"),
        (int(signal.SIGSEGV) | 0x80, "killed by SIGSEGV"),
        (40, "killed by signal 40"),
    ],
)
def test_a_wait_status_in_words(status: int, words: str) -> None:
    assert spell(status) == words


def test_a_stop_that_is_no_jobs_fault_charges_nobody() -> None:
    running = [at(0), at(1), at(5)]

    fated = spared(running, now=130.0)

    assert set(fates(fated).values()) == {Happened.HANDED_BACK}
    assert [one.ran for one in fated] == [30.0] * 3


@properties
@given(
    places=st.sets(st.integers(0, 6)),
    stepping=st.integers(0, 6),
    now=st.floats(100, 1000),
    why=st.sampled_from(["timeout", "crash", "stop"]),
)
def test_every_job_on_the_board_gets_one_fate_and_somebody_is_to_blame(
    places: set[int], stepping: int, now: float, why: str
) -> None:
    running = [at(place) for place in sorted(places)]

    if why == "timeout" and running:
        guilty = culprit(running[0], running, (stepping, 100.0), now)
        fated = timed_out(running, guilty, "", now)
        blamed = 1
    elif why == "crash":
        fated = crashed(running, stepping, KILLED, now)
        blamed = min(1, len(running))
    else:
        fated = spared(running, now)
        blamed = 0

    assert [UUID(one.job) for one in fated] == [job.job for job in running]
    charged = [one for one in fated if one.happened != Happened.HANDED_BACK]
    assert len(charged) >= blamed
    assert not (blamed == 0 and charged)


def test_what_had_succeeded_is_not_judged() -> None:
    """It stands on the board as running for a moment longer, and its process died just then."""
    running = [at(0), at(3)]
    ended = [
        Ended(running[0].job, running[0].lease, running[0].claimer, True),
        Ended(uuid4(), 5, 6, False),
    ]

    fated = with_ended(crashed(running, 0, KILLED, 100.0), ended)

    assert [(UUID(one.job), one.happened) for one in fated] == [
        (ended[0].job, Happened.SUCCEEDED),
        (ended[1].job, Happened.RESULT_LOST),
        (running[1].job, Happened.HANDED_BACK),
    ]


# The verdict's way to the keeper ------------------------------------------------------------------------------------

texts = st.text(max_size=50)


@properties
@given(
    st.integers(0, 2**40),
    texts,
    st.lists(
        st.builds(
            Fated,
            job=st.uuids().map(str),
            lease=st.integers(1, 2**31 - 1),
            claimer=st.integers(1, 2**62),
            happened=st.sampled_from(list(Happened)),
            ran=st.floats(0, 1e9),
            error=texts,
            stack=texts,
        ),
        max_size=4,
    ),
)
def test_a_verdict_arrives_as_it_was_sent(number: int, session: str, jobs: list[Fated]) -> None:
    import socket

    verdict = Verdict(number, session, jobs)
    ends = [Channel(end) for end in socket.socketpair()]

    ends[0].send(to_message(verdict))
    ends[0].send({"told": True})
    received = list(ends[1].receive())
    for end in ends:
        end.close()

    assert from_message(received[0]) == verdict
    assert received[1:] == [{"told": True}]
