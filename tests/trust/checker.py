"""Who was lost, who was doubled, who is stuck: from the tables and the side file, and from nothing else."""

from __future__ import annotations

from collections import Counter, defaultdict
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


class Hands:
    """Which process has begun which jobs, as the side file grows."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._read = 0
        self._begun: dict[str, set[int]] = defaultdict(set)

    def begun(self, pids: Iterable[int]) -> list[str]:
        """Jobs that these processes have begun and whose end is not in the tables: what their death may repeat."""
        self._look()
        theirs = set(pids)
        running = [str(row[0]) for row in self._ground.sql("SELECT id FROM jobs_job WHERE state = 'running'")]
        return [job for job in running if self._begun.get(job, set()) & theirs]

    def claimed(self, pids: Iterable[int]) -> tuple[int, list[str]]:
        """Their worker's number, and all that it has claimed, begun or not: what may begin when it wakes."""
        rows = self._ground.sql(
            "SELECT worker, id FROM jobs_job WHERE state = 'running' AND worker IN"
            " (SELECT worker FROM jobs_job WHERE state = 'running' AND id = ANY(%s::uuid[]))",
            self.begun(pids),
        )
        return (rows[0][0] if rows else 0), [str(job) for _, job in rows]

    def _look(self) -> None:
        lines = self._ground.evidence.said("begins")
        for line in lines[self._read :]:
            self._begun[line.job].add(line.pid)
        self._read = len(lines)
