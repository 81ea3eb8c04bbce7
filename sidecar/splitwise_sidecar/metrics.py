"""What a sidecar counts, said in its own words."""

from collections.abc import Callable
from functools import partial
from typing import Final

from splitwise_core.capability import Refusal
from splitwise_core.metrics.sidecar import (
    ATTACHED,
    CERTIFICATE_EXPIRY,
    CERTIFICATES_REFUSED,
    CONNECTIONS_REFUSED,
    DAMAGED_LAYERS,
    FORCED_FENCES,
    KEY_FAILURES,
    LATE_WRITES,
    LEASES,
    LEFT_OUT,
    LINK_PROBES,
    OLDEST_LEASE,
    PROBE,
    REFUSED_CALLS,
    REPUSHES,
    TRANSFER_BYTES,
    TRANSFER_SECONDS,
    TRANSFER_VISIBLE,
    TRANSFERS,
)
from splitwise_core.rpc import kv_pb2
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import OFF, Recorder
from splitwise_sidecar.lease import State
from splitwise_sidecar.refusal import label
from splitwise_sidecar.spans import SidecarSpans
from splitwise_sidecar.transports import NONE

_DIRECTIONS: Final = ("sent", "received")
_OUTCOMES: Final = tuple(name.lower() for name in kv_pb2.Outcome.keys()[1:])
"""All but "unspecified"."""


def _labels(direction: str, transport: str) -> dict[str, str]:
    return {"direction": direction, "transport": transport}


class SidecarMetrics:
    """Moves the metrics of one sidecar."""

    def __init__(self, telemetry: Telemetry, recorder: Recorder = OFF) -> None:
        self.spans = SidecarSpans(recorder)
        self._telemetry = telemetry
        self._bytes: dict[tuple[str, str], int] = {}
        self._ends: dict[tuple[str, str], dict[str, int]] = {}
        self._leases = dict.fromkeys(State, 0)
        # Made now, so that a scrape finds a 0 and not a gap.
        for state in State:
            show = partial(self._leases.__getitem__, state)
            telemetry.gauge(LEASES, state=state.value).set_function(show)
        self._attached = telemetry.gauge(ATTACHED)
        self._late_writes = telemetry.counter(LATE_WRITES)
        self._damaged = telemetry.counter(DAMAGED_LAYERS)
        self._repushes = telemetry.counter(REPUSHES)
        self.show_oldest_lease(lambda: 0.0)
        self._key_failures = telemetry.counter(KEY_FAILURES)
        self._forced_fences = telemetry.counter(FORCED_FENCES)
        for reason in Refusal:
            telemetry.counter(REFUSED_CALLS, refusal=reason.value)
        for direction in _DIRECTIONS:  # what ends before a transport is chosen has mostly failed
            self._show_ends(direction, NONE)

    def attached(self, attached: bool) -> None:
        """A worker's pool was attached, or let go."""
        self._attached.set(attached)

    def show_oldest_lease(self, age_s: Callable[[], float]) -> None:
        """`age_s()` is asked when somebody scrapes."""
        self._telemetry.gauge(OLDEST_LEASE).set_function(age_s)

    def lease_moved(self, before: State | None, after: State | None) -> None:
        """A lease changed its state; None is before its first and after its last.

        For one thread.
        """
        if before is not None:
            self._leases[before] -= 1
        if after is not None:
            self._leases[after] += 1

    def moved(self, direction: str, transport: str, count: int) -> None:
        """`count` bytes of KV were `sent` or `received`. For one thread."""
        key = direction, transport
        if key not in self._bytes:
            self._bytes[key] = 0
            total, labels = partial(self._bytes.__getitem__, key), _labels(*key)
            self._telemetry.show_total(TRANSFER_BYTES, total, **labels)
        self._bytes[key] += count

    def ended(self, direction: str, transport: str, outcome: kv_pb2.Outcome) -> None:
        """A transfer ended, or a peer's message about one was refused as senseless.

        With the first of a transport all outcomes begin to be shown, at 0: the rate of a counter
        that begins at 1 misses its first step, which is the one that somebody waits for. For one
        thread.
        """
        key = direction, transport
        if key not in self._ends:
            self._show_ends(*key)
        self._ends[key][label(outcome)] += 1

    def _show_ends(self, direction: str, transport: str) -> None:
        counts = self._ends[direction, transport] = dict.fromkeys(_OUTCOMES, 0)
        for name in _OUTCOMES:
            labels = _labels(direction, transport) | {"outcome": name}
            self._telemetry.show_total(TRANSFERS, partial(counts.__getitem__, name), **labels)

    def refused(self, reason: Refusal) -> None:
        """A peer asked for what it has no right to."""
        self._telemetry.counter(REFUSED_CALLS, refusal=reason.value).inc()

    def key_failed(self) -> None:
        """The file with the keys has changed, and does not read."""
        self._key_failures.inc()

    def handed_over(self, transport: str, transfer_s: float, visible_s: float) -> None:
        """A sent transfer was verified by the peer."""
        self._telemetry.histogram(TRANSFER_SECONDS, transport=transport).observe(transfer_s)
        self._telemetry.histogram(TRANSFER_VISIBLE, transport=transport).observe(visible_s)

    def probed(self, transport: str, outcome: kv_pb2.Outcome, probe_s: float) -> None:
        """A probe ended."""
        histogram = self._telemetry.histogram(PROBE, transport=transport, outcome=label(outcome))
        histogram.observe(probe_s)

    def link_measured(self, transport: str, outcome: kv_pb2.Outcome) -> None:
        """A measurement of a link ended."""
        self._telemetry.counter(LINK_PROBES, transport=transport, outcome=label(outcome)).inc()

    def damaged(self, layers: int) -> None:
        """This many layers arrived with another digest than they were sent with."""
        self._damaged.inc(layers)

    def repushed(self) -> None:
        """Damaged layers are being sent again."""
        self._repushes.inc()

    def certificate_taken(self, expires_s: float) -> None:
        """Connections are made with another certificate now; `expires_s` is since 1970."""
        self._telemetry.gauge(CERTIFICATE_EXPIRY).set(expires_s)
        self._telemetry.counter(CERTIFICATES_REFUSED)  # 0, and no gap, where there is TLS

    def certificate_refused(self) -> None:
        """A new certificate was of no use, and the old one stays."""
        self._telemetry.counter(CERTIFICATES_REFUSED).inc()

    def connections_refused(self, transport: str, count: int) -> None:
        """So many connections at the door of `transport` were not let in."""
        self._telemetry.counter(CONNECTIONS_REFUSED, transport=transport).inc(count)

    def left_out(self, transport: str) -> None:
        """A transport that there are devices for does not work."""
        self._telemetry.gauge(LEFT_OUT, transport=transport).set(1)

    def late_write(self) -> None:
        """A chunk for a lease that takes none was dropped."""
        self._late_writes.inc()

    def fenced_by_force(self) -> None:
        """Memory was taken from a sender that did not say that it had stopped."""
        self._forced_fences.inc()
