"""A process that does business: transactions of its own length, some rolled back, each told of after its commit.

    python -m tests.trust.producer '{"first": 0, "count": 1000, "rollbacks": 0.1, "pause": 0.004, "seed": 1}'

What the side file calls `committed` was acknowledged by the server. `doubtful` is a commit whose answer was lost.
"""

from __future__ import annotations

import json
import random
import sys
import time

import django


def main(
    first: int,
    count: int,
    rollbacks: float,
    pause: float,
    seed: int,
    work: float = 0.0,
    gap: float = 0.0,
    task: str = "works",
) -> None:
    django.setup()
    from django.db import DatabaseError, InterfaceError, connection, transaction

    from tests.trust import tasks
    from tests.trust.evidence import say
    from tests.trust.models import Order

    wanted = getattr(tasks, task)
    rolls = random.Random(seed)
    done = 0
    while done < count:
        size = min(count - done, rolls.choice((1, 1, 1, 2, 5, 20)))
        numbers = range(first + done, first + done + size)
        back, jobs = rolls.random() < rollbacks, []
        try:
            with transaction.atomic():
                for number in numbers:
                    jobs.append(wanted.enqueue(number, work))
                    Order.objects.create(number=number, job=jobs[-1].id)
                time.sleep(rolls.random() * pause)  # numbers are taken in one order and committed in another
                if back:
                    transaction.set_rollback(True)
        except (DatabaseError, InterfaceError):
            for number in numbers:
                say("doubtful", number, "-")
            connection.close()
            time.sleep(0.05)
        else:
            for number, job in zip(numbers, jobs, strict=True):
                say("rolled_back" if back else "committed", number, job.id)
        done += size
        time.sleep(gap)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
