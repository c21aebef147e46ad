"""How fast, beside the limit: `python -m tests.benchmarks NAME` times the library as users run it, and in the same run
the least that anybody could do on the same server: hand-written loops over psycopg.

    __main__   what was asked for, and the answer
    targets    what is to be reached, and the bounds of the gate
    drain relay latency enqueue held_snapshot head_of_line idle async_jobs      one benchmark each
    raw writer prober      programs that the benchmarks start beside `manage.py`
    server programs fill tally marks meter measures wire      what they stand on

Only ratios of one run on one machine mean anything: the machine's speed and its neighbours' load are in both halves.
"""
