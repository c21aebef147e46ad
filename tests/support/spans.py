"""Spans of this process, in memory. A plugin: a test module says `pytest_plugins = ["tests.support.spans"]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jobs import trace


class Broken(SpanProcessor):
    """Somebody's processor, which raises."""

    on = ""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self.on == "start":
            raise ZeroDivisionError("on start")

    def on_end(self, span: Any) -> None:
        if self.on == "end":
            raise ZeroDivisionError("on end")


memory = InMemorySpanExporter()
broken = Broken()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(memory))
provider.add_span_processor(broken)


class Seen:
    """What has been exported so far."""

    broken = broken
    """Raises where it is told to."""

    def all(self) -> list[ReadableSpan]:
        return list(memory.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


@pytest.fixture
def spans(settings: Any) -> Iterator[Seen]:
    """Tracing is on, with an SDK that keeps what is exported."""
    if api.get_tracer_provider() is not provider:
        api.set_tracer_provider(provider)  # once in a process, whoever comes first
    settings.JOBS = {**settings.JOBS, "TRACING": "parent"}
    memory.clear()
    trace.begin()
    yield Seen()
    trace.spans = None
    memory.clear()
