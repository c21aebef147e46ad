"""Children that die with their parent, and trees that are killed to the last leaf. Each in a process of its own."""

from __future__ import annotations

import os
import sys

import pytest

from jobs import child
from tests.support.alone import run_alone

pytestmark = [
    pytest.mark.kills,
    pytest.mark.skipif(sys.platform != "linux", reason="subreapers and PDEATHSIG are Linux's"),
]

# What the programs below share: a process that adopts what its descendants leave behind, and processes to leave.
COMMON = """
import json, os, signal, sys, time
from jobs import child

def parent_of(pid):
    return {p.pid: p.parent for p in child.process_table()}.get(pid)

def until(condition, what="it", within=8):
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not in time: {what}")
        time.sleep(0.005)

def gone(*pids):
    alive = {p.pid: p.parent for p in child.process_table()}
    return not any(pid in alive for pid in pids)

def hang():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        time.sleep(60)

def fork(run):
    pid = os.fork()
    if not pid:
        try:
            run()
        finally:
            os._exit(1)
    return pid

reader, writer = os.pipe()

def tell(*pids):
    os.write(writer, (json.dumps(pids) + "\\n").encode())

def told():
    return json.loads(os.read(reader, 4096))

def daemon():
    # In a session of its own, its parent gone: nobody's child but the subreaper's.
    os.setsid()
    fork(lambda: (tell(os.getpid()), hang()))
    os._exit(0)

def slot_with_daemon():
    return child.fork(lambda: (os.waitpid(fork(daemon), 0), hang()), "slot", subreaper=True)

def done(**said):
    print(json.dumps(said))
"""


def alone(code: str) -> dict[str, object]:
    return run_alone(COMMON + code)  # type: ignore[no-any-return]


def test_a_tree_is_killed_with_its_daemon_in_its_own_session() -> None:
    seen = alone("""
slot = slot_with_daemon()
(orphan,) = told()
until(lambda: parent_of(orphan) == slot, "adopted")
child.kill_tree(slot)
os.waitpid(slot, 0)
until(lambda: gone(orphan))
done(gone=gone(slot, orphan))
""")

    assert seen["gone"] is True


def test_the_daemon_of_a_neighbour_is_left_alone() -> None:
    seen = alone("""
victim, neighbour = slot_with_daemon(), None
(its,) = told()
neighbour = slot_with_daemon()
(others,) = told()
until(lambda: parent_of(its) == victim and parent_of(others) == neighbour, "both adopted")
child.kill_tree(victim)
os.waitpid(victim, 0)
until(lambda: gone(its))
alive = [not gone(neighbour), not gone(others), parent_of(others) == neighbour]
stopped = open(f"/proc/{others}/stat").read().rpartition(")")[2].split()[0]
child.kill_tree(neighbour)
os.waitpid(neighbour, 0)
until(lambda: gone(others))
done(alive=alive, stopped=stopped, all_gone=gone(victim, its, neighbour, others))
""")

    assert seen["alive"] == [True, True, True]
    assert seen["stopped"] in "SR"
    assert seen["all_gone"] is True


def test_a_deep_tree_and_many_children_are_killed() -> None:
    seen = alone("""
def chain(depth):
    tell(os.getpid())
    if depth:
        fork(lambda: chain(depth - 1))
    hang()

slot = child.fork(lambda: ([fork(lambda: chain(3)) for _ in range(10)], hang()), "slot", subreaper=True)
pids = []
while len(pids) < 40:
    pids += [json.loads(line)[0] for line in os.read(reader, 65536).splitlines()]
found = set(child.descendants(slot))
child.kill_tree(slot)
os.waitpid(slot, 0)
until(lambda: gone(*pids))
done(found=found == set(pids), gone=gone(slot, *pids))
""")

    assert seen == {"found": True, "gone": True}


def test_a_tree_that_forks_on_and_on_is_killed() -> None:
    """Each lives for a millisecond and leaves a successor: a walk alone is always a step behind."""
    seen = alone("""
child.prctl(child.PR_SET_CHILD_SUBREAPER, 1)  # what gets away from the slot comes to us
until_when = time.monotonic() + 5  # and ends by itself, should it get away

def fast():
    tell(os.getpid())
    while time.monotonic() < until_when:
        if os.fork():
            os._exit(0)

slot = child.fork(lambda: ([fork(fast) for _ in range(2)], hang()), "slot", subreaper=True)
os.read(reader, 65536)  # it forks
child.kill_tree(slot)
os.waitpid(slot, 0)
looks = [bool(child.descendants(os.getpid())) for _ in range(100)]
while True:
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        break
done(got_away=any(looks))
""")

    assert seen["got_away"] is False


def test_a_process_that_is_stopped_or_blocks_all_signals_is_killed() -> None:
    seen = alone("""
slot = child.fork(lambda: (fork(lambda: (tell(os.getpid()), hang())), hang()), "slot", subreaper=True)
(pid,) = told()
os.kill(pid, signal.SIGSTOP)
os.kill(slot, signal.SIGSTOP)
child.kill_tree(slot)
status = os.waitpid(slot, 0)[1]
until(lambda: gone(pid))
done(by=os.WTERMSIG(status))
""")

    assert seen["by"] == 9


def test_killing_what_is_not_there_is_nothing() -> None:
    seen = alone("""
slot = child.fork(lambda: 0, "slot")
os.waitpid(slot, 0)
began = time.monotonic()
child.kill_tree(slot)
child.kill(slot, 9)
done(below=child.descendants(slot), took=time.monotonic() - began)
""")

    assert seen["below"] == []
    assert seen["took"] < 1  # type: ignore[operator]


def test_descendants_come_after_their_parents_and_are_no_one_elses() -> None:
    seen = alone("""
def family():
    fork(lambda: (fork(lambda: (tell(os.getppid(), os.getpid()), hang())), hang()))
    hang()

mine = child.fork(family, "slot")
parent, grandchild = told()
other = child.fork(family, "slot")
theirs = told()
below, all_below = child.descendants(mine), child.descendants(os.getpid())
child.kill_tree(mine)
child.kill_tree(other)
for pid in (mine, other):
    os.waitpid(pid, 0)
done(below=below == [parent, grandchild], all=set(all_below) == {mine, other, parent, grandchild, *theirs})
""")

    assert seen == {"below": True, "all": True}


def test_a_child_leaves_by_what_it_returns() -> None:
    seen = alone("""
import atexit
atexit.register(lambda: print("the parent's"))
codes = []
for run in (lambda: 0, lambda: 7, lambda: 1 / 0, lambda: sys.exit(3)):
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child.fork(run, "x"), 0)[1]))
atexit._clear()
done(codes=codes)
""")

    assert seen["codes"] == [0, 7, 70, 70]


def test_a_child_dies_with_its_parent() -> None:
    seen = alone("""
def middle():
    tell(child.fork(hang, "leaf"))
    hang()

pid = fork(middle)
(leaf,) = told()
alive = not gone(leaf)
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
until(lambda: gone(leaf))
done(alive=alive, gone=gone(leaf))
""")

    assert seen == {"alive": True, "gone": True}


def test_a_child_is_deaf_to_the_terminal_and_has_its_own_session_title_and_chance() -> None:
    seen = alone("""
import random
random.seed(1)
def run():
    ignored = [signal.getsignal(n) == signal.SIG_IGN for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    said = [ignored, os.getsid(0) == os.getpid(), open("/proc/self/comm").read().strip(), random.random()]
    os.write(writer, json.dumps(said).encode())
    return 0

def answer():
    os.waitpid(child.fork(run, "jobs a title that is far too long"), 0)
    return json.loads(os.read(reader, 4096))

one, other = answer(), answer()
done(one=one[:3], chance=one[3] != other[3])
""")

    assert seen["one"] == [[True, True, True], True, "jobs a title th"]
    assert seen["chance"] is True


def test_the_process_table_knows_us_and_our_parent() -> None:
    table = {p.pid: p.parent for p in child.process_table()}

    assert table[os.getpid()] == os.getppid()


def test_ps_tells_the_same_as_proc() -> None:
    by_ps = {p.pid: p.parent for p in child._process_table_by_ps()}

    assert by_ps[os.getpid()] == os.getppid()


def test_a_command_with_odd_characters_in_its_name_is_read_right() -> None:
    seen = alone("""
pid = child.fork(lambda: (tell(0), hang()), ") Z 1 (")
told()
parent = parent_of(pid)
child.kill_tree(pid)
os.waitpid(pid, 0)
done(parent=parent == os.getpid())
""")

    assert seen["parent"] is True


def test_the_dead_are_not_in_the_table() -> None:
    seen = alone("""
pid = child.fork(lambda: 0, "x")
until(lambda: open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z")
zombie = pid in {p.pid: p.parent for p in child.process_table()}
os.waitpid(pid, 0)
done(zombie=zombie)
""")

    assert seen["zombie"] is False
