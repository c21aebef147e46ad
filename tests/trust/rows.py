"""Which rows there are, and what each needs of the machine."""

from __future__ import annotations

import shutil
import sys
from typing import NamedTuple


class Row(NamedTuple):
    """One row of the scorecard."""

    module: str
    title: str
    own_server: dict[str, str] | None = None
    """Settings of a PostgreSQL of its own; None shares the one of DATABASE_URL, where there is one."""
    tools: tuple[str, ...] = ()
    """Debian packages; the program has the package's name."""
    linux: bool = False

    def missing(self) -> str:
        """Why it cannot be run here and how that is changed; empty when it can."""
        if absent := [tool for tool in self.tools if find(tool) is None]:
            return f"needs {' and '.join(absent)}: `apt-get install {' '.join(absent)}`"
        return "needs Linux" if self.linux and sys.platform != "linux" else ""


def find(tool: str) -> str | None:
    """Where a program is, also where only root's PATH has it."""
    return shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/usr/local/sbin")


SLOW_COMMIT = {"commit_delay": "5000", "commit_siblings": "0"}

ROWS = {
    "R01": Row("r01_soak", "soak: jobs of every kind while all is killed, stopped, cut off, crashed", own_server={}),
    "R02": Row("r02_zombies", "zombies: a stopped worker wakes after its jobs were given to another"),
    "R03": Row("r03_detection", "detection: how soon a job runs again after its slot or its host has died"),
    "R04": Row("r04_false_rescue", "false rescue: jobs far longer than the lease under full load start once"),
    "R05": Row("r05_poison", "poison: jobs that kill their process die, and their neighbours do not notice"),
    "R06": Row("r06_database", "database: crashes, killed backends, a black hole, no connections left", own_server={}),
    "R07": Row("r07_relay", "relay: what was committed arrives once, in any commit order, under kills"),
    "R08": Row("r08_accounting", "accounting: in any sequence of outcomes the caps hold and an end is reached"),
    "R09": Row("r09_fidelity", "fidelity: the jobs are those of the blocks that survived, however they nest"),
    "R10": Row("r10_claim", "claim: exactly as many as asked for, whatever the planner thinks"),
    "R11": Row("r11_deadlocks", "deadlocks: all statements at once on the same rows"),
    "R12": Row("r12_kills", "kills: jobs that never end are gone at their limit with all they left", linux=True),
    "R13": Row("r13_pgbouncer", "PgBouncer: the behaviour suite in transaction mode", tools=("pgbouncer",)),
    "R14": Row("r14_forks", "forks: no answer goes to the wrong process"),
    "R15": Row("r15_disk_full", "disk full: callers are told and nothing is lost", own_server={}, linux=True),
    "R16": Row("r16_enqueue", "enqueue: what it costs sixteen clients whose commits take 5 ms", own_server=SLOW_COMMIT),
    "R17": Row("r17_snapshot", "snapshot: the claim stays quick behind one that is held open", linux=True),
    "R18": Row("r18_head_of_line", "head of line: what cannot run does not slow what can"),
    "R19": Row("r19_priority", "priority: high is fast and low is not starved, above capacity"),
    "R20": Row("r20_outage", "outage: a million messages wait for the relay"),
    "R21": Row("r21_signals", "signals: TERM, INT, QUIT, twice, in each state, as PID 1 and under sh -c", linux=True),
    "R22": Row("r22_upgrade", "upgrade: two releases side by side while the schema changes", tools=("git", "tar")),
    "R24": Row("r24_clocks", "clocks: an hour ahead and two days behind", tools=("faketime",)),
    "R25": Row("r25_schedules", "schedules: five schedulers race over 200 ticks under kills, and one job a tick"),
    "R26": Row("r26_idle", "idle: two hundred slots ask seldom and begin soon", own_server={"max_connections": "600"}),
    "R27": Row("r27_payloads", "payloads: what was accepted comes back, and nothing hostile sticks"),
    "R28": Row("r28_standby", "standby: the primary dies and another takes over", own_server={"wal_level": "replica"}),
    "R30": Row("r30_security", "security: the pack of tests"),
    "R31": Row("r31_migrations", "migrations: each on a million rows, and nobody waits long for a lock"),
}  # fmt: skip
