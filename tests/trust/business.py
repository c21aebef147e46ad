"""One client of a shop: an order, something beside it, a commit, a moment of its own, and again.

    python -m tests.trust.business plain|enqueue|notify SECONDS PAUSE

It prints a JSON list of the seconds of each transaction. `notify` is the naive way: the wake-up inside the transaction.
"""

from __future__ import annotations

import json
import random
import sys
import time

import django


def main() -> None:
    what, seconds, pause = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    django.setup()
    from django.db import connection, transaction

    from tests.trust.models import Effect, Order
    from tests.trust.tasks import works

    order = works.enqueue(0)  # the first of everything opens connections and fills caches
    took: list[float] = []
    until = time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        with transaction.atomic():
            Order.objects.create(number=len(took), job=order.id)
            if what == "enqueue":
                works.enqueue(len(took))
            else:
                Effect.objects.create(number=len(took))
            if what == "notify":
                with connection.cursor() as cursor:
                    cursor.execute("NOTIFY naive")
        took.append(time.monotonic() - began)
        time.sleep(pause * random.uniform(0.5, 1.5))
    print(json.dumps(took))


if __name__ == "__main__":
    main()
