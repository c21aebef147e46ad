"""Traces from enqueue to execution, with OpenTelemetry's SDK: what is exported, and what a job carries."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as contexts
from opentelemetry import trace as api
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from jobs import operate, publish, task, trace
from jobs.atomic import execute_atomic
from jobs.claim import Claimed
from jobs.conf import JobsSettings, jobs_settings
from jobs.dashboard.story import story
from jobs.draft import draft
from jobs.envelope import MAX_TRACE, dumps, loads, unpack_headers
from jobs.errors import InvalidArguments
from jobs.handle import JobHandle
from jobs.ids import new_id
from jobs.intake import _headers, _read, accept
from jobs.models import FinishedJob, Job
from jobs.outcome import Happened
from jobs.rescue import Watch, carry_out
from jobs.testing import run_jobs
from jobs.verdict import Fated
from outbox.models import Message
from outbox.relay import step
from outbox.session import Session
from tests import tasks
from tests.factories import FinishedJobFactory
from tests.support.floor import DEFAULTS, a_task, claim, conclude, outcome
from tests.support.people import superuser
from tests.support.processes import ROOT, environment
from tests.support.side_file import SideFile

if TYPE_CHECKING:
    from tests.support.spans import Seen  # its assertions are rewritten: a plugin is imported by pytest

pytest_plugins = ["tests.support.ours", "tests.support.spans"]

tracer = api.get_tracer("a test")

TRACEPARENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


@task
def enqueue_another() -> None:
    tasks.noop.enqueue()


@task
def look_at_baggage() -> object:
    return baggage.get_baggage("tenant")


def context(span: Any) -> Any:
    return span.context if isinstance(span, ReadableSpan) else span.get_span_context()


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def links_of(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def accepted(ours: Session, handle: JobHandle[Any]) -> Any:
    """The job in a slot's hands."""
    step(ours, accept, 100)
    (job,) = claim(ours, 1)
    assert job.id == handle.id
    return job


# Enqueue -------------------------------------------------------------------------------------------------------------


def test_an_enqueue_is_a_span_and_its_context_goes_with_the_message(ours: Session, spans: Seen) -> None:
    with tracer.start_as_current_span("the request") as request:
        handle = tasks.add.using(queue_name="mail").enqueue(1, 2)

    span = spans.one("enqueue tests.tasks.add")
    assert span.kind is SpanKind.PRODUCER
    assert parent_of(span) == context(request).span_id  # its own INSERT would be below it
    assert told(span) == {
        "messaging.system": "django_outbox_jobs",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "mail",
        "messaging.message.id": str(handle.id),
    }
    carried = json.loads(Message.objects.get().headers)["trace"]
    assert list(carried) == ["traceparent"]
    assert carried["traceparent"][:-2] == f"00-{context(request).trace_id:032x}-{context(span).span_id:016x}-"


def test_a_call_that_is_refused_is_a_span_with_an_error_and_without_its_words(ours: Session, spans: Seen) -> None:
    with pytest.raises(InvalidArguments):
        tasks.add.enqueue(1, {"canary"})  # type: ignore[arg-type]

    span = spans.one("enqueue tests.tasks.add")
    assert span.status.status_code is StatusCode.ERROR
    assert told(span)["error.type"] == "InvalidArguments"
    assert "canary" not in span.to_json()
    assert not Message.objects.exists()


def test_a_batch_is_one_span_that_all_its_attempts_link_to(ours: Session, spans: Seen) -> None:
    tasks.noop.enqueue_many([(n,) for n in range(3)])
    run_jobs()

    batch = spans.one("enqueue tests.tasks.noop")
    assert told(batch)["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in told(batch)
    assert [links_of(span) for span in spans.named("execute tests.tasks.noop")] == [[context(batch).span_id]] * 3


def test_an_event_is_a_span_over_its_consumers(ours: Session, spans: Seen, side_file: SideFile) -> None:
    event = publish(tasks.placed, {"order": 1})
    run_jobs(later=True)

    sent = spans.one("publish tests.placed")
    assert (told(sent)["messaging.destination.name"], told(sent)["messaging.batch.message_count"]) == (
        "tests.placed",
        3,
    )
    executed = [span for span in spans.all() if span.name.startswith("execute")]
    assert {told(span)["messaging.message.id"] for span in executed} == {str(job.id) for job in event.jobs}
    assert {parent_of(span) for span in executed} == {context(sent).span_id}


def test_without_tracing_nothing_is_carried_and_nothing_is_seen(ours: Session, spans: Seen, settings: Any) -> None:
    settings.JOBS = {**settings.JOBS, "TRACING": "off"}
    trace.begin()

    with tracer.start_as_current_span("the request"):
        tasks.noop.enqueue()
        assert "trace" not in json.loads(Message.objects.get().headers)
        run_jobs()

    assert FinishedJob.objects.get().trace is None
    assert [span.name for span in spans.all()] == ["the request"]


OFF = """
import sys, django
django.setup()
from jobs import trace
print(trace.spans, any(name.startswith("opentelemetry") for name in sys.modules))
"""
UNCONFIGURED = """
import django
django.setup()
from jobs.draft import draft
from tests import tasks
print(draft(tasks.noop, (), {}).headers == tasks.noop.fixed_headers + "}")
"""


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("code", "tracing", "said"), [(OFF, "off", "None False"), (UNCONFIGURED, "parent", "True")], ids=["off", "no SDK"]
)
def test_what_is_not_wanted_is_not_imported_and_not_carried(code: str, tracing: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment({"TRACING": tracing}), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == said


# Execute -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["parent", "link"])
def test_an_attempt_is_a_span_that_links_to_the_enqueue(ours: Session, spans: Seen, settings: Any, style: str) -> None:
    settings.JOBS = {**settings.JOBS, "TRACING": style}
    trace.begin()
    handle = tasks.add.enqueue(1, 2)
    run_jobs()

    sent, executed = spans.one("enqueue tests.tasks.add"), spans.one("execute tests.tasks.add")
    assert executed.kind is SpanKind.CONSUMER
    assert links_of(executed) == [context(sent).span_id]
    if style == "parent":
        assert (context(executed).trace_id, parent_of(executed)) == (context(sent).trace_id, context(sent).span_id)
    else:
        assert context(executed).trace_id != context(sent).trace_id
        assert executed.parent is None
    assert told(executed) == {
        "messaging.system": "django_outbox_jobs",
        "messaging.operation.name": "execute",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
        "messaging.message.id": str(handle.id),
        "jobs.task": "tests.tasks.add",
        "jobs.attempt": 1,
        "jobs.max_attempts": 1,
        "jobs.lease": 1,
        "jobs.outcome": "succeeded",
    }
    assert executed.status.status_code is StatusCode.UNSET
    assert api.get_current_span() is api.INVALID_SPAN


def test_a_retry_is_a_span_of_its_own_with_the_same_link(ours: Session, spans: Seen, side_file: SideFile) -> None:
    tasks.fail_until.using(max_attempts=2).enqueue(2, "mark")
    run_jobs(later=True, raise_errors=False)

    sent = spans.one("enqueue tests.tasks.fail_until")
    first, second = spans.named("execute tests.tasks.fail_until")
    assert links_of(first) == links_of(second) == [context(sent).span_id]
    assert [(told(span)["jobs.attempt"], told(span)["jobs.outcome"]) for span in (first, second)] == [
        (1, "retrying"),
        (2, "succeeded"),
    ]
    assert (first.status.status_code, told(first)["error.type"]) == (StatusCode.ERROR, "ConnectionError")
    (event,) = first.events
    assert event.name == "exception"
    assert dict(event.attributes or {})["exception.message"] == "ConnectionError: not yet"
    assert "fail_until" in str(dict(event.attributes or {})["exception.stacktrace"])
    assert second.status.status_code is StatusCode.UNSET


def test_what_a_job_enqueues_is_below_its_attempt(ours: Session, spans: Seen) -> None:
    enqueue_another.enqueue()
    run_jobs()

    attempt, child = spans.one(f"execute {enqueue_another.name}"), spans.one("enqueue tests.tasks.noop")
    assert parent_of(child) == context(attempt).span_id
    assert len({context(span).trace_id for span in spans.all()}) == 1
    assert parent_of(spans.one("execute tests.tasks.noop")) == context(child).span_id


def test_a_callback_goes_on_in_the_trace_of_its_job(ours: Session, spans: Seen) -> None:
    tasks.noop.using(on_success=tasks.echo.callback("{}")).enqueue()
    run_jobs()

    sent = spans.one("enqueue tests.tasks.noop")
    assert parent_of(spans.one("execute tests.tasks.echo")) == context(sent).span_id
    assert FinishedJob.objects.values("trace").distinct().count() == 1


def test_coroutines_have_a_span_each(spans: Seen) -> None:
    """The tasks of one event loop do not see each other's."""
    seen = []

    async def one(number: int) -> None:
        assert trace.spans is not None
        attempt = trace.spans.begin(_claimed(number))
        assert attempt is not None
        await asyncio.sleep(0)
        seen.append((number, context(api.get_current_span()).span_id))
        attempt.end(outcome(_claimed(number), Happened.SUCCEEDED))

    async def all_at_once() -> None:
        await asyncio.gather(*(asyncio.create_task(one(number)) for number in range(3)))

    asyncio.run(all_at_once())

    by_span = {context(span).span_id: told(span)["jobs.attempt"] for span in spans.all()}
    assert {number: by_span[span] for number, span in seen} == {0: 1, 1: 2, 2: 3}


def _claimed(attempts: int) -> Any:
    return Claimed(
        new_id(), "tests.tasks.noop", "default", 0, "{}", 1, 11, attempts, 0, 5, "", "", 0, 1, False,
        Job(ready_at=None).ready_at,
    )  # fmt: skip


def test_an_atomic_task_that_lost_its_lease_is_stale(ours: Session, spans: Seen) -> None:
    assert trace.spans is not None
    for stolen, said in ((False, "succeeded"), (True, "stale"), (False, "succeeded")):
        job = accepted(ours, tasks.noop.enqueue())
        if stolen:
            Job.objects.filter(pk=job.id).update(lease=5)
        attempt = trace.spans.begin(job)
        assert attempt is not None
        assert execute_atomic(job, a_task(lambda n=0: None, atomic=True), DEFAULTS, time.monotonic(), 1) is None
        attempt.end(None)

        assert told(spans.named("execute tests.tasks.noop")[-1])["jobs.outcome"] == said
        Job.objects.filter(pk=job.id).delete()


# Whoever is killed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("happened", "kind", "state"),
    [
        (Happened.TIMED_OUT, "timed_out", "dead"),
        (Happened.CRASHED, "crashed", "crashed"),
        (Happened.HANDED_BACK, None, "handed_back"),
    ],
)
def test_the_keeper_writes_the_span_of_a_killed_attempt(
    ours: Session, spans: Seen, happened: Happened, kind: str | None, state: str
) -> None:
    job = accepted(ours, tasks.noop.enqueue())
    fated = Fated(str(job.id), job.lease, job.claimer, happened, 2.5, f"its words on {happened}")
    carry_out(ours, [fated], 1, DEFAULTS)
    carry_out(ours, [fated], 1, DEFAULTS)  # told again, as after the death of a keeper

    sent, executed = spans.one("enqueue tests.tasks.noop"), spans.one("execute tests.tasks.noop")
    assert links_of(executed) == [context(sent).span_id]
    assert (told(executed).get("error.type"), told(executed)["jobs.outcome"]) == (kind, state)
    assert 2.4 < (executed.end_time - executed.start_time) / 1e9 < 60  # type: ignore[operator]
    assert (executed.status.status_code is StatusCode.ERROR) == (kind is not None)


def test_a_lost_worker_s_attempts_are_spans_of_who_found_it(ours: Session, spans: Seen) -> None:
    job = accepted(ours, tasks.noop.enqueue())
    watch = Watch()
    for _ in range(6):  # a stray: its worker has no row
        watch.look(ours, 99, DEFAULTS)

    executed = spans.one("execute tests.tasks.noop")
    assert told(executed)["messaging.message.id"] == str(job.id)
    assert (told(executed)["error.type"], told(executed)["jobs.outcome"]) == ("lost", "lost")


@pytest.mark.parametrize("on", ["start", "end"])
def test_no_outcome_is_lost_to_somebody_s_span_processor(
    ours: Session, spans: Seen, on: str, caplog: pytest.LogCaptureFixture
) -> None:
    handle = tasks.add.enqueue(1, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans.broken, "on", on)
        run_jobs()
        assert api.get_current_span() is api.INVALID_SPAN

    assert handle.return_value == 3
    assert "OpenTelemetry could not make the span of an attempt" in caplog.text


# What is carried -----------------------------------------------------------------------------------------------------


def test_baggage_goes_along_and_comes_out_in_the_task(ours: Session, spans: Seen) -> None:
    token = contexts.attach(baggage.set_baggage("tenant", "blue"))
    try:
        handle = look_at_baggage.enqueue()
    finally:
        contexts.detach(token)
    run_jobs()

    assert handle.return_value == "blue"


def test_baggage_that_is_too_large_stays_behind(ours: Session, spans: Seen) -> None:
    token = contexts.attach(baggage.set_baggage("tenant", "x" * MAX_TRACE))
    try:
        headers = draft(tasks.noop, (), {}).headers
        with tracer.start_as_current_span("the request"):
            traced = draft(tasks.noop, (), {}).headers
    finally:
        contexts.detach(token)

    assert "trace" not in loads(headers)
    assert list(loads(traced)["trace"]) == ["traceparent"]


def test_a_trace_does_not_spoil_what_the_gate_remembers(ours: Session, spans: Seen) -> None:
    _headers.cache_clear()
    for n in range(50):
        tasks.noop.enqueue(n)
    step(ours, accept, 100)

    assert _headers.cache_info().currsize == 1
    assert Job.objects.values("trace").distinct().count() == 50


@pytest.mark.parametrize("given", ["{}", '{"a":"b"}', '{"a":"}}"}', '{"a":",\\"trace\\":{"}'])
def test_the_gate_reads_a_trace_wherever_it_stands(given: str) -> None:
    wanted = None if given == "{}" else loads(given)
    rest = {"v": 1, "task": "a.b", "queue": "default"}
    last = dumps(rest)[:-1] + ',"trace":' + given + "}"
    first = '{"trace":' + given + "," + dumps(rest)[1:]
    nested = '{"more":{"x":1,"trace":' + given + "}," + dumps(rest)[1:]
    deep = dumps(rest)[:-1] + ',"more":{"x":1,"trace":' + given + "}}"

    for text in (last, first):
        assert _read(text) == unpack_headers(text)
        assert (None if (kept := _read(text).trace) is None else loads(kept)) == wanted
    for text in (nested, deep):
        assert _read(text) == unpack_headers(text)
        assert _read(text).trace is None


@pytest.mark.parametrize(
    "given", ['"text"', "[]", "{}", '{"a":1}', '{"a":{"b":"c"}}', '{"a":"' + "x" * MAX_TRACE + '"}']
)
def test_no_job_is_refused_for_a_trace_that_cannot_be_right(ours: Session, given: str) -> None:
    made = draft(tasks.noop, (), {})
    Message.objects.create(uid=made.uid, headers=made.headers[:-1] + ',"trace":' + given + "}", body=made.body)

    assert step(ours, accept, 100).set_aside == 0
    assert Job.objects.get().trace is None


@pytest.mark.parametrize(
    "text",
    [
        *map(dumps, [{"traceparent": "no"}, {"a": "b"}, {"traceparent": 5}, {"traceparent": [{}]}]),
        "[]",
        "nonsense",
        '"text"',
    ],
)
def test_an_attempt_without_a_readable_trace_begins_one(spans: Seen, text: str) -> None:
    assert trace.spans is not None
    job = _claimed(0)._replace(trace=text)
    attempt = trace.spans.begin(job)
    assert attempt is not None
    attempt.end(outcome(job, Happened.SUCCEEDED))

    executed = spans.one("execute tests.tasks.noop")
    assert executed.parent is None
    assert not executed.links
    assert trace.trace_id(text) == ""


def test_a_trace_stays_with_its_job_to_the_history_and_back(ours: Session, spans: Seen) -> None:
    handle = tasks.noop.enqueue()
    job = accepted(ours, handle)
    carried = job.trace
    conclude(ours, [outcome(job, Happened.UNREADABLE)])
    assert FinishedJob.objects.get().trace == carried
    operate.requeue([handle.id])
    assert Job.objects.get().trace == carried
    operate.cancel([handle.id])
    assert FinishedJob.objects.get().trace == carried


# For people ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_page_of_a_job_names_its_trace(settings: Any) -> None:
    job = FinishedJobFactory(trace=dumps(TRACEPARENT))
    number = TRACEPARENT["traceparent"].split("-")[1]
    page = f"/admin/jobs/job/{job.pk}/change/"
    client = superuser()

    assert f">{number}</span>" in client.get(page).content.decode()
    settings.JOBS = {**settings.JOBS, "TRACE_URL": "https://traces.example.com/{trace_id}?a=1"}
    assert f'<a class="jd-id" href="https://traces.example.com/{number}?a=1"' in client.get(page).content.decode()
    told_here = story(job.pk)
    assert told_here is not None and told_here.trace == number


def test_settings_that_cannot_be_are_found() -> None:
    assert not jobs_settings().problems()
    assert not JobsSettings(TRACE_URL="https://a.example/{trace_id}").problems()
    (tracing,) = JobsSettings(TRACING="yes").problems()
    (url,) = JobsSettings(TRACE_URL="https://a.example/").problems()
    (script,) = JobsSettings(TRACE_URL="javascript:alert('{trace_id}')").problems()
    assert "parent, link, off" in tracing
    assert "{trace_id}" in url and "{trace_id}" in script
