"""The board: what one process writes, the others read whole or not at all."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from itertools import combinations
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.board import NOTE_BYTES, PLACE, TURN, Board, Child, Ended, Phase, Running, empty, pipe
from tests.support.alone import run_alone
from tests.support.floor import properties

PLACES = 3


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board(2, PLACES)
    yield made
    for end in [*made.pipes, made.mover_pipe]:
        os.close(end[0])
        os.close(end[1])


def memory_of(slot: Child, place: int) -> slice:
    """Where in the memory that place is."""
    start = slot._first + place * PLACE.size
    return slice(start, start + PLACE.size)


# Jobs ---------------------------------------------------------------------------------------------------------------


def test_a_new_board_is_empty(board: Board) -> None:
    assert (board.worker, board.phase, board.burst_over) == (0, Phase.RUN, False)
    for slot in board.slots:
        assert (slot.running(), slot.claimer, slot.idle, slot.doomed, slot.noted()) == ([], 0, False, 0, "")
        assert slot.stepping() == (0, 0.0)


def test_what_begins_is_on_the_board_until_it_ends(board: Board) -> None:
    slot, job = board.slots[0], uuid4()

    slot.begin(1, job, 7, 2**62, 100.5, 160.5)
    begun = slot.running()
    slot.end(1)

    assert begun == [Running(1, 1, job, 7, 2**62, 100.5, 160.5)]
    assert slot.running() == []


def test_every_change_is_a_new_turn(board: Board) -> None:
    slot, job = board.slots[0], uuid4()
    turns = []

    for _ in range(3):
        slot.begin(0, job, 1, 1, 0.0, 1.0)
        turns.append(slot.running()[0].turn)
        slot.end(0)

    assert len(set(turns)) == 3
    assert turns == sorted(turns)


def test_places_and_slots_do_not_run_into_one_another(board: Board) -> None:
    jobs = {(slot, place): uuid4() for slot in range(2) for place in range(PLACES)}

    for (slot, place), job in jobs.items():
        board.slots[slot].begin(place, job, 2**31 - 1, 2**63 - 1, 1e308, 1e308)
    for slot in board.slots:
        slot.note("x" * NOTE_BYTES)
        slot.claimer = slot.doomed = -1

    assert {(n, job.place): job.job for n, slot in enumerate(board.slots) for job in slot.running()} == jobs
    board.slots[0].clear()
    assert board.slots[0].running() == []
    assert [job.job for job in board.slots[1].running()] == [jobs[1, place] for place in range(PLACES)]
    assert board.slots[1].noted() == "x" * NOTE_BYTES
    assert (board.keeper.stamped, board.relay.stamped, board.worker) == (0.0, 0.0, 0)


def test_ending_one_place_leaves_the_others(board: Board) -> None:
    slot, jobs = board.slots[0], [uuid4() for _ in range(PLACES)]
    for place, job in enumerate(jobs):
        slot.begin(place, job, 1, 1, 0.0, 1.0)

    slot.end(1)

    assert [(job.place, job.job) for job in slot.running()] == [(0, jobs[0]), (2, jobs[2])]
    assert slot.at(1) is None


def test_a_clear_wipes_all_but_the_neighbours(board: Board) -> None:
    slot = board.slots[0]
    slot.stamp()
    slot.claimer, slot.idle, slot.doomed = 5, True, 9
    slot.step_begins(2)
    slot.begin(0, uuid4(), 1, 1, 0.0, 1.0)
    slot.note("last words")

    slot.clear()

    assert (slot.running(), slot.claimer, slot.idle, slot.doomed, slot.noted()) == ([], 0, False, 0, "")
    assert (slot.stamped, slot.stepping()) == (0.0, (0, 0.0))


# Torn writes --------------------------------------------------------------------------------------------------------


def test_a_writing_that_is_cut_off_anywhere_is_not_read(board: Board) -> None:
    """Whoever is stopped in the middle of a write leaves the beginning of the new and the end of the old."""
    slot = board.slots[0]
    where = memory_of(slot, 1)
    slot.begin(1, UUID(int=2**128 - 1), 2**31 - 1, 2**63 - 1, 3.3, 4.4)
    old = slot._memory[where]
    slot._turn = 2**60
    slot.begin(1, UUID(int=1), 1, 1, 1.1, 2.2)
    new = slot._memory[where]

    read = []
    for cut in range(PLACE.size + 1):
        slot._memory[where] = new[:cut] + old[cut:]
        read.append(slot.at(1))

    whole = {Running(1, 1, UUID(int=2**128 - 1), 2**31 - 1, 2**63 - 1, 3.3, 4.4)}
    whole |= {Running(1, 2**60 + 1, UUID(int=1), 1, 1, 1.1, 2.2)}
    assert {job for job in read if job is not None} == whole
    assert read[1:-1].count(None) > PLACE.size - 20


def test_an_end_that_is_cut_off_shows_the_job_or_nothing(board: Board) -> None:
    slot, job = board.slots[0], uuid4()
    slot.begin(0, job, 5, 6, 1.0, 2.0)
    where = memory_of(slot, 0)
    old = slot._memory[where]
    slot.end(0)
    new = slot._memory[where]

    for cut in range(PLACE.size + 1):
        slot._memory[where] = new[:cut] + old[cut:]
        assert slot.at(0) in (None, Running(0, 1, job, 5, 6, 1.0, 2.0))


def test_a_place_that_is_being_wiped_holds_nobody(board: Board) -> None:
    """What `pack_into` is about to write it first fills with zeros: a reader may meet two such moments, with some of a
    writing in between."""
    slot = board.slots[0]
    slot.begin(0, uuid4(), 3, 4, 5.0, 6.0)
    assert slot.at(0) is not None
    first = slot._first
    for turn in (first, first + PLACE.size - TURN.size):
        TURN.pack_into(slot._memory, turn, 0)

    assert slot.at(0) is None


def test_a_reader_never_sees_halves_while_another_process_writes() -> None:
    """The turn at the end has to be read before the one at the start, or a writer that overtakes is not noticed."""
    seen = run_alone(
        """
        import json, os, time
        from uuid import UUID
        from jobs.board import Board

        slot = Board(1, 1).slots[0]
        writer = os.fork()
        if not writer:
            number, until = 0, time.monotonic() + 4
            while time.monotonic() < until:
                for _ in range(1000):
                    number += 1
                    slot.begin(0, UUID(int=number), number, number, float(number), float(number))
            os._exit(0)
        whole, halves, until = 0, 0, time.monotonic() + 3
        while time.monotonic() < until and halves < 3:
            for _ in range(1000):
                job = slot.at(0)
                if job is not None:
                    same = job.job.int == job.lease == job.claimer == job.started == job.deadline
                    whole, halves = whole + same, halves + (not same)
        os.kill(writer, 9)
        os.wait()
        print(json.dumps([whole, halves]))
        """
    )

    assert seen[0] > 1000
    assert seen[1] == 0


def test_what_has_ended_is_told_until_it_is_written(board: Board) -> None:
    slot, neighbour = board.slots[0], board.slots[1]
    jobs = [uuid4() for _ in range(3)]
    for n, job in enumerate(jobs):
        slot.ended(job, n + 1, 7, n == 1)

    told = slot.unwritten()
    slot.note("stack")

    assert told == slot.unwritten() == [Ended(job, n + 1, 7, n == 1) for n, job in enumerate(jobs)]
    assert neighbour.unwritten() == []
    slot.all_written()
    assert slot.unwritten() == []
    assert slot.noted() == "stack"


def test_more_than_it_can_hold_has_ended(board: Board) -> None:
    slot = board.slots[0]
    for n in range(2000):
        slot.ended(UUID(int=n + 1), 1, 1, True)

    assert [ended.job.int for ended in slot.unwritten()] == list(range(1, 1025))


def test_whether_it_has_begun_a_job(board: Board) -> None:
    slot = board.slots[0]
    before = slot.has_worked
    slot.begin(1, uuid4(), 1, 1, 1.0, 2.0)
    slot.end(1)

    assert (before, slot.has_worked) == (False, True)
    slot.clear()
    assert not slot.has_worked


# Other signs --------------------------------------------------------------------------------------------------------


def test_the_signs_of_a_slot_do_not_disturb_one_another(board: Board) -> None:
    slot = board.slots[1]
    signs = {
        "claimer": (2**62, lambda: slot.claimer),
        "idle": (True, lambda: slot.idle),
        "doomed": (-1, lambda: slot.doomed),
    }

    for first, second in combinations(signs, 2):
        slot.clear()
        setattr(slot, first, signs[first][0])
        setattr(slot, second, signs[second][0])

        assert signs[first][1]() == signs[first][0]
        assert signs[second][1]() == signs[second][0]
        assert slot.stepping() == (0, 0.0)
        assert slot.stamped == 0.0


def test_a_stamp_is_now(board: Board) -> None:
    before = time.monotonic()

    board.keeper.stamp()

    assert before <= board.keeper.stamped <= time.monotonic()
    assert board.relay.stamped == 0.0


def test_which_coroutine_the_loop_is_in_and_since_when(board: Board) -> None:
    slot = board.slots[0]
    before = time.monotonic()

    slot.step_begins(2)
    place, since = slot.stepping()
    slot.step_ends()

    assert place == 2
    assert before <= since <= time.monotonic()
    assert slot.stepping()[0] == 0


@pytest.mark.parametrize("phase", Phase)
def test_worker_phase_and_burst_stand_side_by_side(board: Board, phase: Phase) -> None:
    board.worker = 2**63 - 1
    board.phase = phase
    board.burst_over = True

    assert (board.worker, board.phase, board.burst_over) == (2**63 - 1, phase, True)
    board.worker, board.burst_over = 0, False
    assert (board.worker, board.phase, board.burst_over) == (0, phase, False)


# Last words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "File x, line 1", "ä" * 10, "𝄞\x00\n"])
def test_a_note_is_read_as_it_was_written(board: Board, text: str) -> None:
    board.slots[0].note(text)

    assert board.slots[0].noted() == text
    assert board.slots[1].noted() == ""


def test_of_a_long_note_the_end_is_kept(board: Board) -> None:
    board.slots[0].note("x" * NOTE_BYTES + "the end")

    assert board.slots[0].noted() == "x" * (NOTE_BYTES - 7) + "the end"


@properties
@given(st.text(st.characters(), min_size=1, max_size=40), st.integers(1, 1000))
def test_any_note_can_be_read_back_within_its_size(text: str, times: int) -> None:
    slot = Child(mmap.mmap(-1, 3 * NOTE_BYTES), 0, 0)

    slot.note(text * times)

    assert len(slot.noted().encode()) <= 3 * NOTE_BYTES
    if len((text * times).encode("utf-8", "replace")) <= NOTE_BYTES:
        assert slot.noted() == (text * times).encode("utf-8", "replace").decode()


def test_a_shorter_note_leaves_nothing_of_the_longer_one(board: Board) -> None:
    board.slots[0].note("a long story")
    board.slots[0].note("short")

    assert board.slots[0].noted() == "short"


# Wake-ups -----------------------------------------------------------------------------------------------------------


def woken(board: Board) -> list[bool]:
    return [empty(reader) for reader, _ in board.pipes]


def test_a_wake_up_is_heard_once_by_the_one_it_is_for(board: Board) -> None:
    board.wake(1)
    board.wake(1)

    assert woken(board) == [False, True]
    assert woken(board) == [False, False]


@pytest.mark.parametrize(
    ("idle", "jobs", "expected"),
    [
        ([True, True], 1, [True, False]),
        ([True, True], 9, [True, True]),
        ([False, True], 1, [False, True]),
        ([False, False], 5, [False, False]),
        ([True, True], 0, [False, False]),
    ],
)
def test_as_many_idle_slots_are_woken_as_there_are_jobs(
    board: Board, idle: list[bool], jobs: int, expected: list[bool]
) -> None:
    for slot, value in zip(board.slots, idle, strict=True):
        slot.idle = value

    assert board.idle() == sum(idle)
    assert board.wake_idle(jobs) == jobs - sum(expected)
    assert woken(board) == expected


def test_all_are_woken_busy_or_not(board: Board) -> None:
    board.wake_all()

    assert woken(board) == [True, True]


def test_the_mover_has_a_pipe_of_its_own(board: Board) -> None:
    board.wake_mover()

    assert empty(board.mover_pipe[0])
    assert woken(board) == [False, False]


def test_a_full_pipe_never_blocks_the_one_who_wakes() -> None:
    reader, writer = pipe()
    written = os.write(writer, b"!" * 10_000_000)
    with pytest.raises(BlockingIOError):
        os.write(writer, b"!")
    os.close(reader)
    os.close(writer)

    assert written < 10_000_000


def test_waking_into_a_full_pipe_is_nothing(board: Board) -> None:
    for _ in range(70_000):
        board.wake(0)

    assert empty(board.pipes[0][0])


# Several processes --------------------------------------------------------------------------------------------------


def test_what_children_write_their_parent_reads_after_they_were_killed() -> None:
    seen = run_alone(
        """
        import json, os, time
        from uuid import UUID
        from jobs import child
        from jobs.board import Board, Phase

        board = Board(3, 5)
        go, gone = os.pipe()

        def run(number):
            slot = board.slots[number]
            slot.claimer = 100 + number
            for place in range(5):
                slot.begin(place, UUID(int=10 * number + place + 1), number, slot.claimer, 1.0, 2.0)
            slot.end(number)
            slot.note(f"note of {number}")
            slot.stamp()
            os.write(gone, b"!")
            while board.phase is Phase.RUN:
                time.sleep(0.01)
            return 40 + number

        pids = [child.fork(lambda n=n: run(n), f"slot {n}") for n in range(3)]
        for _ in pids:
            os.read(go, 1)
        os.kill(pids[1], 9)
        board.phase = Phase.DRAIN
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps({
            "codes": codes,
            "jobs": [[job.job.int for job in slot.running()] for slot in board.slots],
            "claimers": [slot.claimer for slot in board.slots],
            "notes": [slot.noted() for slot in board.slots],
        }))
        """
    )

    assert seen == {
        "codes": [40, -9, 42],
        "jobs": [[2, 3, 4, 5], [11, 13, 14, 15], [21, 22, 24, 25]],
        "claimers": [100, 101, 102],
        "notes": ["note of 0", "note of 1", "note of 2"],
    }
