"""The thread that sends spans to a collector, and what decides which requests have any.

OpenTelemetry's SDK reads its own variables: endpoint, headers, certificates, timeout, compression,
sampler, resource. Its spans are made here and not while a request is served: a span costs 20 times
what our record of it does.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Thread
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.status import Status, StatusCode

from splitwise_core.tracing.clocks import unix_offset_s
from splitwise_core.tracing.context import SpanContext
from splitwise_core.tracing.recorder import Attribute, Recorder, Span

log = logging.getLogger("splitwise.tracing")

CLOSE_S: Final = 2.0
"""How long the end of a process waits for a collector to take the last spans."""

DEFAULT_RATIO: Final = 0.1
"""Of requests whose client says nothing; what a client samples is traced. docs/tracing.md has what
traces cost."""

_SAMPLED: Final = trace.TraceFlags(trace.TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope("splitwise")


class Exporter:
    """Sends what `recorder` holds, every `delay_s` or when a batch is full."""

    def __init__(
        self,
        recorder: Recorder,
        delay_s: float,
        attributes: Mapping[str, Attribute],
        count: Mapping[str, Callable[[int], None]],
        is_default_sampler: bool,
    ) -> None:
        """`count` hears how many spans were `sent`, and how many `failed`."""
        self._recorder = recorder
        self._delay_s = delay_s
        self._count = count
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go over what we say of ourselves.
        ours = Resource.create(dict(attributes))
        self._resource = ours.merge(OTELResourceDetector().detect())
        ratio = sampling.ParentBased(sampling.TraceIdRatioBased(DEFAULT_RATIO))
        provider = TracerProvider(ratio if is_default_sampler else None, shutdown_on_exit=False)
        self._sampler = provider.sampler
        self._otlp = OTLPSpanExporter()
        self._closing = Event()
        self._thread = Thread(target=self._run, name="traces", daemon=True)

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def close(self) -> None:
        """Sends what is left, and gives up after CLOSE_S."""
        self._closing.set()
        self._recorder.wanted.set()
        self._thread.join(CLOSE_S)
        self._otlp.shutdown()

    def sample(self, parent: tuple[SpanContext, bool] | None) -> SpanContext | None:
        """A span under `parent`, or the first of a new trace; None where the sampler drops it."""
        above = None
        context = SpanContext.new()
        if parent is not None:
            caller, is_sampled = parent
            flags = _SAMPLED if is_sampled else trace.TraceFlags(0)
            told = trace.SpanContext(caller.trace_id, caller.span_id, True, flags)
            above = trace.set_span_in_context(trace.NonRecordingSpan(told))
            context = caller.child()
        found = self._sampler.should_sample(above, context.trace_id, "request")
        is_sampled = found.decision is sampling.Decision.RECORD_AND_SAMPLE
        return context if is_sampled else None

    def _run(self) -> None:
        while not self._closing.is_set():
            self._recorder.wanted.wait(self._delay_s)
            self._recorder.wanted.clear()
            while spans := self._recorder.take():
                self._send(spans)

    def _send(self, spans: Sequence[Span]) -> None:
        # The processes of a host read one monotonic clock: a step of the wall's clock can part
        # their spans only if it falls between two processes' exports, and no step before it can.
        offset_s = unix_offset_s()
        try:
            result = self._otlp.export([self._readable(span, offset_s) for span in spans])
        except Exception:  # of a library: no span is worth a process
            log.exception("spans were not sent")
            result = SpanExportResult.FAILURE
        self._count["sent" if result is SpanExportResult.SUCCESS else "failed"](len(spans))

    def _readable(self, span: Span, offset_s: float) -> ReadableSpan:
        context = span.context
        own = trace.SpanContext(context.trace_id, context.span_id, False, _SAMPLED)
        parent = None
        if span.parent_id:
            parent = trace.SpanContext(context.trace_id, span.parent_id, True, _SAMPLED)
        return ReadableSpan(
            span.name,
            own,
            parent,
            self._resource,
            dict(span.attributes),
            kind=trace.SpanKind.SERVER if span.answers else trace.SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=int((span.began_s + offset_s) * 1e9),
            end_time=int((span.ended_s + offset_s) * 1e9),
            instrumentation_scope=_SCOPE,
        )
