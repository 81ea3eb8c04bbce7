"""One other sidecar: introduced once, asked with bounded calls, and watched while it is needed."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc

from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from splitwise_sidecar.dial import Dial, must_be_an_address
from splitwise_sidecar.refusal import Refused, label
from splitwise_sidecar.transports import Push, Transport

log = logging.getLogger("splitwise.sidecar.peer")

# A peer that vanished without a trace is noticed after RENEW_EVERY_S + CALL_S, below 3 s.
RENEW_EVERY_S: Final = 0.75
CALL_S: Final = 2.0

AGAIN_S: Final = 0.05
"""Before the second try: gRPC may still find the first one's connection, and fail with it."""

IDLE_S: Final = 60.0
"""A peer without transfers keeps its connection for this long."""

_GONE: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,  # it hung up in the middle of the call
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.PERMISSION_DENIED,  # not for our certificate; the next connection has a newer
)


@dataclass(frozen=True, slots=True)
class Introduction:
    """What Hello agreed on."""

    epoch: int
    worker_id: str
    transport: Transport


class Guest(Protocol):
    """A transfer to this peer, as far as the peer's watch is concerned."""

    id: str
    lease_ms: int  # 0 until there is a lease to renew

    @property
    def write_token(self) -> bytes:
        """What the lease was claimed with."""

    def stop(self, outcome: kv_pb2.Outcome, detail: str) -> None:
        """Ends the transfer."""

    def lease_lost(self) -> None:
        """The peer does not know the lease any more."""


class Peer:
    """A sidecar at `address`. `let_go` is called once, when it is lost or long unused."""

    def __init__(
        self,
        address: str,
        dial: Dial,
        hello: kv_pb2.HelloRequest,
        transports: Mapping[str, Transport],
        let_go: Callable[["Peer"], None],
    ) -> None:
        self.address = address
        self._transports = transports
        self._hello = hello
        self._let_go = let_go
        self._channel = dial(address)
        self._stub: Any = kv_pb2_grpc.KvPeerStub(self._channel)
        self._meeting = asyncio.Lock()
        self._introduction: Introduction | None = None
        self._guests: dict[str, Guest] = {}
        self._watch: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self.lost = False

    async def introduce(self) -> Introduction:
        """The peer's epoch, and the first transport that works; asked for once. Raises Refused."""
        async with self._meeting:
            if self._introduction is None:
                must_be_an_address(self.address)
                reply = await self.call(self._stub.Hello, self._hello)
                if reply.outcome != kv_pb2.OK:
                    raise Refused(reply.outcome, reply.detail)
                transport = await self._first_that_works(reply)
                self._introduction = Introduction(reply.epoch, reply.worker_id, transport)
            return self._introduction

    async def _first_that_works(self, reply: kv_pb2.HelloReply) -> Transport:
        failures = []
        for endpoint in reply.endpoints:
            transport = self._transports.get(endpoint.transport)
            if transport is None:
                raise Refused(kv_pb2.TRANSPORT_FAILED, f"not offered: {endpoint.transport!r}")
            try:
                await transport.connect(self.address, endpoint.address)
            except Refused as refused:
                failures.append(f"{transport.name}: {refused.detail}")
                continue
            fields = {"peer": self.address, "transport": transport.name, "not": failures}
            log.info("transport chosen", extra={"fields": fields})
            return transport
        raise Refused(kv_pb2.TRANSPORT_FAILED, "; ".join(failures) or "the peer offers nothing")

    def forget_introduction(self, epoch: int) -> None:
        """The peer has said that this epoch is over: the next transfer introduces itself anew."""
        if self._introduction and self._introduction.epoch == epoch:
            self._introduction = None

    async def reserve(self, request: kv_pb2.ReserveRequest) -> tuple[int, int]:
        """How long the claimed lease holds, in ms, and the first tokens that it has already.

        Raises Refused.
        """
        timeout_s = request.wait_ms / 1e3 + CALL_S
        reply = await self.call(self._stub.Reserve, request, timeout_s)
        if reply.outcome != kv_pb2.OK:
            raise Refused(reply.outcome, reply.detail)
        return int(reply.lease_ms), int(reply.held_tokens)

    async def commit(
        self, request: kv_pb2.CommitRequest, push: Push, timeout_s: float
    ) -> list[int]:
        """The layers that arrived damaged. Raises Refused.

        Asked behind the bytes of `push`, where its transport can; else, or when no answer comes
        that way, by a call: it may repeat a Commit that was heard.
        """
        reply = await push.commit(request)
        if reply is None:
            reply = await self.call(self._stub.Commit, request, timeout_s)
        if reply.outcome == kv_pb2.DIGEST_MISMATCH and reply.bad_layers:
            return list(reply.bad_layers)
        if reply.outcome != kv_pb2.OK:
            raise Refused(reply.outcome, reply.detail)
        return []

    async def open_probe(self, request: kv_pb2.OpenProbeRequest) -> str:
        """The id of a transfer that may land in the peer's scratch memory. Raises Refused."""
        reply = await self.call(self._stub.OpenProbe, request)
        if reply.outcome != kv_pb2.OK:
            raise Refused(reply.outcome, reply.detail)
        return str(reply.transfer_id)

    async def abort(self, request: kv_pb2.AbortRequest) -> None:
        """Fences the lease; when the peer cannot be told, its lease expires by itself."""
        try:
            await self.call(self._stub.Abort, request)
        except Refused as refused:
            fields = {"transfer": request.transfer_id, "detail": refused.detail}
            log.info("abort not delivered", extra={"fields": fields})

    async def call(self, method: Any, request: Any, timeout_s: float = CALL_S) -> Any:
        """The reply. All calls are idempotent: one that finds the connection broken goes again.

        Raises Refused(PEER_LOST), which ends all transfers to this peer, or Refused with
        TRANSPORT_FAILED or INVALID for what is no loss.
        """
        try:
            try:
                reply = await method(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(AGAIN_S)
                if self.lost:  # meanwhile, and the connection is closed
                    raise
                reply = await method(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            lost = error.code() in _GONE
            outcome = kv_pb2.PEER_LOST if lost else kv_pb2.TRANSPORT_FAILED
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                outcome = kv_pb2.DENIED
            refused = Refused(outcome, f"{self.address}: {error.details()}")
            if lost:
                self._lose(refused)
            raise refused from error
        if reply is None:  # what gRPC makes of bytes that do not parse
            raise Refused(kv_pb2.INVALID, f"{self.address} answered with no message")
        return reply

    # ---- the watch ----

    @property
    def has_guests(self) -> bool:
        """Whether transfers to it are under way."""
        return bool(self._guests)

    def enter(self, guest: Guest) -> None:
        """Watches the peer for this transfer, and renews its lease as soon as it has one."""
        self._guests[guest.id] = guest
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep_watch())

    def leave(self, guest: Guest) -> None:
        """The transfer has ended."""
        self._guests.pop(guest.id, None)
        if not self._guests and not self.lost:
            self._stop_watch()
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(IDLE_S, self._let_go, self)

    async def close(self) -> None:
        """Closes the connection."""
        self.lost = True
        self._stop_watch()
        if self._idle is not None:
            self._idle.cancel()
        await self._channel.close()

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _keep_watch(self) -> None:
        while True:
            leases_s = [guest.lease_ms / 3e3 for guest in self._guests.values() if guest.lease_ms]
            await asyncio.sleep(min([RENEW_EVERY_S, *leases_s]))
            if self._introduction is None:
                continue  # Hello is under way, with a deadline of its own
            try:
                await self._renew(self._introduction.epoch)
            except Refused as refused:
                self._lose(refused)
                return

    async def _renew(self, epoch: int) -> None:
        guests = [guest for guest in self._guests.values() if guest.lease_ms]
        request = kv_pb2.RenewRequest(
            epoch=epoch,
            transfer_ids=[guest.id for guest in guests],
            write_tokens=[guest.write_token for guest in guests],
        )
        reply = await self.call(self._stub.Renew, request)
        if reply.outcome != kv_pb2.OK:
            raise Refused(reply.outcome, f"{self.address} says {label(reply.outcome)}")
        for transfer_id in reply.unknown:
            if guest := self._guests.get(transfer_id):
                guest.lease_lost()

    def _lose(self, refused: Refused) -> None:
        if self.lost:
            return
        self.lost = True
        fields = {"peer": self.address, "detail": refused.detail, "transfers": len(self._guests)}
        if self._guests:  # else nobody misses it: a probe says itself what it found
            log.warning("peer lost", extra={"fields": fields})
        self._stop_watch()  # it may be in the middle of a call, whose channel is about to close
        self._let_go(self)
        for guest in list(self._guests.values()):
            guest.stop(refused.outcome, refused.detail)
