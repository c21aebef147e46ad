"""The board: shared memory made before the fork, on which every child says what it is doing.

It is how the supervisor knows what runs without asking anybody: a child that hangs or holds the GIL cannot answer.
A place is written by one process and read by others; a turn number at its start and the same at its end tell a reader
that it saw one writing, not halves of two. When the supervisor is gone, the board is gone with it.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from enum import IntEnum
from typing import NamedTuple
from uuid import UUID

HEAD = struct.Struct("=qiii")  # worker, phase, burst over, elders
CHILD = struct.Struct("=dqiidqi")  # stamp, claimer, idle, stepping, stepping since, doomed, backend
PLACE = struct.Struct("=q16siqddq")  # turn, job, lease, claimer, started, deadline, turn
TURN = struct.Struct("=q")
BACKEND = struct.Struct("=i")
KEPT = struct.Struct("=H")
ENDED = struct.Struct("=16siq?")  # job, lease, claimer, returned nothing
MOST_ENDED = 1024
NOTE = struct.Struct("=I")
NOTE_BYTES = 8192
NOBODY = bytes(16)
PAUSED = struct.Struct("=H")
PAUSED_BYTES = 8192

ALL_QUEUES = "*"
"""In place of the paused queues: take nothing from any."""


class Phase(IntEnum):
    """What the worker as a whole is doing."""

    RUN = 0
    DRAIN = 1
    """Finish what runs, take no more."""
    STOP = 2
    """Stop at once; what runs is handed back."""


class Running(NamedTuple):
    """A job that is being executed, as the board shows it."""

    place: int
    turn: int
    job: UUID
    lease: int
    claimer: int
    started: float
    """Monotonic."""
    deadline: float
    """Monotonic."""


class Ended(NamedTuple):
    """A sync job that has succeeded, and whose outcome may not be written yet."""

    job: UUID
    lease: int
    claimer: int
    empty: bool
    """Its result is nothing, so nothing of it is lost with the process."""


class Child:
    """One child's part of the board."""

    def __init__(self, memory: mmap.mmap, offset: int, places: int) -> None:
        self._memory = memory
        self._offset = offset
        self._first = offset + CHILD.size
        self._kept = self._first + places * PLACE.size
        self._ended = self._kept + KEPT.size + places * len(NOBODY)
        self._note = self._ended + KEPT.size + (MOST_ENDED * ENDED.size if places else 0)
        self._places = places
        self._turn = 0

    def clear(self) -> None:
        """Wipe everything; only while the child is dead."""
        end = self._note + NOTE.size
        self._memory[self._offset : end] = bytes(end - self._offset)

    # A sign of life -----------------------------------------------------------------------------------------------

    def stamp(self) -> None:
        struct.pack_into("=d", self._memory, self._offset, time.monotonic())

    @property
    def stamped(self) -> float:
        return float(CHILD.unpack_from(self._memory, self._offset)[0])

    # What a slot is up to -----------------------------------------------------------------------------------------

    @property
    def claimer(self) -> int:
        return int(CHILD.unpack_from(self._memory, self._offset)[1])

    @claimer.setter
    def claimer(self, number: int) -> None:
        struct.pack_into("=q", self._memory, self._offset + 8, number)

    @property
    def idle(self) -> bool:
        """It has nothing to run and sleeps until somebody wakes it."""
        return bool(CHILD.unpack_from(self._memory, self._offset)[2])

    @idle.setter
    def idle(self, value: bool) -> None:
        struct.pack_into("=i", self._memory, self._offset + 16, value)

    def stepping(self) -> tuple[int, float]:
        """The place whose coroutine the event loop executes right now (0: none), and since when."""
        fields = CHILD.unpack_from(self._memory, self._offset)
        return int(fields[3]), float(fields[4])

    def step_begins(self, place: int) -> None:
        struct.pack_into("=id", self._memory, self._offset + 20, place, time.monotonic())

    def step_ends(self) -> None:
        struct.pack_into("=i", self._memory, self._offset + 20, 0)

    @property
    def doomed(self) -> int:
        """Turn of the job that is at its limit, set by the supervisor; -1 once the slot has given it up."""
        return int(TURN.unpack_from(self._memory, self._offset + 32)[0])

    @doomed.setter
    def doomed(self, turn: int) -> None:
        struct.pack_into("=q", self._memory, self._offset + 32, turn)

    @property
    def backend(self) -> int:
        """The server's process for its connection, which its notifications come from; 0: none yet."""
        return int(BACKEND.unpack_from(self._memory, self._offset + 40)[0])

    @backend.setter
    def backend(self, number: int) -> None:
        BACKEND.pack_into(self._memory, self._offset + 40, number)

    # The jobs it executes -----------------------------------------------------------------------------------------

    def begin(self, place: int, job: UUID, lease: int, claimer: int, started: float, deadline: float) -> None:
        self._turn = turn = self._turn + 1
        offset = self._first + place * PLACE.size
        PLACE.pack_into(self._memory, offset, turn, job.bytes, lease, claimer, started, deadline, turn)

    def end(self, place: int) -> None:
        self._turn = turn = self._turn + 1
        offset = self._first + place * PLACE.size
        PLACE.pack_into(self._memory, offset, turn, NOBODY, 0, 0, 0.0, 0.0, turn)

    def at(self, place: int) -> Running | None:
        """The job at a place; None when it is free or just being written."""
        offset = self._first + place * PLACE.size
        # The turn at the end is read before all else and the one at the start after it: who writes begins at the
        # start, so a writing that began meanwhile shows there.
        (last,) = TURN.unpack_from(self._memory, offset + PLACE.size - TURN.size)
        _, job, lease, claimer, started, deadline, _ = PLACE.unpack_from(self._memory, offset)
        (first,) = TURN.unpack_from(self._memory, offset)
        # No turn is 0: `pack_into` wipes what it is about to write, so both may be read as 0 in two such moments.
        if job == NOBODY or first != last or not first:
            return None
        return Running(place, first, UUID(bytes=job), lease, claimer, started, deadline)

    def running(self) -> list[Running]:
        return [job for place in range(self._places) if (job := self.at(place)) is not None]

    # The jobs it has ended and not yet written -----------------------------------------------------------------------

    def keep(self, jobs: Iterable[UUID]) -> None:
        """Say which jobs, claimed under a former number, are still in the slot's hands, executed or not."""
        content = b"".join(job.bytes for job in jobs)[: self._places * len(NOBODY)]
        # Where the reader is cut off it sees the old ones or some of both, and none of them is anybody else's.
        start = self._kept + KEPT.size
        self._memory[start : start + len(content)] = content
        KEPT.pack_into(self._memory, self._kept, len(content) // len(NOBODY))

    def kept(self) -> list[UUID]:
        (count,) = KEPT.unpack_from(self._memory, self._kept)
        start = self._kept + KEPT.size
        content = self._memory[start : start + min(count, self._places) * len(NOBODY)]
        return [UUID(bytes=content[n : n + 16]) for n in range(0, len(content), 16)]

    def ended(self, job: UUID, lease: int, claimer: int, empty: bool) -> None:
        """A job has succeeded: should the process die before that is written, it need not run again."""
        (count,) = KEPT.unpack_from(self._memory, self._ended)
        if count < MOST_ENDED:
            offset = self._ended + KEPT.size + count * ENDED.size
            ENDED.pack_into(self._memory, offset, job.bytes, lease, claimer, empty)
            KEPT.pack_into(self._memory, self._ended, count + 1)

    def all_written(self) -> None:
        """Nothing that has ended waits to be written."""
        KEPT.pack_into(self._memory, self._ended, 0)

    def unwritten(self) -> list[Ended]:
        """What has succeeded and is perhaps not written; of a dead process, so nobody writes here."""
        (count,) = KEPT.unpack_from(self._memory, self._ended)
        start = self._ended + KEPT.size
        fields = (ENDED.unpack_from(self._memory, start + n * ENDED.size) for n in range(min(count, MOST_ENDED)))
        return [Ended(UUID(bytes=job), lease, claimer, empty) for job, lease, claimer, empty in fields]

    @property
    def has_worked(self) -> bool:
        """Whether it has begun any job since it was born."""
        return any(TURN.unpack_from(self._memory, self._first + place * PLACE.size)[0] for place in range(self._places))

    # Its last words -----------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Leave a text (a stack) for the supervisor; cut to what fits."""
        content = text.encode("utf-8", "replace")[-NOTE_BYTES:]
        self._memory[self._note + NOTE.size : self._note + NOTE.size + len(content)] = content
        NOTE.pack_into(self._memory, self._note, len(content))

    def noted(self) -> str:
        (length,) = NOTE.unpack_from(self._memory, self._note)
        start = self._note + NOTE.size
        return self._memory[start : start + min(length, NOTE_BYTES)].decode("utf-8", "replace")


class Board:
    """The whole board: keeper, relay, and `slots` slots of `places` places each, with a pipe to wake each slot."""

    def __init__(self, slots: int, places: int) -> None:
        caretaker = CHILD.size + 2 * KEPT.size + NOTE.size + NOTE_BYTES
        slot = caretaker + places * (PLACE.size + len(NOBODY)) + MOST_ENDED * ENDED.size
        first = HEAD.size + PAUSED.size + PAUSED_BYTES
        self._memory = mmap.mmap(-1, first + 2 * caretaker + slots * slot)
        self.keeper = Child(self._memory, first, 0)
        self.relay = Child(self._memory, first + caretaker, 0)
        first += 2 * caretaker
        self.slots = [Child(self._memory, first + n * slot, places) for n in range(slots)]
        self.pipes = [pipe() for _ in range(slots)]
        self.mover_pipe = pipe()

    @property
    def worker(self) -> int:
        """This worker's number in the database; 0 until the keeper has registered it."""
        return int(HEAD.unpack_from(self._memory, 0)[0])

    @worker.setter
    def worker(self, number: int) -> None:
        struct.pack_into("=q", self._memory, 0, number)

    @property
    def phase(self) -> Phase:
        return Phase(HEAD.unpack_from(self._memory, 0)[1])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        struct.pack_into("=i", self._memory, 8, phase)

    @property
    def burst_over(self) -> bool:
        """With --burst: the keeper has found nothing left to do."""
        return bool(HEAD.unpack_from(self._memory, 0)[2])

    @burst_over.setter
    def burst_over(self, value: bool) -> None:
        struct.pack_into("=i", self._memory, 12, value)

    @property
    def elders(self) -> int:
        """How many living workers were there before this one; the keeper writes it with each heartbeat."""
        return int(HEAD.unpack_from(self._memory, 0)[3])

    @elders.setter
    def elders(self, count: int) -> None:
        struct.pack_into("=i", self._memory, 16, count)

    @property
    def paused(self) -> str:
        """The queues that are paused, one a line, or ALL_QUEUES; the keeper writes it, each claim reads it.

        Who reads in the middle of a change sees some of both for one claim.
        """
        (length,) = PAUSED.unpack_from(self._memory, HEAD.size)
        if not length:
            return ""
        start = HEAD.size + PAUSED.size
        return self._memory[start : start + min(length, PAUSED_BYTES)].decode("utf-8", "replace")

    @paused.setter
    def paused(self, queues: str) -> None:
        content = queues.encode()[:PAUSED_BYTES]
        start = HEAD.size + PAUSED.size
        self._memory[start : start + len(content)] = content
        PAUSED.pack_into(self._memory, HEAD.size, len(content))

    def in_hands(self) -> list[UUID]:
        """The jobs that a living slot is executing or has yet to write the outcome of."""
        return [job.job for slot in self.slots for job in slot.running()] + [
            job for slot in self.slots for job in slot.kept()
        ]

    def backends(self) -> set[int]:
        """The server's processes for the relay and the slots."""
        return {child.backend for child in (self.relay, *self.slots)}

    def wake(self, slot: int) -> None:
        _write(self.pipes[slot][1])

    def wake_mover(self) -> None:
        """Have the mover look anew for what is due next, and at the outbox."""
        _write(self.mover_pipe[1])

    def idle(self) -> int:
        """How many slots have nothing to run."""
        return sum(slot.idle for slot in self.slots)

    def wake_idle(self, jobs: int) -> int:
        """Wake as many idle slots as there are jobs for; for how many there was none."""
        for number, slot in enumerate(self.slots):
            if jobs > 0 and slot.idle:
                self.wake(number)
                jobs -= 1
        return jobs

    def wake_all(self) -> None:
        for number in range(len(self.slots)):
            self.wake(number)


def pipe() -> tuple[int, int]:
    """A pipe whose two ends never block."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def _write(writer: int) -> None:
    with suppress(BlockingIOError):  # a full pipe wakes as well as an empty one
        os.write(writer, b"!")


def empty(reader: int) -> bool:
    """Read a wake pipe empty; whether there was anything in it."""
    try:
        return bool(os.read(reader, 4096))
    except BlockingIOError:
        return False
