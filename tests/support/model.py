"""A small model of one job between two workers, a rescuer and an operator, in which all interleavings are walked.

Anybody may pause for as long as he likes between two steps: a worker that is stopped is one whose turn does not come,
a rescuer that is wrong is one that acts too soon. Numbers that only the model has (`serial`: which claim a memory is
of) tell whether a write was accepted from somebody whose claim was over; a fence must do so without them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

MAX_ATTEMPTS = MAX_CRASHES = 2
MOST_REQUEUES = MOST_HAND_BACKS = 1
WORKERS = (0, 1)


class Memory(NamedTuple):
    """What somebody knows of a claim: a worker, the supervisor of a dead slot, the rescuer."""

    serial: int
    lease: int
    claimer: int
    attempts: int
    crashes: int
    started: bool = False


class World(NamedTuple):
    """The row, and what everybody remembers."""

    state: str = "ready"
    lease: int = 0
    claimer: int = -1
    attempts: int = 0
    crashes: int = 0
    hands: tuple[Memory | None, ...] = (None, None)
    verdicts: tuple[Memory | None, ...] = (None, None)
    looked: Memory | None = None
    serial: int = 0
    """Which claim is the right one."""
    requeues: int = 0
    hand_backs: int = 0
    ran_unseen: bool = False
    """It has been started, nobody has seen an outcome, and no person has decided since."""
    wrong: str = ""


Fence = Callable[[World, Memory], bool]

FENCES: dict[str, Fence] = {
    "lease and claimer": lambda w, m: w.state == "running" and (w.lease, w.claimer) == (m.lease, m.claimer),
    "none": lambda w, m: w.state in ("ready", "retrying", "running"),
    "state": lambda w, m: w.state == "running",
    "attempt": lambda w, m: w.state == "running" and w.attempts == m.attempts,
    "lease": lambda w, m: w.state == "running" and w.lease == m.lease,
}


@dataclass(frozen=True)
class Rules:
    """The system as it is; the tests break one at a time."""

    fence: Fence = FENCES["lease and claimer"]
    at_most_once: bool = False
    requeue_keeps_the_lease: bool = True
    a_lost_one_is_dead: bool = True
    """Of at_most_once."""


class Step(NamedTuple):
    """What somebody does; `who` is a worker where it is one's."""

    name: str
    who: int = 0


def steps(w: World, rules: Rules) -> Iterator[tuple[Step, World]]:
    """Everything that can happen next."""
    for who in WORKERS:
        yield from _of_worker(w, who, rules)
    if w.state == "running":
        memory = Memory(w.serial, w.lease, w.claimer, w.attempts, w.crashes)
        if w.looked != memory:
            yield Step("look"), w._replace(looked=memory)
    if w.looked is not None:
        yield Step("rescue"), _lost(w, w.looked, rules)._replace(looked=None)
    if w.state == "retrying":
        yield Step("promote"), w._replace(state="ready")
    if w.state in ("dead", "cancelled") and w.requeues < MOST_REQUEUES:
        lease = w.lease if rules.requeue_keeps_the_lease else 0
        yield (
            Step("requeue"),
            w._replace(state="ready", lease=lease, attempts=0, crashes=0, requeues=w.requeues + 1, ran_unseen=False),
        )
    if w.state in ("ready", "retrying") and w.requeues < MOST_REQUEUES:
        yield Step("cancel"), w._replace(state="cancelled")


def _of_worker(w: World, who: int, rules: Rules) -> Iterator[tuple[Step, World]]:
    mine, verdict = w.hands[who], w.verdicts[who]
    if mine is None and w.state == "ready":
        memory = Memory(w.serial + 1, w.lease + 1, who, w.attempts, w.crashes)
        after = w._replace(state="running", lease=w.lease + 1, claimer=who, serial=w.serial + 1)
        if rules.at_most_once and w.ran_unseen:
            after = after._replace(wrong="claimed again though it may have run")
        yield Step("claim", who), _hand(after, who, memory)
    if mine is not None and not mine.started:
        fresh = mine.serial == w.serial and w.state == "running"
        begun = w._replace(ran_unseen=w.ran_unseen or fresh)
        yield Step("start", who), _hand(begun, who, mine._replace(started=True))
        if w.hand_backs < MOST_HAND_BACKS:
            back = _write(w, mine, rules, state="ready", hand_backs=w.hand_backs + 1)
            yield Step("hand back", who), _hand(back, who, None)
    if mine is not None and mine.started:
        done = _write(w, mine, rules, state="succeeded", attempts=mine.attempts + 1)
        yield Step("succeed", who), _hand(done, who, None)
        spent = mine.attempts + 1
        state = "retrying" if spent < MAX_ATTEMPTS else "dead"
        failed = _write(w, mine, rules, state=state, attempts=spent, ran_unseen=False)
        yield Step("fail", who), _hand(failed, who, None)
    if mine is not None and verdict is None and (mine.started or w.hand_backs < MOST_HAND_BACKS):
        died = w._replace(verdicts=_put(w.verdicts, who, mine), hand_backs=w.hand_backs + (not mine.started))
        yield Step("die", who), _hand(died, who, None)
    if verdict is not None:
        after = _lost(w, verdict, rules) if verdict.started else _write(w, verdict, rules, state="ready")
        yield Step("verdict", who), after._replace(verdicts=_put(w.verdicts, who, None))


def _lost(w: World, m: Memory, rules: Rules) -> World:
    crashes = m.crashes + 1
    over = crashes >= MAX_CRASHES or (rules.at_most_once and rules.a_lost_one_is_dead)
    return _write(w, m, rules, state="dead" if over else "ready", crashes=crashes)


def _write(w: World, m: Memory, rules: Rules, **changes: object) -> World:
    """A write as its fence lets it through, and what is wrong with it."""
    if not rules.fence(w, m):
        return w
    after = w._replace(claimer=-1, **changes)  # type: ignore[arg-type]
    if m.serial != w.serial or w.state != "running":
        return after._replace(wrong="a stale write was accepted")
    return after


def _hand(w: World, who: int, memory: Memory | None) -> World:
    return w._replace(hands=_put(w.hands, who, memory))


def _put(places: tuple[Memory | None, ...], who: int, memory: Memory | None) -> tuple[Memory | None, ...]:
    return (*places[:who], memory, *places[who + 1 :])


# Walking it ---------------------------------------------------------------------------------------------------------

ENDED = ("succeeded", "dead", "cancelled")
BY_PEOPLE = ("requeue", "cancel")


@dataclass
class Walk:
    """All worlds that can come about, and how."""

    worlds: dict[World, tuple[World, Step] | None]
    edges: int
    wrong: str
    """The first thing that went wrong; the walk ends there."""
    path: list[Step]
    stuck: int = 0
    """Worlds from which the machine alone reaches no end."""


def walk(rules: Rules) -> Walk:
    """Breadth first, so that `path` is the shortest way to what went wrong."""
    start = World()
    found: dict[World, tuple[World, Step] | None] = {start: None}
    back: dict[World, list[World]] = {}
    front, edges = deque([start]), 0
    while front:
        world = front.popleft()
        for step, after in steps(world, rules):
            edges += 1
            if step.name not in BY_PEOPLE:
                back.setdefault(after, []).append(world)
            if after in found:
                continue
            found[after] = (world, step)
            if after.wrong:
                return Walk(found, edges, after.wrong, path_to(found, after))
            front.append(after)
    ends = deque(world for world in found if world.state in ENDED)
    reached = set(ends)
    while ends:
        for before in back.get(ends.popleft(), ()):
            if before not in reached:
                reached.add(before)
                ends.append(before)
    return Walk(found, edges, "", [], len(found) - len(reached))


def path_to(found: dict[World, tuple[World, Step] | None], world: World) -> list[Step]:
    path: list[Step] = []
    while (before := found[world]) is not None:
        world, step = before
        path.append(step)
    return path[::-1]
