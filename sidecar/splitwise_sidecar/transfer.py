"""The prompt side: one transfer's life, from the worker's StartTransfer to its TransferEnded.

Each layer is pushed as soon as it is in the pool, so that the link works while the prompt is
computed and the request waits for the last layers only. One stream a push, layers in order. A
sequence that decodes, and moves, is pushed the same way: all layers at once, while it goes on.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.lease import MAX_PUSHES
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.peer import Introduction, Peer
from splitwise_sidecar.pool import Span
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.rights import Right
from splitwise_sidecar.sending import Sending
from splitwise_sidecar.spans import NOBODYS, Traced
from splitwise_sidecar.transports import NONE, Push

log = logging.getLogger("splitwise.sidecar.transfer")

RESERVE_WAIT_MS: Final = 5000
"""How long the peer may wait for its worker to open the lease: it is told at the same time."""

COMMIT_S: Final = 60.0
"""The peer takes what is left of the push meanwhile, and answers when that stalls; one that is lost
is noticed by the watch, long before this."""

LONGEST_S: Final = 86_400.0
"""No deadline is later; a number that no timer takes is a bug of the sender's."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the worker asked for, to be done `within_s` from now: no clock that jumps is read on."""

    id: str
    span: Span
    within_s: float
    right: Right
    traced: Traced = NOBODYS


class Transfer:
    """Runs once. Others move it with `layers_ready`, `finish` and `stop`."""

    def __init__(
        self,
        order: Order,
        peer: Peer,
        metrics: SidecarMetrics,
        clock: Callable[[], float] = time.monotonic,
        pushed: Callable[[], None] | None = None,
    ) -> None:
        """`pushed` is called once, when all layers are over and the worker's `finish` is not."""
        self.id = order.id
        self.lease_ms = 0
        self._whole = order.span
        self._span = order.span  # what the peer lacks of it, once it has said so
        self._traced = order.traced
        self._began_s = clock()
        self._deadline_s = self._began_s + min(order.within_s, LONGEST_S)
        self._right = order.right
        self._peer = peer
        self._metrics = metrics
        self._clock = clock
        self._pushed = pushed
        self._sending = Sending(order.span.pool.geometry.num_layers, clock)
        self._finished: asyncio.Future[tuple[int, ...]] = asyncio.Future()
        self._reserved_s = 0.0
        self._finished_s = 0.0
        self._commit_s = 0.0  # when the last Commit was asked for
        self._transport = NONE
        self._introduction: Introduction | None = None
        self._committing = False
        self._stopped: Refused | None = None
        self._task: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def write_token(self) -> bytes:
        """What the lease is claimed with."""
        return self._right.write_token

    def start(self, ended: Callable[[kv_pb2.TransferEnded], None]) -> None:
        """Begins; `ended` is called once, when nothing reads the blocks any more."""
        self._peer.enter(self)
        self._task = asyncio.create_task(self._run(ended))

    def layers_ready(self, first: int, count: int) -> None:
        """So many layers are in the pool. Raises Refused(INVALID) for some that do not exist."""
        self._sending.ready(first, count)

    def finish(self, output_tokens: Iterable[int]) -> None:
        """The prompt is done. Raises Refused(INVALID) when it was before."""
        if self._finished.done():
            raise Refused(kv_pb2.INVALID, f"transfer {self.id} is finished twice")
        self._finished_s = self._clock()
        self._finished.set_result(tuple(output_tokens))

    def stop(self, outcome: kv_pb2.Outcome, detail: str) -> None:
        """Ends the transfer with this outcome, if it has not ended yet."""
        if self._stopped is None:
            self._stopped = Refused(outcome, detail)
            if self._running is not None:  # a task that is cancelled before it began never runs
                self._running.cancel()

    def lease_lost(self) -> None:
        """The peer does not know the lease. While a Commit is under way only its reply counts."""
        if not self._committing:
            self.stop(kv_pb2.UNKNOWN_TRANSFER, "the lease has ended at the token worker")

    async def join(self) -> None:
        """Returns when the peer knows of the end, or cannot be told."""
        if self._task is not None:
            await asyncio.wait([self._task])

    # ---- its life ----

    async def _run(self, ended: Callable[[kv_pb2.TransferEnded], None]) -> None:
        refused = self._stopped or await self._outcome()
        self._running = None
        self._peer.leave(self)
        ended(self._report(refused))
        if refused is not None and self._introduction is not None and not self._peer.lost:
            epoch = self._introduction.epoch
            request = kv_pb2.AbortRequest(
                transfer_id=self.id,
                epoch=epoch,
                reason=refused.outcome,
                claim=self._right.claim(epoch),
            )
            await self._peer.abort(request)

    async def _outcome(self) -> Refused | None:
        """None when the peer has verified the KV."""
        self._running = asyncio.current_task()
        try:
            async with asyncio.timeout(self._left_s()):
                await self._hand_over()
        except Refused as refused:
            return self._stopped or refused
        except TimeoutError:
            return Refused(kv_pb2.EXPIRED, "the request's deadline has passed")
        except asyncio.CancelledError:
            if self._stopped is None:
                raise
            return self._stopped
        except Exception:  # a bug; the worker waits for an end, and its blocks with it
            log.exception("a transfer failed", extra={"fields": {"transfer": self.id}})
            return Refused(kv_pb2.FAILED, "a bug of this sidecar's: its log says which")
        return None

    def _left_s(self) -> float:
        return self._deadline_s - self._clock()

    async def _hand_over(self) -> None:
        self._introduction = await self._reserve()
        bad: Iterable[int] = self._sending.layers
        while bad := await self._push_and_commit(self._introduction, bad):
            if self._sending.pushes == MAX_PUSHES:
                raise Refused(kv_pb2.DIGEST_MISMATCH, "bytes arrived damaged, and again")
            self._metrics.repushed()

    async def _reserve(self) -> Introduction:
        """Claims the lease; an epoch that turns out to be over is asked for once more."""
        introduction = await self._peer.introduce()
        try:
            return await self._claim(introduction)
        except Refused as refused:
            if refused.outcome != kv_pb2.STALE_EPOCH:
                raise
        self._peer.forget_introduction(introduction.epoch)
        return await self._claim(await self._peer.introduce())

    async def _claim(self, introduction: Introduction) -> Introduction:
        self._introduction = introduction  # from here on the peer must hear of a failure
        request = kv_pb2.ReserveRequest(
            transfer_id=self.id,
            epoch=introduction.epoch,
            num_tokens=self._whole.num_tokens,
            wait_ms=RESERVE_WAIT_MS,
            claim=self._right.claim(introduction.epoch),
        )
        self.lease_ms, held_tokens = await self._peer.reserve(request)
        self._reserved_s = self._clock()
        self._span = self._whole.behind(held_tokens)
        return introduction

    async def _push_and_commit(
        self, introduction: Introduction, layers: Iterable[int]
    ) -> list[int]:
        """The layers that arrived damaged. Raises Refused.

        The Commit does not wait for the peer's word that the push is over: the peer knows how many
        streams to wait for, and what is left of the last push goes on beside the call.
        """
        push = await self._sending.push(layers, self._span, partial(self._begin, introduction))
        ending = asyncio.create_task(self._sending.end(push))
        try:
            await self._wait_finished(ending)
            return await self._commit(introduction, push, ending)
        finally:
            ending.cancel()
            push.cancel()

    def _begin(self, introduction: Introduction) -> Push:
        transport = introduction.transport
        self._transport = transport.name
        address, epoch = self._peer.address, introduction.epoch
        return transport.open_push(address, self.id, epoch, self._left_s())

    async def _wait_finished(self, ending: "asyncio.Task[None]") -> None:
        """Raises Refused when the push breaks before the worker has finished."""
        if self._pushed is not None and not self._finished.done():
            await ending
            self._pushed()
        either: list[asyncio.Future[Any]] = [ending, self._finished]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._finished.done():
            await ending
            await self._finished

    async def _commit(
        self, introduction: Introduction, push: Push, ending: "asyncio.Task[None]"
    ) -> list[int]:
        self._commit_s = self._clock()
        request = kv_pb2.CommitRequest(
            transfer_id=self.id,
            epoch=introduction.epoch,
            digests=self._sending.digests,
            output_tokens=self._finished.result(),
            write_token=self.write_token,
            streams=self._sending.streams,
            waited_s=self._commit_s - self._finished_s,
        )
        self._committing = True
        try:
            bad = await self._peer.commit(request, push, COMMIT_S)
        except Refused:
            if ending.done():
                await ending  # how the push broke says more than that its bytes are missed
            raise
        self._committing = False
        try:
            await ending
        except Refused as broken:
            if bad or broken.outcome != kv_pb2.PEER_LOST:
                raise  # else all is verified, and only the word that the push is over was lost
        if any(layer not in self._sending.layers for layer in bad):
            raise Refused(kv_pb2.INVALID, "the peer names layers that do not exist")
        return sorted(set(bad))

    def _report(self, refused: Refused | None) -> kv_pb2.TransferEnded:
        outcome = kv_pb2.OK if refused is None else refused.outcome
        self._metrics.ended("sent", self._transport, outcome)
        now = self._clock()
        self._trace(outcome, now)
        message = kv_pb2.TransferEnded(
            transfer_id=self.id,
            outcome=outcome,
            transport=self._transport,
            pushes=self._sending.pushes,
        )
        if refused is not None:
            message.detail = refused.detail
            return message
        message.kv_bytes = self._span.total_bytes
        message.transfer_s = now - self._sending.first_byte_s
        message.visible_s = now - self._finished_s
        message.push_s = self._sending.push_s
        self._metrics.handed_over(self._transport, message.transfer_s, message.visible_s)
        return message

    def _trace(self, outcome: kv_pb2.Outcome, now_s: float) -> None:
        sending = self._sending
        self._metrics.spans.ended(
            self._traced,
            ("kv.push", self._began_s, now_s),
            [
                ("kv.reserve", self._began_s, self._reserved_s),
                ("kv.send", sending.first_byte_s, sending.over_s),
                ("kv.commit", self._commit_s, now_s),
            ],
            outcome,
            {
                "transport": self._transport,
                "kv_bytes": self._span.total_bytes,
                "pushes": sending.pushes,
            },
        )
