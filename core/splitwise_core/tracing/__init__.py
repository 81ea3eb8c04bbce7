"""Traces: what a request did in each process, as spans that a collector puts together.

A router decides whether a request is traced, and its context goes along with the request, in fields
of our own messages: one stream carries many requests. Each process records its spans when they have
ended, into a bounded queue; a thread of its own sends them. OpenTelemetry is imported by `exporter`
alone, which only a process imports that is asked for traces.
"""

from splitwise_core.tracing.clocks import unix_offset_s
from splitwise_core.tracing.context import SpanContext, parse_traceparent
from splitwise_core.tracing.recorder import OFF, Attribute, Recorder, Span
from splitwise_core.tracing.setup import Tracing, open_tracing

__all__ = [
    "OFF",
    "Attribute",
    "Recorder",
    "Span",
    "SpanContext",
    "Tracing",
    "open_tracing",
    "parse_traceparent",
    "unix_offset_s",
]
