"""The benchmarks measure what they say, and do not take a wrong run for a fast one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks import fill, marks, measures, memory, tally, targets
from tests.benchmarks.measures import Wrong
from tests.benchmarks.plan import Plan
from tests.benchmarks.server import Database, Server, serving
from tests.benchmarks.targets import Line, Target

pytestmark = pytest.mark.postgresql("the benchmarks are measured beside psycopg on a server")

PROMISED = {"jobs_per_second", "raw_per_second", "ratio"}
ONLY_LARGE = {"large_of_small", "backlog_unanalyzed_of_analyzed"}
NO_RATES = {"dashboard": PROMISED, "memory": PROMISED - {"jobs_per_second"}}
"""What makes no sense where pages are timed, or memory is looked at, is null."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """On the tests' own server, with databases of its own."""
    with serving() as made:
        yield made


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    with server.database() as made:
        yield made


@pytest.fixture(scope="module")
def smallest(server: Server) -> dict[str, measures.Figures]:
    """What each benchmark finds in its smallest run: several at a time, because here times mean nothing."""
    plan = Plan(server, "smallest")
    with ThreadPoolExecutor(3) as pool:
        running = {name: pool.submit(run, plan) for name, run in command.BENCHMARKS.items()}
    return {name: future.result() for name, future in running.items()}


@pytest.mark.parametrize("name", command.BENCHMARKS)
def test_the_smallest_run_has_every_figure_that_a_target_is_about(
    smallest: dict[str, measures.Figures], name: str
) -> None:
    figures = smallest[name]

    wanted = {target.key for target in targets.TARGETS if target.benchmark == name} - ONLY_LARGE
    assert figures.keys() >= PROMISED | wanted
    numbers = {key: figure for key, figure in figures.items() if key not in NO_RATES.get(name, ())}
    assert figures.keys() - numbers.keys() == {key for key, figure in figures.items() if figure is None}
    assert all(type(figure) in (int, float) and figure >= 0 for figure in numbers.values())


def test_nothing_is_left_on_the_server(smallest: dict[str, measures.Figures], server: Server) -> None:
    rows = Database(server.url, server.folder).execute(
        "SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{server._prefix}%",)
    )

    assert rows == [(server._template,)]


def put(folder: Path, *indexes: int) -> None:
    """As if these jobs had begun."""
    (folder / "1.marks").write_bytes(b"".join(marks.ENTRY.pack(index, 1.0 + n) for n, index in enumerate(indexes)))


@pytest.mark.parametrize(
    ("began", "problem"),
    [
        ([1, 3], "1 of 3 jobs never ran, such as number 2"),
        ([1, 2, 2, 3], "1 of 3 jobs ran twice, such as number 2"),
        ([1, 2, 3, 4], "1 of 3 jobs were never enqueued, such as number 4"),
    ],
)
def test_a_run_that_lost_or_doubled_a_job_is_worth_nothing(tmp_path: Path, began: list[int], problem: str) -> None:
    put(tmp_path, *began)

    with pytest.raises(Wrong, match=problem):
        tally.ran_once(Database("", tmp_path), 3)


def test_a_job_that_ran_and_is_not_in_the_history_makes_it_fail(database: Database) -> None:
    put(database.folder, 1, 2)
    database.execute(fill.HISTORY, (fill.TASK, "succeeded", 1, 1))

    with pytest.raises(Wrong, match="2 jobs, 1 in the history"):
        tally.ended_once(database, 2)

    database.execute(fill.HISTORY, (fill.TASK, "succeeded", 2, 2))
    assert len(tally.ended_once(database, 2)) == 2


def test_a_job_that_is_left_over_makes_it_fail(database: Database) -> None:
    put(database.folder, 1)
    database.execute(fill.HISTORY, (fill.TASK, "succeeded", 1, 1))
    database.execute(fill.JOBS, (fill.TASK, "ready", 2, 2))

    with pytest.raises(Wrong, match="left over: 0 in the outbox, 1 in the queue"):
        tally.ended_once(database, 1)


def test_a_wrong_run_ends_the_command_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose(plan: Plan) -> measures.Figures:
        raise Wrong("1 of 3 jobs never ran")

    monkeypatch.setattr(command, "serving", nothing)
    monkeypatch.setitem(command.BENCHMARKS, "drain", lose)
    monkeypatch.setattr("sys.argv", ["benchmarks", "drain", "--json"])

    assert command.main() == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "1 of 3 jobs never ran" in said.err


@pytest.mark.parametrize(("ratio", "status"), [(0.9, 0), (0.01, 1)])
def test_the_gate_closes_when_a_ratio_has_fallen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ratio: float, status: int
) -> None:
    figures = {
        "jobs_per_second": 1.0,
        "raw_per_second": 1.0,
        "ratio": ratio,
        "unanalyzed_of_analyzed": 1.0,
        "cpu_ratio": 1.0,
    }
    monkeypatch.setattr(command, "serving", nothing)
    monkeypatch.setitem(command.BENCHMARKS, "drain", lambda plan: figures)
    monkeypatch.setattr("sys.argv", ["benchmarks", "drain", "--quick", "--json"])

    assert command.main() == status
    assert json.loads(capsys.readouterr().out) == figures


class nothing:  # noqa: N801  stands in for a function
    """No server at all."""

    def __enter__(self) -> Any:
        return None

    def __exit__(self, *_: object) -> None: ...


def test_the_verdicts() -> None:
    drain = {"ratio": 0.6, "unanalyzed_of_analyzed": 0.8}
    enqueue = {"ratio": 0.7, "ratio_to_unnest": 0.7, "transaction_times_plain": 1.3}

    judged = targets.lines({"drain": drain, "enqueue": enqueue}, quick=False)

    assert [(line.target.id, line.verdict) for line in judged if line.target.id] == [
        ("S1", "first"),
        ("S2", "MISSED"),
        ("S3", "not run"),
        ("S7", "first"),
        ("S8", "then"),
    ]
    assert not targets.closed(judged)


def test_the_gate_has_a_bound_for_what_exists() -> None:
    known = {(target.benchmark, target.key) for target in (*targets.TARGETS, *targets.RATIOS)}

    assert targets.GATE.keys() <= known


def test_the_table_has_a_line_for_each_target() -> None:
    target = Target("S1", "drain", "drain, of the raw loop", "ratio", 0.5, 0.75)

    head, line = targets.table([Line(target, 0.6123, "first")]).splitlines()

    assert head.split() == ["benchmark", "measure", "figure", "first", "then", "verdict"]
    assert re.split("  +", line) == ["S1", "drain", "drain, of the raw loop", "0.6123", "≥ 0.5", "≥ 0.75", "first"]


def test_percentiles_and_rates() -> None:
    assert [measures.percentile(range(100), share) for share in (0.5, 0.99, 1.0)] == [50, 99, 99]
    assert measures.rate([marks.Mark(n, n / 10) for n in range(11)]) == pytest.approx(10.0)
    assert measures.compare([1, 2, 3], [4, 4, 4]) == {
        "jobs_per_second": 2.0,
        "jobs_per_second_min": 1.0,
        "jobs_per_second_max": 3.0,
        "raw_per_second": 4.0,
        "raw_per_second_min": 4.0,
        "raw_per_second_max": 4.0,
        "ratio": 0.5,
    }


def test_no_process_grows_over_twenty_thousand_jobs(server: Server) -> None:
    """The same over 200,000 is a target of the full run."""
    figures = memory.run(Plan(server, "quick"))

    assert figures["jobs"] == 20_000
    assert {"supervisor", "keeper", "relay", "slot_0", "slot_1"} <= {key.removesuffix("_megabytes") for key in figures}
    assert (figures["grown_megabytes"] or 0) <= 4
