"""What times of transfers say of a link. Pure: no socket, no clock."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from splitwise_core.rpc import kv_pb2

FAULTS: Final = frozenset(
    {
        *(kv_pb2.PEER_LOST, kv_pb2.TRANSPORT_FAILED),
        *(kv_pb2.DIGEST_MISMATCH, kv_pb2.GEOMETRY_MISMATCH),
    }
)
"""Ends of a request's transfer that are the link's doing, and not the request's."""

TELLING_BYTES: Final = 1 << 20
"""A request's transfer of fewer bytes says nothing of the rate: it is mostly latency."""

MAX_DETAIL: Final = 300


class Sample(NamedTuple):
    """One transfer."""

    kv_bytes: int
    seconds: float


def rates(small: Sequence[Sample], large: Sequence[Sample]) -> tuple[float, float]:
    """Latency in seconds, and bytes per second beyond it.

    Of several the quickest counts: what else runs on the machines only ever adds time.
    """
    little = min(small, key=lambda sample: sample.seconds)
    much = min(large, key=lambda sample: sample.seconds)
    more_bytes, more_s = much.kv_bytes - little.kv_bytes, much.seconds - little.seconds
    if more_bytes <= 0 or more_s <= 0:  # one token is as large as a probe gets, or noise won
        return 0.0, much.kv_bytes / max(much.seconds, 1e-9)
    return little.seconds, more_bytes / more_s


def failed(peer: str, outcome: kv_pb2.Outcome, detail: str, now_ms: int) -> kv_pb2.Link:
    """A link over which KV does not get there."""
    return kv_pb2.Link(
        peer=peer, outcome=outcome, detail=detail[:MAX_DETAIL], measured_unix_ms=now_ms
    )


def learned(
    before: kv_pb2.Link | None, peer: str, ended: kv_pb2.TransferEnded, now_ms: int
) -> kv_pb2.Link | None:
    """The link after a request's transfer; None when that says nothing of it.

    A transfer that ends well after its prompt went as fast as the link let it. Another went at the
    prompt's pace, and the link is at least as fast as that.
    """
    if ended.outcome in FAULTS:
        return failed(peer, ended.outcome, ended.detail, now_ms)
    if ended.outcome != kv_pb2.OK or before is None:
        return None
    link = kv_pb2.Link(
        peer=peer, outcome=kv_pb2.OK, transport=ended.transport, measured_unix_ms=now_ms
    )
    is_same_way = before.outcome == kv_pb2.OK and before.transport == ended.transport
    if not is_same_way:
        return link  # it works again, or another way: what the rate is now is to be measured
    link.latency_s, link.bytes_per_s = before.latency_s, before.bytes_per_s
    if ended.kv_bytes >= TELLING_BYTES and ended.transfer_s > before.latency_s:
        seen = ended.kv_bytes / (ended.transfer_s - before.latency_s)
        waited_for_link = 2 * ended.visible_s >= ended.transfer_s
        known = before.bytes_per_s or seen
        link.bytes_per_s = (known + seen) / 2 if waited_for_link else max(known, seen)
    return link
