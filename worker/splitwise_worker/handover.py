"""What the engine asks of its sidecar: one method a message, for the attachment that it knows."""

from collections.abc import Sequence

from splitwise_core.rpc import kv_pb2
from splitwise_worker.kv.sidecar_link import SidecarLink
from splitwise_worker.sequence import LiveSequence


class Handover:
    """The engine's view of the sidecar: attached with an epoch, or lost (epoch 0).

    A message that cannot be delivered needs no answer here: the loss of the sidecar follows as an
    event of its own and ends every lease and transfer. Nothing new is begun from then on.
    """

    def __init__(self, link: SidecarLink, block_tokens: int, lease_ms: int) -> None:
        self._link = link
        self._block_tokens = block_tokens
        self._lease_ms = lease_ms
        self.epoch = 0

    @property
    def attached(self) -> bool:
        """Whether there is a sidecar to hand KV over with."""
        return self.epoch != 0

    def open_lease(self, sequence: LiveSequence) -> None:
        """Lets the transfer's bytes arrive in those of the sequence's blocks that lack them."""
        self._send(
            open_lease=kv_pb2.OpenLease(
                transfer_id=sequence.transfer_id,
                blocks=self.arrived(sequence),
                num_tokens=sequence.num_tokens,
                held_tokens=sequence.cached_tokens,
                lease_ms=self._lease_ms,
                request_id=sequence.request_id,
                traceparent=sequence.transfer_traceparent,
            )
        )

    def close_lease(self, sequence: LiveSequence) -> None:
        """The request is gone; LeaseEnded will say when its blocks are free of late writes."""
        self._send(close_lease=kv_pb2.CloseLease(transfer_id=sequence.transfer_id))

    def start_transfer(self, sequence: LiveSequence, deadline_unix_ms: int) -> None:
        """Claims the peer's lease: while the prompt waits and computes, or the sequence decodes."""
        self._send(
            start_transfer=kv_pb2.StartTransfer(
                transfer_id=sequence.transfer_id,
                peer=sequence.peer,
                blocks=self.pushed(sequence),
                num_tokens=sequence.pushed_tokens,
                deadline_unix_ms=deadline_unix_ms,
                capability=sequence.capability,
                tell_pushed=sequence.moving_tokens > 0,
                request_id=sequence.request_id,
                traceparent=sequence.transfer_traceparent,
            )
        )

    def layers_ready(self, transfer_id: str, first: int, count: int) -> None:
        """These layers of the transfer's blocks may be read."""
        ready = kv_pb2.LayersReady(transfer_id=transfer_id, first=first, count=count)
        self._send(layers_ready=ready)

    def finish_transfer(self, sequence: LiveSequence, tokens: Sequence[int]) -> None:
        """All layers are ready, and these tokens come behind: of a prompt, its first one."""
        self._send(
            finish_transfer=kv_pb2.FinishTransfer(
                transfer_id=sequence.transfer_id, output_tokens=tokens
            )
        )

    def withdraw_transfer(self, sequence: LiveSequence, reason: kv_pb2.Outcome) -> None:
        """The request is gone; TransferEnded will say when its blocks are no longer read."""
        self._send(
            withdraw_transfer=kv_pb2.WithdrawTransfer(
                transfer_id=sequence.transfer_id, reason=reason
            )
        )

    def start_probe(self, block: int, peer: str) -> None:
        """Lends a block; ProbeEnded with OK gives it back."""
        self._send(start_probe=kv_pb2.StartProbe(block=block, peer=peer))

    def measure_link(self, message: kv_pb2.MeasureLink) -> None:
        """Passes a router's question on; the answer is no engine's business."""
        if self.attached:
            self._send(measure_link=message)

    def arrived(self, sequence: LiveSequence) -> tuple[int, ...]:
        """The blocks that a peer's bytes go to: what was in the cache is not moved again."""
        return self.pushed(sequence)[sequence.cached_tokens // self._block_tokens :]

    def pushed(self, sequence: LiveSequence) -> tuple[int, ...]:
        """The blocks that the sequence's transfer is about."""
        return sequence.blocks[: -(-sequence.pushed_tokens // self._block_tokens)]

    def _send(self, **kind: object) -> None:
        if not self._link.send(self.epoch, kv_pb2.FromWorkerToSidecar(**kind)):  # type: ignore[arg-type]
            self.epoch = 0
