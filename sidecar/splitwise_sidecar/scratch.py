"""Memory of the sidecar's own in which probes of other sidecars land: the worker lends no block.

Whoever holds a key may open a probe, or anyone where there are no keys. So there is little of it,
for a short time, whatever the other side does: a lease here ends HELD_S after it began, renewed or
not.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.leases import Leases
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.pool import Pool
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.rehearsal import empty_pool, link_tokens

SLOTS: Final = 2
"""Probes that may land at once, PROBE_BYTES each. More would measure each other."""

LEASE_MS: Final = 2000
"""A peer that has opened a probe reserves it at once, and renews it three times in this."""

HELD_S: Final = 10.0
"""As long as a whole measurement may take."""


class Scratch:
    """The scratch memory of one attachment; `idle` is called when a lease in it has ended."""

    def __init__(
        self,
        geometry: KvGeometry,
        leases: Leases,
        metrics: SidecarMetrics,
        idle: Callable[[], None],
    ) -> None:
        self._geometry = geometry
        self._leases = leases
        self._metrics = metrics
        self._idle = idle
        self._tokens = link_tokens(geometry)
        self._pools: list[Pool] = []
        self._free: list[Pool] = []

    def open(self, num_tokens: int) -> str:
        """The id of a transfer that may land now. Raises Refused."""
        if not 0 < num_tokens <= self._tokens:
            detail = f"{num_tokens} tokens; a probe has 1 to {self._tokens}"
            raise Refused(kv_pb2.DENIED, detail)
        pool = self._take()
        transfer_id = f"probe-{secrets.token_hex(16)}"
        loop = asyncio.get_running_loop()
        bound = loop.call_later(HELD_S, self._leases.close, transfer_id)

        def over(_: kv_pb2.FromSidecarToWorker) -> None:
            bound.cancel()
            self._free.append(pool)
            self._idle()

        lease = kv_pb2.OpenLease(
            transfer_id=transfer_id,
            blocks=[0],
            num_tokens=num_tokens,
            lease_ms=LEASE_MS,
            request_id=transfer_id,
        )
        self._leases.open(lease, self._metrics, over, pool)
        return transfer_id

    def close(self) -> None:
        """Gives the memory back, once no lease is open."""
        for pool in self._pools:
            pool.close()
        self._pools.clear()
        self._free.clear()

    def _take(self) -> Pool:
        """A slot that nobody uses, made when it is first needed. Raises Refused."""
        if self._free:
            return self._free.pop()
        if len(self._pools) == SLOTS:
            raise Refused(kv_pb2.NO_CAPACITY, f"{SLOTS} probes are landing already")
        pool = empty_pool(self._geometry, self._tokens)
        self._pools.append(pool)
        return pool
