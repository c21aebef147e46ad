"""Who was lost, who was doubled, who is stuck: from the tables and the side file, and from nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.trust.ground import Ground

HOMES = ("outbox_message", "outbox_setasidemessage", "jobs_job", "jobs_finishedjob")


def homes(ground: Ground) -> Counter[str]:
    """In how many homes each id stands."""
    found: Counter[str] = Counter()
    for table in HOMES:
        column = "uid" if table.startswith("outbox") else "id"
        found.update(str(row[0]) for row in ground.sql(f"SELECT {column} FROM {table}"))
    return found


def missing(ground: Ground, jobs: Iterable[str]) -> int:
    """Committed jobs that are nowhere."""
    found = homes(ground)
    return sum(job not in found for job in jobs)


def in_two_homes(ground: Ground) -> int:
    return sum(count > 1 for count in homes(ground).values())


def stuck(ground: Ground) -> int:
    """Rows that have not ended."""
    return int(ground.value("SELECT (SELECT count(*) FROM outbox_message) + (SELECT count(*) FROM jobs_job)"))


def not_succeeded(ground: Ground) -> int:
    return int(ground.value("SELECT count(*) FROM jobs_finishedjob WHERE state <> 'succeeded'"))


def extra_effects(ground: Ground, word: str = "begins") -> int:
    """Starts beyond the first of each job."""
    return sum(count - 1 for count in ground.evidence.numbers(word).values())


def without_effect(ground: Ground, numbers: Iterable[int], word: str = "ends") -> int:
    """Committed numbers whose effect never came."""
    seen = ground.evidence.numbers(word)
    return sum(number not in seen for number in numbers)


def in_flight(ground: Ground, pids: Iterable[int]) -> int:
    """Jobs that these processes have begun and whose end is not in the tables: what their death may repeat."""
    begun: dict[str, set[int]] = {}
    for line in ground.evidence.said("begins"):
        begun.setdefault(line.job, set()).add(line.pid)
    running = [str(row[0]) for row in ground.sql("SELECT id FROM jobs_job WHERE state = 'running'")]
    dying = set(pids)
    return sum(bool(begun.get(job, set()) & dying) for job in running)
