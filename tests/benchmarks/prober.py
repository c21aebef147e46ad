"""How long the claim takes: the statement that a slot sends, in the transaction in which it sends it, rolled back.

    python -m tests.benchmarks.prober SECONDS PER_SECOND JOBS

Rolled back, it takes nobody's job away; until then the workers step over what it has locked. Prints the seconds of
each claim as a JSON list.
"""

from __future__ import annotations

import json
import sys
import time

import django

# A claimer that no worker has.
NOBODY = -1


class Undo(Exception):
    """Raised to roll back."""


def main() -> None:
    seconds, per_second, jobs = (float(word) for word in sys.argv[1:4])
    django.setup()
    from jobs.claim import Lanes, claim
    from jobs.conf import jobs_settings
    from outbox.session import session_on

    lanes = Lanes(tuple(jobs_settings().QUEUES))
    session = session_on(jobs_settings().DATABASE)
    took = []

    def one() -> float:
        query = claim(NOBODY, NOBODY, lanes.next(), int(jobs))
        began = time.perf_counter()
        try:
            with session.transaction(durable=True) as connection:
                connection.execute(query.sql, query.params).fetchall()
                ended = time.perf_counter()
                raise Undo
        except Undo:
            return ended - began

    for _ in range(10):  # until the statements are prepared
        one()
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        took.append(one())
        time.sleep(max(0.0, now + 1 / per_second - time.perf_counter()))
    print(json.dumps(took))


if __name__ == "__main__":
    main()
