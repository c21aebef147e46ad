"""Spans for OpenTelemetry: one where a job is enqueued, and one for each attempt at it.

It takes the trace at hand where a job is enqueued, and leaves it with the message, as the application's propagators
write it. Where the job is executed it takes that up again: each attempt, a retry too, is a span that links to the span
of the enqueue. Whoever records an attempt ends its span: the slot that executed it, or the keeper for one whose process
is gone. A crash here loses spans, and nothing else.

Names are those of OpenTelemetry's conventions for messaging, which are still in development there, but for the end of a
span's name: the task says more than its queue, and there are as few of them.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from jobs.envelope import MAX_TRACE, dumps_ascii

if TYPE_CHECKING:
    from jobs.outcome import Facts, Outcome

    class Executed(Facts, Protocol):
        """A claimed job, and the trace it was enqueued in."""

        @property
        def trace(self) -> str | None: ...


logger = logging.getLogger("jobs")

SYSTEM = "django_outbox_jobs"

BROKEN = "OpenTelemetry could not make %s"

FLUSH = 2000
"""Milliseconds that the exporters of a process get when it ends."""

STALE = "stale"
"""What became of an attempt whose lease somebody else has by now."""


@contextmanager
def mended(what: str) -> Iterator[None]:
    """A propagator, a sampler or an exporter is the application's: what it raises is no job's, and no outcome's."""
    try:
        yield
    except Exception:
        logger.exception(BROKEN, what)


class Spans:
    """Of one process. `style`: "parent" has attempts in the trace of the enqueue, "link" in one of their own."""

    def __init__(self, style: str) -> None:
        self._style = style
        self._tracer = trace.get_tracer("jobs", version("django-outbox-jobs"))  # of any provider, also of a later one
        self.stale = False
        """The atomic task that has just been executed was no longer ours."""

    @contextmanager
    def sending(self, name: str, what: str, destination: str, count: int | None = None) -> Iterator[Span]:
        """Around the making and the writing of messages; `count` for a batch of them."""
        attributes: dict[str, Any] = {
            "messaging.system": SYSTEM,
            "messaging.operation.name": name,
            "messaging.operation.type": "send",
            "messaging.destination.name": destination,
        }
        if count is not None:
            attributes["messaging.batch.message_count"] = count
        with self._tracer.start_as_current_span(
            f"{name} {what}", kind=SpanKind.PRODUCER, attributes=attributes, record_exception=False,
            set_status_on_exception=False,
        ) as span:  # fmt: skip
            try:
                yield span
            except Exception as error:  # its text may quote an argument: the caller's own span may say more
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(StatusCode.ERROR)
                raise

    def header(self) -> str:
        """The context at hand as the last header of a message; empty where there is none."""
        carrier: dict[str, str] = {}
        with mended("what goes with a message"):
            propagate.inject(carrier)
        if not carrier:
            return ""
        text = dumps_ascii(carrier)
        if len(text) > MAX_TRACE:  # baggage: the trace is worth more than what somebody has packed into it
            text = dumps_ascii({name: value for name, value in carrier.items() if name == "traceparent"})
        return f',"trace":{text}' if len(text) > len("{}") else ""

    def begin(self, job: Executed, started: float | None = None) -> Attempt | None:
        """The span of an attempt, from now on the current one; `started` is monotonic, default now."""
        try:
            return self._begin(job, started)
        except Exception:
            logger.exception(BROKEN, "the span of an attempt")
            return None

    def _begin(self, job: Executed, started: float | None) -> Attempt:
        carried = propagate.extract(_carrier(job.trace), contexts.Context())
        sent = trace.get_current_span(carried).get_span_context()
        span = self._tracer.start_span(
            f"execute {job.task}",
            context=carried if self._style == "parent" else contexts.Context(),
            kind=SpanKind.CONSUMER,
            links=[Link(sent)] if sent.is_valid else [],
            start_time=None if started is None else time.time_ns() - int(1e9 * (time.monotonic() - started)),
            attributes={
                "messaging.system": SYSTEM,
                "messaging.operation.name": "execute",
                "messaging.operation.type": "process",
                "messaging.destination.name": job.queue,
                "messaging.message.id": str(job.id),
                "jobs.task": job.task,
                "jobs.attempt": job.attempts + 1,
                "jobs.max_attempts": job.max_attempts,
                "jobs.lease": job.lease,
            },
        )
        return Attempt(self, span, contexts.attach(trace.set_span_in_context(span, carried)))

    def taken_back(self, held: Sequence[Executed], outcomes: Sequence[Outcome], ids: Collection[UUID]) -> None:
        """Attempts whose process is gone, each a span by whoever has written what became of it."""
        rows = {job.id: job for job in held}
        for outcome in outcomes:
            if outcome.id not in ids or outcome.state == "succeeded" or not (outcome.kind or outcome.started):
                continue  # by the slot, or it has never started
            if (attempt := self.begin(rows[outcome.id], outcome.started)) is not None:
                attempt.end(outcome)

    def flush(self) -> None:
        """Have what is finished exported: the process is about to end, and runs no hooks of `atexit`."""
        with suppress(Exception):
            if (flush := getattr(trace.get_tracer_provider(), "force_flush", None)) is not None:
                flush(FLUSH)


class Attempt:
    """A span that is open. One that is never ended is never exported: its process was killed."""

    def __init__(self, spans: Spans, span: Span, token: Any) -> None:
        self._spans = spans
        self._span = span
        self._token = token

    def end(self, outcome: Outcome | None) -> None:
        """It led to this; None: to what an atomic task has already written by itself."""
        contexts.detach(self._token)
        stale, self._spans.stale = self._spans.stale, False
        with mended("the span of an attempt"):
            self._end(outcome, stale)

    def _end(self, outcome: Outcome | None, stale: bool) -> None:
        span = self._span
        if outcome is None:
            span.set_attribute("jobs.outcome", STALE if stale else "succeeded")
        else:
            span.set_attribute(
                "jobs.outcome", outcome.state if outcome.state != "ready" else outcome.kind or "handed_back"
            )
            if outcome.kind:
                _trouble(span, outcome)
        span.end()


def _trouble(span: Span, outcome: Outcome) -> None:
    """What is kept about the attempt, cleaned and cut, and no more than that."""
    kind = outcome.kind if outcome.kind != "failed" else outcome.error.partition(": ")[0][:200]
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR, outcome.error)
    told = {"exception.type": outcome.error.partition(": ")[0][:200], "exception.message": outcome.error}
    span.add_event("exception", told | ({"exception.stacktrace": outcome.traceback} if outcome.traceback else {}))


def _carrier(text: str | None) -> Mapping[str, str]:
    try:
        given = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return {name: value for name, value in given.items() if isinstance(value, str)} if isinstance(given, dict) else {}
