"""S4: how fast committed messages become ready jobs, through `manage.py relay`.

Timed by the jobs' own `ready_at`, from the first to the last. The raw loop moves the same rows to a table like it by
one statement, a thousand at a time, and waits for no disk, as the relay does not.
"""

from __future__ import annotations

import json

from tests.benchmarks import fill, programs
from tests.benchmarks.measures import Figures, Wrong, compare
from tests.benchmarks.plan import Plan, tell
from tests.benchmarks.server import settle

READY = """SELECT count(*), extract(epoch FROM max(ready_at) - min(ready_at)) FROM jobs_job WHERE state = 'ready'"""


def run(plan: Plan) -> Figures:
    messages = plan.choose(full=100_000, quick=30_000, smallest=300)
    ours, raw = [], []
    for number in range(plan.rounds):
        ours.append(relayed(plan, messages))
        raw.append(raw_relayed(plan, messages))
        tell(f"relay {number + 1}: {ours[-1]:,.0f}/s, raw {raw[-1]:,.0f}/s")
    return {"messages": messages, **compare(ours, raw)}


def relayed(plan: Plan, messages: int) -> float:
    with plan.server.database() as database:
        database.execute(fill.MESSAGES, (fill.TASK, 1, messages))
        settle(database, analyze=False)
        with programs.manage(database.url, database.folder, "relay", "--once", "--json") as relay:
            said = json.loads(relay.ended())
        ((ready, seconds),) = database.execute(READY)
        if not ready == said["delivered"] == messages or said["set_aside"]:
            raise Wrong(f"{messages} messages, {ready} ready jobs; the relay said {said}")
        return ready / max(1e-9, float(seconds))


def raw_relayed(plan: Plan, messages: int) -> float:
    with plan.server.database() as database:
        database.execute(fill.RAW_MESSAGES, (fill.TASK, 1, messages))
        settle(database, analyze=False)
        with programs.module(database.url, database.folder, "raw", "relay") as relay:
            rate = float(relay.ended())
        ((taken,),) = database.execute("SELECT count(*) FROM raw_taken")
        if taken != messages:
            raise Wrong(f"the raw relay moved {taken} of {messages} messages")
        return rate
