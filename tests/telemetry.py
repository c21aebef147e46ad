"""An application that sets up OpenTelemetry in the processes of a worker, as docs/tracing.md says; spans go to a file.

Installed where `TEST_SPANS` in the environment names that file. They are written at once, or, with
`TEST_SPANS_BATCHED`, in batches, the first one after an hour: what is there before was flushed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult

from jobs.signals import process_started


class ToFile(SpanExporter):
    """A line of JSON for each span."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with open(os.environ["TEST_SPANS"], "a") as file:  # noqa: PTH123
            file.writelines(span.to_json(indent=None) + "\n" for span in spans)
        return SpanExportResult.SUCCESS


def start(process: str, **_: Any) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": f"shop-{process}"}))
    if os.environ.get("TEST_SPANS_BATCHED"):
        provider.add_span_processor(BatchSpanProcessor(ToFile(), schedule_delay_millis=3_600_000))
    else:
        provider.add_span_processor(SimpleSpanProcessor(ToFile()))
    trace.set_tracer_provider(provider)


class Telemetry(AppConfig):
    name = "tests.telemetry"
    label = "tests_telemetry"
    path = os.path.dirname(__file__)  # noqa: PTH120

    def ready(self) -> None:
        process_started.connect(start)
