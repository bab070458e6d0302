# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that makes spans of what `spans` tells, and sends them by OpenTelemetry's own SDK.

Only here: opentelemetry, which is optional. Endpoint, headers, certificates and sampling are its
own variables'. Its standard input ends with the command, however that ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mock_cloud import __version__

_LAST_S: Final = 60
"""So long a collector may take with the last spans, until this process gives them up."""


def main() -> None:
    """Read events from standard input until it ends."""
    os.environ.setdefault("OTEL_SERVICE_NAME", "mock-cloud")
    provider = TracerProvider(resource=Resource.create({SERVICE_VERSION: __version__}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    events = (json.loads(line) for line in sys.stdin.buffer)
    make_spans(
        provider.get_tracer("mock_cloud", __version__), events, os.environ.get("TRACEPARENT", "")
    )
    signal.alarm(_LAST_S)
    provider.shutdown()


def make_spans(tracer: Tracer, events: Iterable[dict[str, Any]], parent: str) -> None:
    """One span for the command, below `parent` (W3C's traceparent, or empty), and one a phase.

    A command that says nothing of its end was killed: its span ends with the last that it told.
    """
    above = TraceContextTextMapPropagator().extract({"traceparent": parent} if parent else {})
    told = iter(events)
    first = next(told, None)
    if first is None:
        return
    whole = tracer.start_span("mock-cloud", context=above, start_time=first["at_ns"])
    command = _Command(tracer, whole, first["at_ns"])
    for event in told:
        command.take(event)
    command.end()


class _Command:
    """The span of one command, and what its next phase has told."""

    def __init__(self, tracer: Tracer, span: Span, began_ns: int) -> None:
        self._tracer, self._span, self._last_ns = tracer, span, began_ns
        self._details: list[tuple[str, int]] = []
        self._is_over = False

    def take(self, event: dict[str, Any]) -> None:
        """One event but the first."""
        self._last_ns = event["at_ns"]
        what = event["event"]
        if what == "note":
            for name, value in event["facts"].items():
                self._span.set_attribute(f"mock_cloud.{name}", value)
        elif what == "detail":
            self._details.append((event["text"], event["at_ns"]))
        elif what == "phase":
            self._add_phase(event)
        elif what == "end":
            self._is_over = True
            self._span.set_attribute("process.exit.code", event["exit"])
            if event["exit"]:
                self._span.set_status(Status(StatusCode.ERROR, event["kind"]))

    def end(self) -> None:
        """Nothing is told any more."""
        if not self._is_over:
            self._span.set_status(Status(StatusCode.ERROR, "killed"))
        self._span.end(self._last_ns)

    def _add_phase(self, event: dict[str, Any]) -> None:
        span = self._tracer.start_span(
            event["phase"],
            context=set_span_in_context(self._span),
            start_time=event["began_ns"],
            attributes={"mock_cloud.bytes": event["bytes"]},
        )
        for text, at_ns in self._details:
            span.add_event(text, timestamp=at_ns)
        self._details.clear()
        span.end(event["at_ns"])
