"""One push by NIXL as its receiver sees it: what it may write, and what it says it has written.

At any moment of it a loan is out: as long as one is, the blocks of the lease are nobody else's.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Final, NamedTuple

from splitwise_core.rpc import kv_pb2, nixl_pb2
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.transports import STALL_S, Loan, Sink
from splitwise_sidecar.transports.nixl_area import Areas

log = logging.getLogger("splitwise.sidecar.nixl_pull")

GOODBYE_S: Final = 3.0
"""For a sender to say that nothing is in flight: longer than it waits for that itself."""

LOOK_S: Final = 0.05
"""How soon it is noticed that a lease has ended."""


class Written(NamedTuple):
    """Layers that a sender says it has written."""

    first: int
    layers: int


Say = Callable[[nixl_pb2.FromNixlReceiver], None]


class Pull:
    """Its line tells it of `end` and `lose`, the agent of layers; `run` answers."""

    def __init__(
        self, begin: nixl_pb2.NixlBegin, sink: Sink, areas: Areas, movers: Movers, say: Say
    ) -> None:
        self._begin = begin
        self._sink = sink
        self._areas = areas
        self._movers = movers
        self._say = say
        self._grant = secrets.randbits(64)
        self._loans: list[Loan] = []
        self._news: asyncio.Queue[Written | None] = asyncio.Queue()  # None: something else
        self._layers = 0
        self._said_layers: int | None = None
        self._is_lost = False

    def end(self, layers: int) -> None:
        """The sender has nothing in flight, and has written so many layers."""
        self._said_layers = layers
        self._news.put_nowait(None)

    def lose(self) -> None:
        """The sender's line has broken, or it does not know what is in flight."""
        self._is_lost = True
        self._news.put_nowait(None)

    async def run(self) -> None:
        """Grants, hears, and gives everything back, however it ends."""
        self._sink.push_opened(self._begin.wire_id, self._areas.agent.transport)
        try:
            outcome = await self._take()
        except Refused as refused:
            outcome = refused.outcome
            log.info("a push is refused", extra={"fields": {"detail": refused.detail}})
            stop = nixl_pb2.NixlStop(push=self._begin.push, outcome=outcome)
            self._say(nixl_pb2.FromNixlReceiver(stop=stop))
        finally:
            self._sink.push_closed(self._begin.wire_id)
        ended = nixl_pb2.NixlEnded(push=self._begin.push, outcome=outcome)
        self._say(nixl_pb2.FromNixlReceiver(ended=ended))

    async def _take(self) -> kv_pb2.Outcome:
        """The push from the grant to the end. Raises Refused when nothing was granted."""
        self._loans = [self._lend(self._begin.layer)]
        span = self._loans[0].span
        try:
            area = await self._areas.enter(span.pool)
            self._areas.agent.listen(self._grant, self._written)
            grant = nixl_pb2.NixlGrant(
                push=self._begin.push,
                grant=self._grant,
                memory=area.memory,
                base=area.landing.base,
                blocks=span.blocks,
            )
            self._say(nixl_pb2.FromNixlReceiver(grant=grant))
            try:
                return await self._receive()
            finally:
                self._areas.agent.unlisten(self._grant)
                if self._said_layers is None:
                    fields = {"lost": self._is_lost, "blocks": len(span.blocks)}
                    log.warning("memory is taken from a sender", extra={"fields": fields})
                    await self._areas.fence(area, span.blocks)
                else:
                    self._areas.leave(area)
        finally:
            for loan in self._loans:
                loan.give_back()

    def _written(self, first: int, layers: int) -> None:
        self._news.put_nowait(Written(first, layers))

    async def _receive(self) -> kv_pb2.Outcome:
        """Hears of layers until the sender's end, or for as long as it may take to stop."""
        try:
            await self._hear_layers()
        except Refused as refused:
            log.info("a push is stopped", extra={"fields": {"detail": refused.detail}})
            stop = nixl_pb2.NixlStop(push=self._begin.push, outcome=refused.outcome)
            self._say(nixl_pb2.FromNixlReceiver(stop=stop))
            await self._until_end(GOODBYE_S)
            return refused.outcome
        return kv_pb2.PEER_LOST if self._is_lost else kv_pb2.OK

    async def _hear_layers(self) -> None:
        """Returns when all that was written is in its digest, or the line broke. Raises Refused."""
        while self._layers != self._said_layers and not self._is_lost:
            if any(loan.move.is_stopped for loan in self._loans):
                raise Refused(kv_pb2.UNKNOWN_TRANSFER, "the lease has ended")
            has_ended = self._said_layers is not None  # as the wait begins: it may end meanwhile
            try:
                async with asyncio.timeout(STALL_S if has_ended else LOOK_S):
                    written = await self._news.get()
            except TimeoutError:
                if has_ended:
                    why = "the sender tells of layers that have not been heard of"
                    raise Refused(kv_pb2.TRANSPORT_FAILED, why) from None
                continue
            if written is not None:
                await self._arrived(written)

    async def _until_end(self, within_s: float) -> None:
        """Returns when the sender has said its end, its line broke, or the time is over."""
        try:
            async with asyncio.timeout(within_s):
                while self._said_layers is None and not self._is_lost:
                    await self._news.get()
        except TimeoutError:
            log.info("a sender did not stop", extra={"fields": {"within_s": within_s}})

    async def _arrived(self, written: Written) -> None:
        """Layers are in memory: lent now, if they were not yet, and digested. Raises Refused."""
        if written.layers == 0:
            raise Refused(kv_pb2.INVALID, "a write of nothing")
        before = {loan.layer: loan for loan in self._loans}
        for layer in range(written.first, written.first + written.layers):
            if layer not in before:
                self._loans.append(self._lend(layer))
            before.pop(layer, None)
        for loan in before.values():  # after the new ones are there: one is always out
            self._loans.remove(loan)
            loan.give_back()
        moves = [loan.move for loan in self._loans]
        await self._movers.share(moves, lambda move: move.read(), self._loans[0].span.pool)
        self._layers += written.layers

    def _lend(self, layer: int) -> Loan:
        """A loan of a whole layer. Raises Refused."""
        begin = self._begin
        loan = self._sink.lend(begin.wire_id, begin.epoch, layer, 0, begin.layer_bytes)
        if begin.layer_bytes != loan.span.layer_bytes:
            loan.give_back()
            raise Refused(kv_pb2.DENIED, f"{begin.layer_bytes} bytes are not a whole layer")
        return loan
