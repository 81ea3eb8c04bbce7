"""A collector of traces: OTLP over gRPC on a real socket. It keeps spans, or hangs."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from tests.support.ports import free_port

ENVIRONMENT = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_SCHEDULE_DELAY": "50"}
"""Of processes whose spans a test waits for."""

WITHIN_S = 30.0


@dataclass(frozen=True)
class Got:
    """A span as it arrived; times in seconds since 1970."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    began_s: float
    ended_s: float
    attributes: dict[str, Any]
    error: str
    is_server: bool

    @property
    def seconds(self) -> float:
        return self.ended_s - self.began_s


class Collector(TraceServiceServicer):
    """Listens on `port`. While `holds` is set, no call is answered."""

    def __init__(self) -> None:
        self.port = free_port()
        self.spans: list[Got] = []
        self.answers = Event()
        self.answers.set()
        self.calls = 0

    @property
    def environment(self) -> dict[str, str]:
        """Makes a process send its spans here."""
        return ENVIRONMENT | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}"}

    def Export(
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        self.calls += 1
        self.answers.wait(WITHIN_S)
        for resource in request.resource_spans:
            place = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_got(span, place["service.name"]) for span in scope.spans]
        return ExportTraceServiceResponse()

    def wait_for(self, holds: Callable[[list[Got]], bool]) -> list[Got]:
        """All spans, once `holds(spans)`."""
        give_up = time.monotonic() + WITHIN_S
        while not holds(found := list(self.spans)):
            assert time.monotonic() < give_up, sorted({f"{s.service} {s.name}" for s in found})
            time.sleep(0.02)
        return found


def _got(span: Any, service: str) -> Got:
    values = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}
    return Got(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano / 1e9,
        span.end_time_unix_nano / 1e9,
        values,
        span.status.message,
        span.kind == span.SPAN_KIND_SERVER,
    )


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(8))
    add_TraceServiceServicer_to_server(collector, server)
    server.add_insecure_port(f"127.0.0.1:{collector.port}")
    server.start()
    try:
        yield collector
    finally:
        collector.answers.set()
        server.stop(0).wait()
