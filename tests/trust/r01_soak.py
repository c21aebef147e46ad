"""R01. Jobs of every kind flow while slots, whole supervisors and relays are killed, hosts sleep, the server crashes.

Full size: 100,000 jobs, 1,000 kills of children and 100 of supervisors, 100 ended sessions, 20 hosts stopped past their
lease, 10 crashes of the server. `python -m tests.chaos` is the same with numbers of your own.
"""

from __future__ import annotations

from tests.trust import checker
from tests.trust.ground import Ground
from tests.trust.report import Report
from tests.trust.soak import Soak


def row(ground: Ground, report: Report) -> None:
    soak = Soak(ground)
    found = soak.play(ground.size(100_000, 500), ground.size(1000, 10), minutes=10)
    report.figure("jobs committed", found.jobs)
    report.figure("jobs rolled back", len(soak.rolled_back))
    for role, count in soak.enemy.kills.items():
        report.figure(f"kills of a {role}", count)
    report.figure("hosts stopped past the lease", found.stops)
    report.figure("sessions ended", found.backends_killed)
    report.figure("crashes of the server", found.restarts)
    report.figure("seconds to the last fault", soak.fed)
    report.figure("jobs per second", found.jobs / found.seconds)
    report.figure("in flight at the faults", found.in_flight_at_kills)
    report.figure("at_most_once: dead with a lost worker", soak.dead_of_a_lost_worker)
    report.must("lost", found.lost, "==", 0)
    report.must("in two homes", checker.in_two_homes(ground), "==", 0)
    report.must("run though rolled back", soak.rolled_back_run, "==", 0)
    report.must("atomic: effects or children doubled", found.atomic_duplicated, "==", 0)
    report.must("atomic: effects or children missing", found.atomic_missing, "==", 0)
    if gone := soak.without_a_row:
        report.note(f"no row of an atomic job: {len(gone)}, the first is {gone[0]}, the last {gone[-1]}")
    report.must("at_most_once: run again", found.at_most_once_repeated, "==", 0)
    report.must("stale writes", found.stale_writes, "==", 0)
    report.must("stuck", found.stuck, "==", 0)
    report.must("ended badly", soak.ended_badly, "==", 0)
    report.must("started again outside the database", found.external_duplicates, "<=", found.in_flight_at_kills)
    report.must("minutes", found.seconds / 60, "<=", 10)
