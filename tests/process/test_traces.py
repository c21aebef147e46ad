"""Traces over real processes: each attempt is exported by the process that recorded it, and none is lost at an end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.handle import JobHandle
from jobs.models import FinishedJob
from tests import tasks
from tests.support.processes import Program
from tests.support.side_file import SideFile
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from tests.support.spans import Seen  # its assertions are rewritten: a plugin is imported by pytest

pytest_plugins = ["tests.support.spans"]
pytestmark = pytest.mark.kills

ON = {"TRACING": "parent"}


def attempts(written: Path, job: JobHandle[Any], spans: Seen) -> list[tuple[str, str, str]]:
    """By whom, what became of it, and its error: of each attempt, in order. All hang on the enqueue in this process."""
    found = [json.loads(line) for line in written.read_text().splitlines()]
    mine = sorted(
        (span for span in found if span["attributes"]["messaging.message.id"] == str(job.id)),
        key=lambda span: str(span["start_time"]),
    )
    (sent,) = [
        span for span in spans.all() if span.attributes and span.attributes.get("messaging.message.id") == str(job.id)
    ]
    assert sent.context is not None
    for span in mine:
        assert span["parent_id"] == f"0x{sent.context.span_id:016x}"
        assert [link["context"]["span_id"] for link in span["links"]] == [span["parent_id"]]
        assert span["context"]["trace_id"] == f"0x{sent.context.trace_id:032x}"
    return [
        (
            span["resource"]["attributes"]["service.name"],
            span["attributes"]["jobs.outcome"],
            span["attributes"].get("error.type", ""),
        )
        for span in mine
    ]


def test_what_is_not_yet_exported_is_flushed_when_a_worker_ends(
    runworkers: Callable[..., Program], spans: Seen, side_file: SideFile, tmp_path: Path
) -> None:
    written = tmp_path / "spans"
    worker = runworkers("--slots", "1", jobs=ON, env={"TEST_SPANS": str(written), "TEST_SPANS_BATCHED": "1"})
    crashed = tasks.kill_itself.enqueue("crashed")
    wait_until(lambda: FinishedJob.objects.exists(), within=30, what="a dead job")  # before others share its slot
    well = tasks.leave_mark.enqueue("well")
    atomic = tasks.atomic_effect.enqueue("atomic")
    coroutine = tasks.async_fail_always.using(max_attempts=2).enqueue("no")
    wait_until(lambda: FinishedJob.objects.count() == 4, within=30, what="four ended jobs")
    assert not written.exists()

    assert worker.terminate() == 0

    assert len(attempts(written, crashed, spans)) == 3  # by the keeper
    assert attempts(written, well, spans) == [("shop-slot", "succeeded", "")]
    assert attempts(written, atomic, spans) == [("shop-slot", "succeeded", "")]
    assert attempts(written, coroutine, spans) == [
        ("shop-slot", "retrying", "RuntimeError"),
        ("shop-slot", "dead", "RuntimeError"),
    ]


def test_the_attempts_of_killed_processes_are_exported_by_the_keeper(
    runworkers: Callable[..., Program], spans: Seen, side_file: SideFile, tmp_path: Path
) -> None:
    written = tmp_path / "spans"
    runworkers("--slots", "1", jobs=ON, env={"TEST_SPANS": str(written)})
    killed = tasks.hang_once.enqueue("killed")
    crashed = tasks.kill_itself.enqueue("crashed")
    wait_until(lambda: FinishedJob.objects.count() == 2, within=60, what="two ended jobs")

    wait_until(lambda: len(attempts(written, killed, spans)) == 2 and len(attempts(written, crashed, spans)) == 3)
    assert attempts(written, killed, spans) == [
        ("shop-keeper", "retrying", "timed_out"),
        ("shop-slot", "succeeded", ""),
    ]
    assert attempts(written, crashed, spans) == [
        ("shop-keeper", "crashed", "crashed"),
        ("shop-keeper", "crashed", "crashed"),
        ("shop-keeper", "dead", "crashed"),
    ]
