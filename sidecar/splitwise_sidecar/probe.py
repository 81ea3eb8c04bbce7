"""The self-probe: random bytes through this sidecar's own door, pushed and verified as a peer's.

A worker gets no work before one has passed: it shows that peers find this sidecar where the worker
says it is, and that the transport moves bytes as they are. Its lease and its transfer are real, but
no request's: they are counted apart, and the worker hears of the probe's end alone.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.dial import Dial
from splitwise_sidecar.leases import Leases
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.peer import Peer
from splitwise_sidecar.refusal import Refused, label
from splitwise_sidecar.rehearsal import hand_over, probe_tokens, random_pool
from splitwise_sidecar.rights import Right, Rights
from splitwise_sidecar.transports import Transport

log = logging.getLogger("splitwise.sidecar.probe")

DEADLINE_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class Apart:
    """What probes move bytes with, and where these are counted instead of among the requests'."""

    transports: Mapping[str, Transport]
    metrics: SidecarMetrics


@dataclass(frozen=True, slots=True)
class Door:
    """The door to be tried: where it is said to be, who has to be behind it, and what opens it."""

    address: str
    dial: Dial
    epoch: int
    hello: kv_pb2.HelloRequest
    rights: Rights


class Probe:
    """Tries until one try of all transports has passed.

    `tell` hears of each, `idle` when a lease of it has ended.
    """

    def __init__(
        self,
        door: Door,
        block: int,
        geometry: KvGeometry,
        leases: Leases,
        apart: Apart,
        tell: Callable[[kv_pb2.ProbeEnded], None],
        idle: Callable[[], None],
    ) -> None:
        self._door = door
        self._block = block
        self._leases = leases
        self._apart = apart
        self._tell = tell
        self._idle = idle
        self._tokens = probe_tokens(geometry)
        self._geometry = geometry
        self._before: dict[str, kv_pb2.Outcome] = {}

    async def run(self, metrics: SidecarMetrics) -> None:
        """Returns once a probe has passed."""
        pause_s = FIRST_PAUSE_S
        while True:
            ended = await self._try_all(metrics)
            self._tell(ended)
            if ended.outcome == kv_pb2.OK:
                return
            await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _try_all(self, metrics: SidecarMetrics) -> kv_pb2.ProbeEnded:
        """One try of each transport, since a peer may need any; how the last of them ended."""
        ended = kv_pb2.ProbeEnded()
        for transport in self._apart.transports.values():
            ended = await self._try(transport)
            metrics.probed(ended.transport, ended.outcome, ended.probe_s)
            self._log(ended)
            if ended.outcome != kv_pb2.OK:
                break
        return ended

    async def _try(self, transport: Transport) -> kv_pb2.ProbeEnded:
        started_s = time.monotonic()
        hello = kv_pb2.HelloRequest()
        hello.CopyFrom(self._door.hello)
        hello.transports[:] = [transport.name]
        door, only = self._door, {transport.name: transport}
        peer = Peer(door.address, door.dial, hello, only, lambda _: None)
        outcome, detail = kv_pb2.OK, ""
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._pass_through(peer)
        except Refused as refused:
            outcome, detail = refused.outcome, refused.detail
        except TimeoutError:
            outcome, detail = kv_pb2.EXPIRED, f"not verified within {DEADLINE_S:g} s"
        finally:
            await peer.close()
            await transport.forget(peer.address)
        return kv_pb2.ProbeEnded(
            outcome=outcome,
            detail=detail,
            kv_bytes=self._geometry.sequence_bytes(self._tokens) if outcome == kv_pb2.OK else 0,
            probe_s=time.monotonic() - started_s,
            transport=transport.name,
        )

    async def _pass_through(self, peer: Peer) -> None:
        """One whole transfer to ourselves. Raises Refused."""
        introduction = await peer.introduce()
        if introduction.epoch != self._door.epoch:
            detail = f"the sidecar at {peer.address} is another worker's"
            raise Refused(kv_pb2.DENIED, detail)
        transfer_id = f"probe-{secrets.token_hex(16)}"
        deadline_s = time.time() + DEADLINE_S
        right = self._door.rights.to_probe(
            transfer_id, self._door.hello.worker_id, self._tokens, int(deadline_s * 1000)
        )
        lease = kv_pb2.OpenLease(
            transfer_id=transfer_id,
            blocks=[self._block],
            num_tokens=self._tokens,
            lease_ms=int(DEADLINE_S * 1000),
            request_id=transfer_id,
        )
        self._leases.open(lease, self._apart.metrics, lambda _: self._idle())
        try:
            await self._push(peer, right)
        finally:
            self._leases.close(transfer_id)  # nothing, when it was verified

    async def _push(self, peer: Peer, right: Right) -> None:
        source = await random_pool(self._geometry, self._tokens)
        try:
            metrics = self._apart.metrics
            await hand_over(right, source, self._tokens, peer, metrics, DEADLINE_S)
        finally:
            source.close()

    def _log(self, ended: kv_pb2.ProbeEnded) -> None:
        """Says what has changed; a failure that lasts is said once."""
        if ended.outcome == self._before.get(ended.transport):
            return
        self._before[ended.transport] = ended.outcome
        fields: dict[str, object] = {"address": self._door.address, "transport": ended.transport}
        fields["outcome"] = label(ended.outcome)
        if ended.outcome != kv_pb2.OK:
            log.warning("KV probe failed", extra={"fields": fields | {"detail": ended.detail}})
            return
        fields |= {"bytes": ended.kv_bytes, "seconds": round(ended.probe_s, 4)}
        log.info("KV probe passed", extra={"fields": fields})
