"""One worker's stay: its pool, the leases it opened, the transfers it started.

All of it begins with Attach and ends with the worker's connection; the next worker finds nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.dial import Dial
from splitwise_sidecar.leases import MAX_ID_CHARACTERS, Leases
from splitwise_sidecar.links import Links
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.peer import Peer
from splitwise_sidecar.pool import Pool
from splitwise_sidecar.probe import Apart, Door, Probe
from splitwise_sidecar.refusal import Refused, label
from splitwise_sidecar.rehearsal import probe_tokens
from splitwise_sidecar.rights import Rights
from splitwise_sidecar.scratch import Scratch
from splitwise_sidecar.spans import Traced
from splitwise_sidecar.transfer import Order, Transfer
from splitwise_sidecar.transports import Transport

log = logging.getLogger("splitwise.sidecar.attachment")

MAX_STOP_S: Final = 5.0
"""Stopping a transfer takes one turn of the event loop; more would be a bug."""

Send = Callable[[kv_pb2.FromSidecarToWorker], None]


class Attachment:
    """What `hear` is told by the worker, it does; what happens, it says through `send`."""

    def __init__(
        self,
        worker_id: str,
        epoch: int,
        pool: Pool,
        send: Send,
        transports: dict[str, Transport],
        metrics: SidecarMetrics,
        apart: Apart,
        rights: Rights,
        dial: Dial,
    ) -> None:
        self.worker_id = worker_id
        self.rights = rights
        self.epoch = epoch
        self.leases = Leases(epoch, pool, self._tell, metrics)
        self.draining = False
        self._pool = pool
        self._send = send
        self._transports = transports
        self._metrics = metrics
        self._apart = apart
        self._dial = dial
        self._probing: asyncio.Task[None] | None = None
        self._transfers: dict[str, Transfer] = {}
        self._peers: dict[str, Peer] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._hello = kv_pb2.HelloRequest(
            worker_id=worker_id,
            geometry_fingerprint=pool.geometry.fingerprint(),
            transports=list(transports),
        )
        self._scratch = Scratch(pool.geometry, self.leases, apart.metrics, self._note_idle)
        self._links = Links(
            self._hello, dial, rights, pool.geometry, apart, self._is_busy, self._say, metrics
        )

    @property
    def geometry(self) -> KvGeometry:
        """The shape of the worker's pool."""
        return self._pool.geometry

    async def wait_idle(self, within_s: float) -> None:
        """Returns when no lease and no transfer is left, or `within_s` has passed."""
        self._idle.clear()
        self._note_idle()
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            fields = {"leases": len(self.leases), "transfers": len(self._transfers)}
            log.warning("still under way", extra={"fields": fields})

    def open_probe(self, num_tokens: int) -> str:
        """Lets bytes land that only measure a link; the id of their transfer. Raises Refused."""
        if self.draining:
            raise Refused(kv_pb2.DRAINING, f"{self.worker_id} takes no new work")
        return self._scratch.open(num_tokens)

    def _note_idle(self) -> None:
        if not self._transfers and not self.leases:
            self._idle.set()

    def hear(self, message: kv_pb2.FromWorkerToSidecar) -> None:
        """Does what the worker asks. Raises Refused(INVALID) when it makes no sense.

        An answer to something that has just ended crosses the news of its end: it is no error.
        """
        match message.WhichOneof("kind"):
            case "open_lease":
                self._open_lease(message.open_lease)
            case "close_lease":
                self.leases.close(message.close_lease.transfer_id)
            case "start_transfer":
                self._start_transfer(message.start_transfer)
            case "layers_ready":
                if transfer := self._transfers.get(message.layers_ready.transfer_id):
                    transfer.layers_ready(message.layers_ready.first, message.layers_ready.count)
            case "finish_transfer":
                if transfer := self._transfers.get(message.finish_transfer.transfer_id):
                    transfer.finish(message.finish_transfer.output_tokens)
            case "withdraw_transfer":
                if transfer := self._transfers.get(message.withdraw_transfer.transfer_id):
                    transfer.stop(message.withdraw_transfer.reason, "withdrawn by its worker")
            case "start_probe":
                self._start_probe(message.start_probe)
            case "measure_link":
                if not self.draining:
                    self._links.measure(message.measure_link)
            case kind:
                raise Refused(kv_pb2.INVALID, f"a message of kind {kind} has no place here")

    async def end(self, outcome: kv_pb2.Outcome, detail: str) -> None:
        """Ends everything with this outcome; returns when the peers know, or cannot be told.

        The memory is given back first: another worker may be waiting for room.
        """
        if self._probing is not None:
            self._probing.cancel()
        await self._links.close()
        transfers = list(self._transfers.values())
        for transfer in transfers:
            transfer.stop(outcome, detail)
        await self.leases.end_all()
        await self.wait_idle(MAX_STOP_S)
        self._scratch.close()
        self._pool.close()
        await asyncio.gather(*(transfer.join() for transfer in transfers))
        for peer in list(self._peers.values()):
            self._let_go(peer)
        await asyncio.gather(*self._closing)
        if self._probing is not None:
            await asyncio.wait([self._probing])

    def _open_lease(self, message: kv_pb2.OpenLease) -> None:
        _check_id(message.transfer_id)
        if not self.draining:
            self.leases.open(message)
            return
        ended = kv_pb2.LeaseEnded(transfer_id=message.transfer_id, outcome=kv_pb2.DRAINING)
        self._send(kv_pb2.FromSidecarToWorker(lease_ended=ended))

    def _start_transfer(self, message: kv_pb2.StartTransfer) -> None:
        _check_id(message.transfer_id)
        if message.transfer_id in self._transfers:
            raise Refused(kv_pb2.INVALID, f"transfer {message.transfer_id} is started twice")
        span = self._pool.span(message.blocks, message.num_tokens)
        if self.draining:
            ended = kv_pb2.TransferEnded(transfer_id=message.transfer_id, outcome=kv_pb2.DRAINING)
            self._send(kv_pb2.FromSidecarToWorker(transfer_ended=ended))
            return
        within_s = message.deadline_unix_ms / 1e3 - time.time()
        right = self.rights.to_push(message.transfer_id, message.capability)
        traced = Traced(message.request_id, message.traceparent)
        order = Order(message.transfer_id, span, within_s, right, traced)
        pushed = partial(self._tell_pushed, order.id) if message.tell_pushed else None
        transfer = Transfer(order, self._peer(message.peer), self._metrics, pushed=pushed)
        self._transfers[order.id] = transfer
        transfer.start(partial(self._transfer_ended, message.peer, traced))

    def _tell_pushed(self, transfer_id: str) -> None:
        told = kv_pb2.TransferPushed(transfer_id=transfer_id)
        self._send(kv_pb2.FromSidecarToWorker(transfer_pushed=told))

    def _start_probe(self, message: kv_pb2.StartProbe) -> None:
        if self._probing is not None:
            raise Refused(kv_pb2.INVALID, "a probe is started twice")
        self._pool.span([message.block], probe_tokens(self.geometry))  # or it makes no sense
        probe = Probe(
            Door(message.peer, self._dial, self.epoch, self._hello, self.rights),
            message.block,
            self.geometry,
            self.leases,
            self._apart,
            lambda ended: self._send(kv_pb2.FromSidecarToWorker(probe_ended=ended)),
            self._note_idle,
        )
        self._probing = asyncio.create_task(probe.run(self._metrics))

    def _transfer_ended(self, peer: str, traced: Traced, ended: kv_pb2.TransferEnded) -> None:
        del self._transfers[ended.transfer_id]
        if ended.outcome != kv_pb2.OK:
            fields = {
                "transfer": ended.transfer_id,
                "outcome": label(ended.outcome),
                "detail": ended.detail,
                **traced.fields,
            }
            log.info("transfer ended", extra={"fields": fields})
        self._tell(kv_pb2.FromSidecarToWorker(transfer_ended=ended))
        self._links.learn(peer, ended)

    def _is_busy(self, address: str) -> bool:
        """Whether KV of requests is on its way to this peer."""
        return address in self._peers and self._peers[address].has_guests

    def _say(self, link: kv_pb2.Link) -> None:
        self._send(kv_pb2.FromSidecarToWorker(link=link))

    def _tell(self, message: kv_pb2.FromSidecarToWorker) -> None:
        """Says that something has ended."""
        self._send(message)
        self._note_idle()

    def _peer(self, address: str) -> Peer:
        peer = self._peers.get(address)
        if peer is None:
            peer = Peer(address, self._dial, self._hello, self._transports, self._let_go)
            self._peers[address] = peer
        return peer

    def _let_go(self, peer: Peer) -> None:
        if self._peers.get(peer.address) is peer:
            del self._peers[peer.address]
        closing = asyncio.create_task(self._close(peer))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, peer: Peer) -> None:
        await peer.close()
        if peer.address not in self._peers:
            for transport in self._transports.values():
                await transport.forget(peer.address)


def _check_id(transfer_id: str) -> None:
    if not 0 < len(transfer_id) <= MAX_ID_CHARACTERS:
        raise Refused(kv_pb2.INVALID, f"a transfer's id has {len(transfer_id)} characters")
