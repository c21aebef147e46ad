"""R13. The behaviour suite through PgBouncer in transaction mode, with ten server connections for each database.

Full size: all tests but those that look at the server's sessions, which PgBouncer shares out; each of them stands below
with its reason. Small: a soak of real workers through three connections, whose slots are killed while sessions of
somebody else's live among theirs. No session may be left with a lock, and none of the others' may be ended.
"""

from __future__ import annotations

import json
import time
from urllib.parse import urlsplit

from tests.trust import checker
from tests.trust.bouncer import Bouncer
from tests.trust.enemy import Enemy
from tests.trust.ground import Ground
from tests.trust.report import Report
from tests.trust.suite import play
from tests.trust.tasks import asks, writes

LEAKED = """SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
  (SELECT oid FROM pg_database WHERE datname = current_database())) + (SELECT count(*) FROM pg_prepared_statements)"""

# Files of which each test sees one session by its name, or holds several open at once (races: more than the pool has),
# or measure the server without anything in between (plans, benchmarks); those that test no behaviour of the library
# (documentation, architecture, the wheel, the demo, the browser); and this scorecard.
LOOK_AT_SESSIONS = (
    "tests/test_trust.py", "tests/test_postgres.py", "tests/test_demo.py", "tests/test_wheel.py", "tests/test_docs.py",
    "tests/test_architecture.py", "tests/test_races.py", "tests/test_plans.py", "tests/test_benchmarks.py",
    "tests/outbox/test_session.py", "tests/outbox/test_wake.py", "tests/jobs/test_connections.py", "tests/browser",
    "tests/jobs/test_pooler.py",
)  # fmt: skip

# Single tests that end a session which they know by its number or name, or wait for a notification. A pooler has
# sessions of its own on the server, makes up the numbers it tells, and passes no notification on.
LOSE_A_SESSION = (
    "tests/jobs/test_atomic.py::test_a_connection_that_is_lost_while_the_task_runs_is_a_failure",
    "tests/jobs/test_atomic.py::test_a_connection_that_is_lost_at_the_commit_leaves_it_to_the_fence",
    "tests/jobs/test_pump.py::test_its_pump_survives_a_database_that_is_away",
    "tests/jobs/test_pump.py::test_jobs_in_the_buffer_are_handed_back_after_a_lost_connection",
    "tests/jobs/test_pump.py::test_the_job_that_runs_through_a_lost_connection_is_finished_under_its_old_number",
    "tests/jobs/test_pump.py::test_what_is_handed_back_wakes_another_slot_and_other_workers",
    "tests/jobs/test_pump.py::test_after_a_lost_connection_it_goes_on_under_a_new_number_and_nothing_is_lost",
    "tests/jobs/test_rescue.py::test_the_sessions_of_a_name_are_ended_and_no_others",
    "tests/outbox/test_relay.py::test_a_delivery_wakes_the_workers",
    "tests/outbox/test_relay.py::test_a_relay_that_dies_in_the_middle_has_moved_nothing",
    "tests/outbox/test_relay_command.py::test_a_relay_that_ran_once_leaves_no_connection_behind",
    "tests/outbox/test_relay_command.py::test_a_relay_whose_connection_is_cut_goes_on",
)


def row(ground: Ground, report: Report) -> None:
    bouncer = Bouncer(ground.url, ground.folder, pool=3 if ground.scale < 0.2 else 10)
    try:
        _soak(ground, report, bouncer)
        if ground.scale >= 0.2:
            _suite(ground, report, bouncer)
        else:
            report.note("the whole behaviour suite runs from scale 0.2 on")
    finally:
        bouncer.close()


def _soak(ground: Ground, report: Report, bouncer: Bouncer) -> None:
    """Jobs through few connections, while slots are killed and somebody else's sessions live among theirs."""
    jobs, kills = ground.size(20_000, 400), ground.size(100, 8)
    env = {"DATABASE_URL": bouncer.url + urlsplit(ground.url).path.lstrip("/")}
    settings = {"MAX_CRASHES": 100}
    workers = [
        ground.worker("--slots", "2", env=env, jobs=settings, outbox={"NOTIFY": False}) for _ in range(2)
    ]  # fmt: skip
    innocents = [ground.program("-m", "tests.trust.innocent", env=env) for _ in range(2)]
    ground.ready(*workers)
    ground.wait(lambda: ground.evidence.count("asked"), 20, innocents[0].said)
    enemy = Enemy(ground, lambda: workers[0], workers, 0.0)
    for n in range(kills):
        writes.enqueue_many([(number,) for number in range(n * jobs // kills, (n + 1) * jobs // kills)])
        asks.enqueue_many([(jobs + number, 10, False) for number in range(n * 4, n * 4 + 4)])
        time.sleep(ground.rolls.random() * 0.2)
        enemy.kill_a_child()
    ground.settle(90)
    report.figure("jobs through few connections", jobs + 4 * kills)
    report.figure("children killed", kills)
    for kind, count in ground.sql("SELECT kind, count(*) FROM jobs_attempt GROUP BY kind"):
        report.figure(f"attempts that were {kind}", count)
    report.must("lost or stuck", checker.stuck(ground), "==", 0)
    report.must("ended badly", checker.not_succeeded(ground), "==", 0)
    report.must("effects repeated", checker.extra_effects(ground), "<=", enemy.in_flight)
    report.must("wrong answers", ground.evidence.count("wrong"), "==", 0)
    report.must("sessions of others that were ended", ground.evidence.count("cut_off"), "==", 0)
    report.must("leaked locks", ground.value(LEAKED), "==", 0)
    for program in (*innocents, *workers):
        program.kill()


def _suite(ground: Ground, report: Report, bouncer: Bouncer) -> None:
    # As docs/workers.md asks for: the keeper ends no session through a pooler, so the server has to look by itself.
    role = ground.value("SELECT quote_ident(current_user)")
    ground.sql(f"ALTER ROLE {role} SET client_connection_check_interval = '500ms'")
    try:
        _play_suite(report, bouncer)
    finally:
        ground.sql(f"ALTER ROLE {role} RESET client_connection_check_interval")


def _play_suite(report: Report, bouncer: Bouncer) -> None:
    done = play(
        *(f"--ignore={path}" for path in LOOK_AT_SESSIONS),
        *(f"--deselect={test}" for test in LOSE_A_SESSION),
        env={
            "DATABASE_URL": bouncer.url + "postgres?DISABLE_SERVER_SIDE_CURSORS=true",
            "TEST_OUTBOX": json.dumps({"NOTIFY": False}),
        },
    )
    report.figure("tests passed", done.passed)
    report.figure("tests left out", f"{len(LOOK_AT_SESSIONS)} files and {len(LOSE_A_SESSION)} tests")
    report.must("tests failed", done.failed, "==", 0)
    for name in done.names:
        report.note(name)
