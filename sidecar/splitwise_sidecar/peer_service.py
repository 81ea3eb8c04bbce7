"""What other sidecars may ask of this one: the KvPeer service, in front of the present leases."""

import logging
import time
from collections.abc import Callable, Mapping, Sized
from functools import partial
from itertools import zip_longest
from typing import Final

import grpc

from splitwise_core.capability import NotAllowed, Refusal
from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from splitwise_sidecar.arrivals import Sent
from splitwise_sidecar.attachment import Attachment
from splitwise_sidecar.lease import ProtocolViolation
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.refusal import Refused, label
from splitwise_sidecar.rights import ANY_PROBE, Allowed
from splitwise_sidecar.transports import NONE

log = logging.getLogger("splitwise.sidecar.peer_service")

MAX_OUTPUT_TOKENS: Final = 16 << 10
"""The worker hears of them in one datagram of 128 KiB, in which each takes five bytes at most."""

MAX_RENEWED: Final = 4096
"""Leases in one Renew, more than a worker has: each takes 5 µs of the event loop, and a message of
the largest size has room for four million."""

MAX_WAITED_S: Final = 86_400.0
"""A day, which no deadline leaves a request."""

MAX_TRANSPORTS: Final = 16
"""That a Hello offers; ours are fewer, and each is answered with an address."""


REFUSALS: Final = (Refused, ProtocolViolation, NotAllowed)


class PeerService(kv_pb2_grpc.KvPeerServicer):
    """Answers every call with an Outcome; `attachment()` is the worker of the moment, or None."""

    def __init__(
        self,
        attachment: Callable[[], Attachment | None],
        endpoints: Mapping[str, str],
        metrics: SidecarMetrics,
    ) -> None:
        self._attachment = attachment
        self._endpoints = endpoints  # transport -> the address that peers are told
        self._metrics = metrics
        self._said: set[Refusal] = set()

    async def Hello(
        self,
        request: kv_pb2.HelloRequest,
        context: grpc.aio.ServicerContext[kv_pb2.HelloRequest, kv_pb2.HelloReply],
    ) -> kv_pb2.HelloReply:
        """Compares geometry, and tells how bytes get here."""
        try:
            _must_not_exceed(MAX_TRANSPORTS, "transports", request.transports)
            here = self._present()
            if request.geometry_fingerprint != here.geometry.fingerprint():
                raise Refused(
                    kv_pb2.GEOMETRY_MISMATCH,
                    f"the pools of {request.worker_id} and {here.worker_id} differ in model, "
                    f"dtype or shape; here: {here.geometry}",
                )
            common = [name for name in request.transports if name in self._endpoints]
            if not common:
                raise Refused(
                    kv_pb2.TRANSPORT_FAILED,
                    f"this sidecar receives over {list(self._endpoints)} only",
                )
        except Refused as refused:
            return kv_pb2.HelloReply(outcome=self._count(refused), detail=refused.detail)
        doors = [kv_pb2.Endpoint(transport=t, address=self._endpoints[t]) for t in common]
        return kv_pb2.HelloReply(
            outcome=kv_pb2.OK, worker_id=here.worker_id, epoch=here.epoch, endpoints=doors
        )

    async def Reserve(
        self,
        request: kv_pb2.ReserveRequest,
        context: grpc.aio.ServicerContext[kv_pb2.ReserveRequest, kv_pb2.ReserveReply],
    ) -> kv_pb2.ReserveReply:
        """Claims a lease, waiting for it a bounded time."""
        try:
            here = self._present(request.epoch)
            lease_ms, held_tokens = await here.leases.reserve(
                request.transfer_id,
                request.num_tokens,
                _check(here, request.claim, request.transfer_id),
                request.wait_ms / 1e3,
            )
        except REFUSALS as error:
            return kv_pb2.ReserveReply(outcome=self._count(error), detail=str(error))
        return kv_pb2.ReserveReply(outcome=kv_pb2.OK, lease_ms=lease_ms, held_tokens=held_tokens)

    async def Renew(
        self,
        request: kv_pb2.RenewRequest,
        context: grpc.aio.ServicerContext[kv_pb2.RenewRequest, kv_pb2.RenewReply],
    ) -> kv_pb2.RenewReply:
        """Lets leases live on. Without ids it only says that this side is alive."""
        try:
            _must_not_exceed(MAX_RENEWED, "leases", request.transfer_ids, request.write_tokens)
            leases = self._present(request.epoch).leases
        except Refused as refused:
            return kv_pb2.RenewReply(outcome=self._count(refused))
        unknown = []
        for transfer_id, token in zip_longest(request.transfer_ids, request.write_tokens):
            try:
                leases.renew(transfer_id or "", token or b"")
            except REFUSALS as error:
                self._count(error)
                unknown.append(transfer_id or "")
        return kv_pb2.RenewReply(outcome=kv_pb2.OK, unknown=unknown)

    async def Commit(
        self,
        request: kv_pb2.CommitRequest,
        context: grpc.aio.ServicerContext[kv_pb2.CommitRequest, kv_pb2.CommitReply],
    ) -> kv_pb2.CommitReply:
        """Verifies the digests. Idempotent."""
        return await self.commit(request)

    async def commit(self, request: kv_pb2.CommitRequest) -> kv_pb2.CommitReply:
        """Commit, whichever way it came."""
        try:
            here = self._present(request.epoch)
            _must_not_exceed(MAX_OUTPUT_TOKENS, "output tokens", request.output_tokens)
            _must_not_exceed(here.geometry.num_layers, "digests", request.digests)
            digests = {digest.layer: digest.xxh3 for digest in request.digests}
            tokens = tuple(request.output_tokens)
            sent = Sent(digests, tokens, request.streams, _waited_s(request))
            bad = await here.leases.commit(request.transfer_id, sent, request.write_token)
        except REFUSALS as error:
            return kv_pb2.CommitReply(outcome=self._count(error), detail=str(error))
        if bad:
            return kv_pb2.CommitReply(outcome=kv_pb2.DIGEST_MISMATCH, bad_layers=bad)
        return kv_pb2.CommitReply(outcome=kv_pb2.OK)

    async def Abort(
        self,
        request: kv_pb2.AbortRequest,
        context: grpc.aio.ServicerContext[kv_pb2.AbortRequest, kv_pb2.AbortReply],
    ) -> kv_pb2.AbortReply:
        """Fences the lease. For one that is not open nothing can land either."""
        try:
            here = self._present(request.epoch)
            token = request.claim.write_token
            check = partial(_check, here, request.claim, request.transfer_id)
            fenced = await here.leases.abort(request.transfer_id, request.reason, token, check)
        except NotAllowed as error:
            return kv_pb2.AbortReply(outcome=self._count(error), fenced=False)
        except REFUSALS as error:
            return kv_pb2.AbortReply(outcome=self._count(error), fenced=True)
        return kv_pb2.AbortReply(outcome=kv_pb2.OK, fenced=fenced)

    async def OpenProbe(
        self,
        request: kv_pb2.OpenProbeRequest,
        context: grpc.aio.ServicerContext[kv_pb2.OpenProbeRequest, kv_pb2.OpenProbeReply],
    ) -> kv_pb2.OpenProbeReply:
        """Lends scratch memory for a moment, to a transfer whose id it tells."""
        try:
            here = self._present(request.epoch)
            allowed = _check(here, request.claim, ANY_PROBE)
            allowed.check_lease(ANY_PROBE, request.num_tokens)
            transfer_id = here.open_probe(request.num_tokens)
        except REFUSALS as error:
            return kv_pb2.OpenProbeReply(outcome=self._count(error), detail=str(error))
        return kv_pb2.OpenProbeReply(outcome=kv_pb2.OK, transfer_id=transfer_id)

    def _present(self, epoch: int | None = None) -> Attachment:
        """The worker that the caller means. Raises Refused when that one is not here."""
        here = self._attachment()
        if here is None:
            raise Refused(kv_pb2.PEER_LOST, "no worker is attached to this sidecar")
        if epoch is not None and epoch != here.epoch:
            raise Refused(kv_pb2.STALE_EPOCH, f"{here.worker_id} has been attached anew since")
        return here

    def _count(self, error: Refused | ProtocolViolation | NotAllowed) -> kv_pb2.Outcome:
        """Counts what no correct peer would ask, and says it in the log."""
        if isinstance(error, NotAllowed):
            self._count_not_allowed(error)
            return kv_pb2.DENIED
        outcome = error.outcome if isinstance(error, Refused) else kv_pb2.DENIED
        if outcome in (kv_pb2.INVALID, kv_pb2.DENIED):
            self._metrics.ended("received", NONE, outcome)
            fields = {"outcome": label(outcome), "detail": error}
            log.warning("a peer's call was refused", extra={"fields": fields})
        return outcome

    def _count_not_allowed(self, error: NotAllowed) -> None:
        """Says each reason once: a stranger must not fill the log."""
        self._metrics.refused(error.reason)
        if error.reason not in self._said:
            self._said.add(error.reason)
            fields = {"refusal": error.reason.value, "detail": error.detail}
            log.warning("a peer had no right to its call", extra={"fields": fields})


def _must_not_exceed(most: int, what: str, *said: Sized) -> None:
    """Raises Refused(INVALID) when somebody says more than there can be."""
    if (count := max(map(len, said))) > most:
        raise Refused(kv_pb2.INVALID, f"{count} {what}; there are {most} at most")


def _waited_s(request: kv_pb2.CommitRequest) -> float:
    """What the request had waited for its KV. Raises Refused(INVALID) when it cannot have."""
    if not 0 <= request.waited_s <= MAX_WAITED_S:  # NaN is not: it would stay in every sum
        raise Refused(kv_pb2.INVALID, f"waited_s: {request.waited_s} is no time to wait")
    return request.waited_s


def _check(here: Attachment, claim: kv_pb2.Claim, transfer_id: str) -> Allowed:
    now_unix_ms = int(time.time() * 1000)
    return here.rights.check(claim, transfer_id, here.epoch, now_unix_ms)
