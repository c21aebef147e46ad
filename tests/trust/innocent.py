"""A process of the application that has nothing to do with jobs: it asks the database, and says when it is cut off.

    python -m tests.trust.innocent

Its session bears no name, as most have none; behind a pooler it may be one that a slot has used before.
"""

from __future__ import annotations

import os

import psycopg

from tests.trust.evidence import say


def main() -> None:
    number = 0
    while True:
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, prepare_threshold=None) as connection:
                while True:
                    connection.execute("SELECT pg_sleep(0.005)")
                    number += 1
                    if number % 100 == 0:
                        say("asked", number, "-")
        except psycopg.OperationalError:
            say("cut_off", number, "-")


if __name__ == "__main__":
    main()
