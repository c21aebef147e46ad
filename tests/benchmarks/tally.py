"""Whether every job ran exactly once, by the marks and by the tables. Raises Wrong where one did not."""

from __future__ import annotations

from collections import Counter

from tests.benchmarks import marks
from tests.benchmarks.marks import Mark
from tests.benchmarks.measures import Wrong
from tests.benchmarks.server import Database

LEFT = """SELECT (SELECT count(*) FROM outbox_message),
  (SELECT count(*) FROM jobs_job WHERE state IN ('ready', 'running')),
  (SELECT count(*) FROM outbox_setasidemessage)"""

ENDED = """SELECT count(*), count(*) FILTER (WHERE state = 'succeeded' AND attempts = 1 AND crashes = 0)
FROM jobs_finishedjob WHERE task <> 'ballast'"""

RAW_ENDED = "SELECT (SELECT count(*) FROM raw_job WHERE status = 2) + (SELECT count(*) FROM raw_history WHERE id > 0)"


def ran_once(database: Database, jobs: int) -> list[Mark]:
    """The marks, after a look that they are those of jobs 1 to `jobs`, each once."""
    found = marks.read(database.folder)
    runs = Counter(mark.index for mark in found)
    doubled = [index for index, times in runs.items() if times > 1]
    lost = [index for index in range(1, jobs + 1) if index not in runs]
    strange = [index for index in runs if not 1 <= index <= jobs]
    for what, which in (("ran twice", doubled), ("never ran", lost), ("were never enqueued", strange)):
        if which:
            raise Wrong(f"{len(which)} of {jobs} jobs {what}, such as number {which[0]}")
    return found


def ended_once(database: Database, jobs: int) -> list[Mark]:
    """The same, and the tables hold `jobs` jobs that succeeded at their first attempt and nothing else."""
    found = ran_once(database, jobs)
    if (left := database.execute(LEFT)[0]) != (0, 0, 0):
        raise Wrong("left over: {} in the outbox, {} in the queue, {} set aside".format(*left))
    ((ended, well),) = database.execute(ENDED)
    if not ended == well == jobs:
        raise Wrong(f"{jobs} jobs, {ended} in the history, {well} of them succeeded at the first attempt")
    return found


def raw_ended_once(database: Database, jobs: int) -> list[Mark]:
    found = ran_once(database, jobs)
    if (ended := database.execute(RAW_ENDED)[0][0]) != jobs:
        raise Wrong(f"the raw loop ended {ended} of {jobs} jobs")
    return found
