"""The command line: run rows, print what they found, and end with 1 when a verdict is not met."""

from __future__ import annotations

import argparse
import importlib
import os
import random
import subprocess
import sys
import time
import traceback

from tests.trust.report import Report
from tests.trust.rows import ROWS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.trust", description="The trust scorecard.")
    parser.add_argument("row", nargs="+", help=f'{", ".join(ROWS)}, or "all"')
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size (default: 1)")
    parser.add_argument("--seed", type=int, help="repeats what the dice said (default: a new one, printed)")
    parser.add_argument("--json", action="store_true", help="one flat JSON object a row")
    given = parser.parse_args()
    names = list(ROWS) if given.row == ["all"] else [name.upper() for name in given.row]
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}: there are {', '.join(ROWS)}")
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    if len(names) == 1:
        report = play(names[0], given.scale, seed)
        print(report.as_json() if given.json else report.as_text(), flush=True)
        return 0 if report.met else 1
    options = ["--scale", str(given.scale), "--seed", str(seed), *(["--json"] if given.json else [])]
    # Each in a process of its own: what one row leaves behind is nothing to the next.
    bad = [name for name in names if subprocess.call([sys.executable, "-m", "tests.trust", name, *options])]
    if not given.json:
        print(f"{len(names) - len(bad)} of {len(names)} rows are met" + (f"; not {', '.join(bad)}" if bad else ""))
    return 1 if bad else 0


def play(name: str, scale: float, seed: int) -> Report:
    """Run one row on a ground of its own."""
    from tests.trust.ground import ground

    row = ROWS[name]
    report = Report(name, row.title, seed, scale)
    report.skipped = row.missing()
    if report.skipped:
        return report
    began = time.monotonic()
    try:
        with ground(name, scale, seed, row.own_server) as place:
            try:
                importlib.import_module(f"tests.trust.{row.module}").row(place, report)
            except Exception:
                keep_logs(place, report)
                raise
            if report.not_met:
                keep_logs(place, report)
    except Exception as error:
        traceback.print_exc()
        report.must(f"played to its end ({type(error).__name__})", False, "==", True)
    report.figure("seconds", time.monotonic() - began)
    return report


def keep_logs(place: object, report: Report) -> None:
    """Where TRUST_KEEP names a folder, what the processes of a row that was not met have said goes there."""
    if folder := os.environ.get("TRUST_KEEP"):
        import shutil

        shutil.copytree(place.folder, f"{folder}/{report.row}-{report.seed}", dirs_exist_ok=True)  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
