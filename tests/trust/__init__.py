"""The trust scorecard: what happens when things die, measured, with a verdict for each row.

    uv run python -m tests.trust R01 [--scale 0.1] [--seed 7] [--json]
    uv run python -m tests.trust all

Each row stages real faults (SIGKILL, SIGSTOP, pg_terminate_backend, a server that crashes, a proxy that swallows
everything) on a database of its own, and is judged from tables and a side file that the tasks append to, never from
the library's own counters or logs. It prints its figures, the target of each and its seed; a verdict that is not met
makes the exit status 1. Scale 1 is the full size; the test command runs the rows smaller, by `tests/test_trust.py`.

    __main__    the command line                    server     a throw-away PostgreSQL that may be crashed
    ground      what a row stands on                proxy      a TCP proxy that cuts, delays and swallows
    evidence    the side file, as it grows          producer   a process that commits and rolls back
    report      figures and verdicts                checker    who was lost, who was doubled
    tasks       what the jobs do                    r01_soak, r02_zombies ...  the rows
"""
