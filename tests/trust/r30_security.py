"""R30. The security pack: which tests stand for which threat, run here and counted.

The threats are code and pickles that rows name (S01, S02), the dashboard without a login, a permission or a token (S03
to S05), markup (S06), a dashboard that takes the database down (S07), secrets in logs and pages (S08), status pages
that tell of others (S09), floods (S10), bombs (S11), names as SQL (S13), log lines (S16), dependencies (S17) and kills
of others (S18). Threats of parts that do not exist are named, not passed over.
"""

from __future__ import annotations

from tests.trust.ground import Ground
from tests.trust.report import Report
from tests.trust.suite import play

COVERED = {
    "S01 code by name, S02 pickle": (
        "tests/jobs/test_envelope.py", "tests/jobs/test_declare.py", "tests/jobs/test_intake.py",
    ),
    "S03 to S07 dashboard": (
        "tests/jobs/test_acts.py", "tests/jobs/test_dashboard.py", "tests/outbox/test_admin.py",
    ),
    "S08 secrets": ("tests/jobs/test_security.py",),
    "S09 status pages": ("tests/jobs/test_status.py",),
    "S10 high is fast in a flood": ("tests/jobs/test_lanes.py", "tests/test_plans.py"),
    "S11 size and depth": ("tests/jobs/test_enqueue.py",),
    "S13 names, S16 log lines": ("tests/jobs/test_options.py", "tests/outbox/test_text.py"),
    "S17 few dependencies": ("tests/test_wheel.py",),
    "S18 kills only its own": ("tests/jobs/test_child.py", "tests/jobs/test_pooler.py"),
}  # fmt: skip
NOT_THERE = "S12 webhooks are not shipped; S14 roles of the database and S15 signatures of rows have no test here"


def row(ground: Ground, report: Report) -> None:
    for threat, files in COVERED.items():
        done = play(*files)
        report.figure(f"passed: {threat}", done.passed)
        report.must(f"failed: {threat}", done.failed + (not done.passed), "==", 0)
    report.note(NOT_THERE)
