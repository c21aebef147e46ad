"""R30. The security pack: which tests stand for which threat, run here and counted. S01 to S18 are in the research.

Threats of parts that do not exist yet (dashboard, roles, signatures) are named, not passed over.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.support.processes import ROOT
from tests.trust.ground import Ground
from tests.trust.report import Report

COVERED = {
    "S01 code by name, S02 pickle": (
        "tests/jobs/test_envelope.py", "tests/jobs/test_declare.py", "tests/jobs/test_intake.py",
    ),
    "S03 to S07 admin": ("tests/jobs/test_admin.py", "tests/outbox/test_admin.py"),
    "S08 secrets in logs": ("tests/jobs/test_security.py",),
    "S11 size and depth": ("tests/jobs/test_enqueue.py",),
    "S13 queue names, S16 log lines": ("tests/jobs/test_options.py", "tests/outbox/test_text.py"),
    "S18 kills only its own": ("tests/jobs/test_child.py",),
}  # fmt: skip
NOT_YET = "S09 status pages, S10 flooding, S12 webhooks, S14 roles, S15 signatures, S17 supply chain"


def row(ground: Ground, report: Report) -> None:
    for threat, files in COVERED.items():
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", *files],
            cwd=ROOT,
            env={key: value for key, value in os.environ.items() if key not in ("DJANGO_SETTINGS_MODULE", "SIDE_FILE")},
            capture_output=True,
            text=True,
            check=False,
        )
        counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|errors?)", done.stdout[-300:])}
        report.figure(f"passed: {threat}", counts.pop("passed", 0))
        report.must(f"failed: {threat}", sum(counts.values()) + (done.returncode not in (0, 1)), "==", 0)
    report.note(f"no test here yet: {NOT_YET}")
