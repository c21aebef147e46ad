"""R27. Values of every kind through the whole way: what was accepted comes back the same, and nothing hostile sticks.

Full size: 20,000 arguments, of which each is refused at its enqueue or given back by a worker, digit for digit; as many
results and errors that no reviewer would let pass, each of which has to end its job. The other database's half comes
with the other database.
"""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from jobs.errors import InvalidArguments
from tests.support.hostile import ERRORS, results
from tests.support.values import json_values, same
from tests.trust import checker
from tests.trust.ground import Ground
from tests.trust.report import Report
from tests.trust.tasks import gives, gives_hostile, raises

GARBAGE = """INSERT INTO jobs_job (id, task, queue, priority, state, source_name, arguments, max_attempts, attempts,
  crashes, lease, depth, idempotency_key, enqueued_at, ready_at, error)
VALUES (gen_random_uuid(), 'tests.trust.tasks.gives', 'default', 0, 'ready', '', %s, 1, 0, 0, 0, 0, '', now(), now(),
  '') RETURNING id"""


def drawn(strategy: st.SearchStrategy[Any], count: int, number: int) -> list[Any]:
    """So many values of a strategy, always the same for the same number."""
    values: list[Any] = []

    @seed(number)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def draw(value: Any) -> None:
        values.append(value)

    draw()
    return values


def row(ground: Ground, report: Report) -> None:
    count, number = ground.size(20_000, 200), ground.rolls.randrange(10**6)
    accepted: dict[str, Any] = {}
    refused = accidents = 0
    for n, value in enumerate([*drawn(json_values, count, number), *drawn(results, count // 2, number)]):
        try:
            accepted[str(gives.enqueue(n, value).id)] = value
        except InvalidArguments:
            refused += 1
        except Exception as error:
            accidents += 1
            report.note(f"an enqueue raised {type(error).__name__}: {str(error)[:100]}")
    hostile = [str(raises.enqueue(n, n).id) for n in range(min(count, 10 * len(ERRORS)))]
    hostile += [str(gives_hostile.enqueue(n, ground.rolls.randrange(10**6)).id) for n in range(count // 4)]
    garbage = _garbage(ground)
    ground.worker("--slots", "2")
    over = ground.settle(120 + 300 * ground.scale)

    ends = {
        str(job): (state, result) for job, state, result in ground.sql("SELECT id, state, result FROM jobs_finishedjob")
    }
    different = [
        job for job, value in accepted.items()
        if ends.get(job, ("", None))[0] != "succeeded" or not same(json.loads(ends[job][1] or '"lost"'), value)
    ]  # fmt: skip
    report.figure("accepted", len(accepted))
    report.figure("refused with a reason", refused)
    report.figure("hostile results and errors", len(hostile))
    report.figure("garbage in rows", len(garbage))
    report.must("enqueues that raised something else", accidents, "==", 0)
    report.must("came back otherwise than accepted", len(different), "==", 0)
    report.must("hostile ones without an end", sum(job not in ends for job in hostile), "==", 0)
    report.must(
        "garbage rows that did not die alone", sum(ends.get(job, ("", ""))[0] != "dead" for job in garbage), "==", 0
    )
    report.must("stuck", 0 if over else checker.stuck(ground), "==", 0)


def _garbage(ground: Ground) -> list[str]:
    """Rows as no version of the library has written them."""
    bad = ["", "[]", "{", '{"args":1}', "null", '{"args":[],"kwargs":[]}', "[" * 5000, '{"args":[]}' * 2]
    return [
        str(ground.value(
            GARBAGE, text
        ))
        for text in bad
    ]  # fmt: skip


def hostile_result(number: int) -> Any:
    """One value of those no reviewer would let pass; called in the task."""
    value: list[Any] = drawn(results, 3, number)
    return random.Random(number).choice(value)
