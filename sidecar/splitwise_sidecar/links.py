"""The prompt side: what is known of the links to other sidecars, measured when it is asked for.

A measurement is a few transfers into the peer's scratch memory, of two sizes, over the transport
that requests use. There is one at a time, and none while requests' KV is on its way to that peer:
their transfers say as much.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.dial import Dial
from splitwise_sidecar.link import Sample, failed, learned, rates
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.peer import Introduction, Peer
from splitwise_sidecar.pool import Pool
from splitwise_sidecar.probe import Apart
from splitwise_sidecar.refusal import Refused, label
from splitwise_sidecar.rehearsal import hand_over, link_tokens, random_pool
from splitwise_sidecar.rights import ANY_PROBE, Right, Rights
from splitwise_sidecar.transports import NONE

log = logging.getLogger("splitwise.sidecar.links")

DEADLINE_S: Final = 10.0
"""A whole measurement: 12 MiB, which 1.2 MB/s are enough for."""

ROUNDS: Final = 3
SLOW_S: Final = 0.5
"""A round that takes longer is not repeated: noise is small beside it, and the link is needed."""

MAX_KNOWN: Final = 1024
MAX_WANTED: Final = 64
TELL_EVERY_S: Final = 5.0
"""So often do requests' transfers renew what is known, when they change nothing."""

POSTPONED: Final = frozenset({kv_pb2.NO_CAPACITY, kv_pb2.DRAINING, kv_pb2.STALE_EPOCH})
"""The peer has no time for a probe: that is no fault of the link's."""


@dataclass(slots=True)
class _Known:
    """A link, since when it is known, and when the worker was told of it."""

    link: kv_pb2.Link
    at_s: float
    told_s: float


class Links:
    """Those of one attachment. `tell` hears of news; `is_busy` says where requests' KV goes."""

    def __init__(
        self,
        hello: kv_pb2.HelloRequest,
        dial: Dial,
        rights: Rights,
        geometry: KvGeometry,
        apart: Apart,
        is_busy: Callable[[str], bool],
        tell: Callable[[kv_pb2.Link], None],
        metrics: SidecarMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hello = hello
        self._dial = dial
        self._rights = rights
        self._geometry = geometry
        self._tokens = link_tokens(geometry)
        self._apart = apart
        self._is_busy = is_busy
        self._tell = tell
        self._metrics = metrics
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._wanted: dict[str, None] = {}
        self._source: Pool | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def measure(self, message: kv_pb2.MeasureLink) -> None:
        """Tells what is known when that is young enough; else measures, in its turn."""
        peer = message.peer
        known = self._known.get(peer)
        if known is not None and self._clock() - known.at_s < message.max_age_s:
            self._tell(known.link)
            return
        if peer in self._wanted or self._is_busy(peer):
            return
        if len(self._wanted) == MAX_WANTED:
            self._metrics.link_measured(NONE, kv_pb2.NO_CAPACITY)
            return
        self._wanted[peer] = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._measure_wanted())

    def learn(self, peer: str, ended: kv_pb2.TransferEnded) -> None:
        """A request's transfer has ended."""
        if self._closed:  # then it has ended with its worker
            return
        known = self._known.get(peer)
        link = learned(known.link if known else None, peer, ended, _now_ms())
        if link is not None:
            self._keep(link, TELL_EVERY_S)

    async def close(self) -> None:
        """Measures and learns no more, and gives the memory back."""
        self._closed = True
        self._wanted.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._source is not None:
            self._source.close()
            self._source = None

    async def _measure_wanted(self) -> None:
        while self._wanted:
            peer = next(iter(self._wanted))
            try:
                await self._measure(peer)
            finally:
                self._wanted.pop(peer, None)

    async def _measure(self, address: str) -> None:
        transports = self._apart.transports
        peer = Peer(address, self._dial, self._hello, transports, lambda _: None)
        try:
            async with asyncio.timeout(DEADLINE_S):
                link = await self._through(peer)
        except Refused as refused:
            link = failed(address, refused.outcome, refused.detail, _now_ms())
        except TimeoutError:
            detail = f"not measured within {DEADLINE_S:g} s"
            link = failed(address, kv_pb2.EXPIRED, detail, _now_ms())
        finally:
            await peer.close()
            for transport in transports.values():
                await transport.forget(address)
        self._metrics.link_measured(link.transport or NONE, link.outcome)
        if link.outcome not in POSTPONED:
            self._keep(link)

    async def _through(self, peer: Peer) -> kv_pb2.Link:
        """A few small transfers, then a few larger ones. Raises Refused."""
        introduction = await peer.introduce()
        small = [await self._once(peer, introduction, 1) for _ in range(ROUNDS)]
        large: list[Sample] = []
        while len(large) < ROUNDS and not (large and large[-1].seconds > SLOW_S):
            large.append(await self._once(peer, introduction, self._tokens))
        latency_s, bytes_per_s = rates(small, large)
        return kv_pb2.Link(
            peer=peer.address,
            outcome=kv_pb2.OK,
            transport=introduction.transport.name,
            latency_s=latency_s,
            bytes_per_s=bytes_per_s,
            measured_unix_ms=_now_ms(),
        )

    async def _once(self, peer: Peer, met: Introduction, tokens: int) -> Sample:
        if self._source is None:
            self._source = await random_pool(self._geometry, self._tokens)
        right = self._right(ANY_PROBE, met, tokens)
        request = kv_pb2.OpenProbeRequest(
            epoch=met.epoch, num_tokens=tokens, claim=right.claim(met.epoch)
        )
        right = self._right(await peer.open_probe(request), met, tokens)
        metrics = self._apart.metrics
        ended = await hand_over(right, self._source, tokens, peer, metrics, DEADLINE_S)
        return Sample(ended.kv_bytes, ended.transfer_s)

    def _right(self, transfer_id: str, met: Introduction, tokens: int) -> Right:
        not_after_ms = _now_ms() + int(DEADLINE_S * 1000)
        return self._rights.to_probe(transfer_id, met.worker_id, tokens, not_after_ms)

    def _keep(self, link: kv_pb2.Link, tell_every_s: float = 0.0) -> None:
        """Remembers, and tells it; what changes nothing not more often than `tell_every_s`."""
        now_s = self._clock()
        before = self._known.pop(link.peer, None)
        told_s = before.told_s if before is not None else 0.0
        changed = before is None or before.link.outcome != link.outcome
        if changed:
            _log(link)
        if changed or now_s - told_s >= tell_every_s:
            self._tell(link)
            told_s = now_s
        self._known[link.peer] = _Known(link, now_s, told_s)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _log(link: kv_pb2.Link) -> None:
    fields: dict[str, object] = {"peer": link.peer, "outcome": label(link.outcome)}
    if link.outcome != kv_pb2.OK:
        log.warning("link fails", extra={"fields": fields | {"detail": link.detail}})
        return
    fields |= {"transport": link.transport, "latency_ms": round(link.latency_s * 1e3, 3)}
    fields["mb_per_s"] = round(link.bytes_per_s / 1e6, 1)
    log.info("link measured", extra={"fields": fields})
