"""What other sidecars may ask of this one: the KvPeer service, in front of the present leases."""

import logging
from collections.abc import Callable, Mapping

import grpc

from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from splitwise_sidecar.attachment import Attachment
from splitwise_sidecar.lease import ProtocolViolation
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.refusal import Refused, label
from splitwise_sidecar.transports import NONE

log = logging.getLogger("splitwise.sidecar.peer_service")


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

    async def Hello(
        self,
        request: kv_pb2.HelloRequest,
        context: grpc.aio.ServicerContext[kv_pb2.HelloRequest, kv_pb2.HelloReply],
    ) -> kv_pb2.HelloReply:
        """Compares geometry, and tells how bytes get here."""
        try:
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
            leases = self._present(request.epoch).leases
            lease_ms = await leases.reserve(
                request.transfer_id, request.num_tokens, request.wait_ms / 1e3
            )
        except (Refused, ProtocolViolation) as error:
            refused = self._refusal(error)
            return kv_pb2.ReserveReply(outcome=self._count(refused), detail=refused.detail)
        return kv_pb2.ReserveReply(outcome=kv_pb2.OK, lease_ms=lease_ms)

    async def Renew(
        self,
        request: kv_pb2.RenewRequest,
        context: grpc.aio.ServicerContext[kv_pb2.RenewRequest, kv_pb2.RenewReply],
    ) -> kv_pb2.RenewReply:
        """Lets leases live on. Without ids it only says that this side is alive."""
        try:
            unknown = self._present(request.epoch).leases.renew(request.transfer_ids)
        except Refused as refused:
            return kv_pb2.RenewReply(outcome=self._count(refused))
        return kv_pb2.RenewReply(outcome=kv_pb2.OK, unknown=unknown)

    async def Commit(
        self,
        request: kv_pb2.CommitRequest,
        context: grpc.aio.ServicerContext[kv_pb2.CommitRequest, kv_pb2.CommitReply],
    ) -> kv_pb2.CommitReply:
        """Verifies the digests. Idempotent."""
        try:
            leases = self._present(request.epoch).leases
            digests = {digest.layer: digest.xxh3 for digest in request.digests}
            bad = await leases.commit(request.transfer_id, digests, request.output_tokens)
        except (Refused, ProtocolViolation) as error:
            refused = self._refusal(error)
            return kv_pb2.CommitReply(outcome=self._count(refused), detail=refused.detail)
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
            self._present(request.epoch).leases.abort(request.transfer_id, request.reason)
        except Refused as refused:
            return kv_pb2.AbortReply(outcome=self._count(refused), fenced=True)
        return kv_pb2.AbortReply(outcome=kv_pb2.OK, fenced=True)

    async def OpenProbe(
        self,
        request: kv_pb2.OpenProbeRequest,
        context: grpc.aio.ServicerContext[kv_pb2.OpenProbeRequest, kv_pb2.OpenProbeReply],
    ) -> kv_pb2.OpenProbeReply:
        """Lends scratch memory for a moment, to a transfer whose id it tells."""
        try:
            transfer_id = self._present(request.epoch).open_probe(request.num_tokens)
        except Refused as refused:
            return kv_pb2.OpenProbeReply(outcome=self._count(refused), detail=refused.detail)
        return kv_pb2.OpenProbeReply(outcome=kv_pb2.OK, transfer_id=transfer_id)

    def _present(self, epoch: int | None = None) -> Attachment:
        """The worker that the caller means. Raises Refused when that one is not here."""
        here = self._attachment()
        if here is None:
            raise Refused(kv_pb2.PEER_LOST, "no worker is attached to this sidecar")
        if epoch is not None and epoch != here.epoch:
            raise Refused(kv_pb2.STALE_EPOCH, f"{here.worker_id} has been attached anew since")
        return here

    def _refusal(self, error: Refused | ProtocolViolation) -> Refused:
        return error if isinstance(error, Refused) else Refused(kv_pb2.DENIED, str(error))

    def _count(self, refused: Refused) -> kv_pb2.Outcome:
        """Counts what no correct peer would ask, and says it in the log."""
        if refused.outcome in (kv_pb2.INVALID, kv_pb2.DENIED):
            self._metrics.ended("received", NONE, refused.outcome)
            fields = {"outcome": label(refused.outcome), "detail": refused.detail}
            log.warning("a peer's call was refused", extra={"fields": fields})
        return refused.outcome
