"""What a sidecar says to a request's trace: its part of a transfer, under its worker's span."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from splitwise_core.rpc import kv_pb2
from splitwise_core.tracing import (
    OFF,
    Attribute,
    Recorder,
    Span,
    SpanContext,
    parse_traceparent,
)
from splitwise_sidecar.refusal import label


@dataclass(frozen=True, slots=True)
class Traced:
    """The request that a transfer is for: its id, for logs, and its worker's span, if any."""

    request_id: str = ""
    traceparent: str = ""

    @property
    def fields(self) -> dict[str, object]:
        """What a log line says of it."""
        found = parse_traceparent(self.traceparent)
        trace = {"trace_id": found[0].trace_hex} if found else {}
        return {"request_id": self.request_id, **trace}


NOBODYS: Final = Traced()
"""Of bytes that only measure a link."""

Part = tuple[str, float, float]
"""A span within another: its name, when it began and when it ended, by the monotonic clock."""


class SidecarSpans:
    """Records spans of traced transfers; of others nothing."""

    def __init__(self, recorder: Recorder = OFF) -> None:
        self._recorder = recorder

    def ended(
        self,
        traced: Traced,
        whole: Part,
        parts: list[Part],
        outcome: kv_pb2.Outcome,
        attributes: Mapping[str, Attribute],
    ) -> None:
        """A transfer, or a lease, is over; `parts` that did not begin or end count as none."""
        if not self._recorder.is_on or not (found := parse_traceparent(traced.traceparent)):
            return
        above, _ = found
        own = above.child()
        told = {"request_id": traced.request_id, "outcome": label(outcome), **attributes}
        said: dict[str, Attribute] = {f"splitwise.{name}": value for name, value in told.items()}
        self._add(whole, own, above, said, "" if outcome == kv_pb2.OK else label(outcome))
        for part in parts:
            _, began_s, ended_s = part
            if 0 < began_s <= ended_s:
                self._add(part, own.child(), own, {})

    def _add(
        self,
        part: Part,
        own: SpanContext,
        above: SpanContext,
        attributes: Mapping[str, Attribute],
        error: str = "",
    ) -> None:
        name, began_s, ended_s = part
        self._recorder.add(Span(name, own, above.span_id, began_s, ended_s, attributes, error))
