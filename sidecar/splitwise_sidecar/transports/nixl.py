"""Bytes by NIXL: written straight into the peer's memory, by RDMA or by what UCX has besides.

The peer grants a push some of its blocks; some layers are one write to them, with a notice when it
has landed. The peer can neither see nor stop a write. So a push ends with an End, which says that
nothing of it is in flight; or that something may be, and then the peer takes its memory away. A
line to a peer carries any number of pushes; what they write does not pass through it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from splitwise_core.rpc import kv_pb2, nixl_pb2
from splitwise_sidecar.dial import Dial
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.moves import new_move
from splitwise_sidecar.pool import Span
from splitwise_sidecar.refusal import Refused, must_be_taken
from splitwise_sidecar.transports import STALL_S, Push, in_a_row, wire_id
from splitwise_sidecar.transports.nixl_agent import ASK_S, NOTICE, NixlAgent
from splitwise_sidecar.transports.nixl_line import Line

log = logging.getLogger("splitwise.sidecar.nixl")

WIND_UP_S: Final = 2.0
"""How long a push that is given up waits for its last writes."""

AHEAD: Final = 2
"""Writes in flight while the digests of the next are taken."""

PIECE_BYTES: Final = 256 << 10
"""Layers that are ready together are written together, until a block's share of them is so large.
To write 64 KiB by CMA took 0.38 s of a processor for each GB, 256 KiB 0.29, and 2 MiB no less; and
the fewer layers a write has, the sooner both sides take the digests of others beside it."""


class NixlTransport:
    """Sends to any number of peers by one agent."""

    def __init__(
        self, agent: NixlAgent, movers: Movers, dial: Dial, count_sent: Callable[[int], None]
    ) -> None:
        self.name = agent.transport
        self._agent = agent
        self._movers = movers
        self._dial = dial
        self._count_sent = count_sent
        self._lines: dict[str, Line] = {}
        self._opening = asyncio.Lock()

    async def connect(self, peer: str, address: str) -> None:
        """Introduces the agents to each other, by the peer's control address. Raises Refused."""
        line = Line(peer, self._dial, self._agent)
        await line.open()
        await self.forget(peer)
        self._lines[peer] = line

    async def line(self, peer: str) -> Line:
        """The line to a peer; one that broke is opened anew. Raises Refused."""
        async with self._opening:
            line = self._lines.get(peer)
            if line is None or line.closed:
                await self.connect(peer, "")
            return self._lines[peer]

    def open_push(self, peer: str, transfer_id: str, epoch: int, timeout_s: float) -> "NixlPush":
        """Begins a push to a peer that `connect` has been to."""
        find = partial(self.line, peer)
        return NixlPush(find, self._agent, self._movers, transfer_id, epoch, self._count_sent)

    async def forget(self, peer: str) -> None:
        """Hangs up on this peer."""
        if line := self._lines.pop(peer, None):
            line.close("forgotten")


class NixlPush(Push):
    """One pass over layers, each a write to the blocks that the peer has granted."""

    def __init__(
        self,
        find_line: Callable[[], Awaitable[Line]],
        agent: NixlAgent,
        movers: Movers,
        transfer_id: str,
        epoch: int,
        count_sent: Callable[[int], None],
    ) -> None:
        self._find_line = find_line
        self._line: Line  # once it has begun
        self._agent = agent
        self._movers = movers
        self._wire_id = wire_id(transfer_id)
        self._epoch = epoch
        self._count_sent = count_sent
        self._number = 0
        self._writes: list[Future[None]] = []
        self._layers = 0
        loop = asyncio.get_running_loop()
        self._grant: asyncio.Future[nixl_pb2.NixlGrant] = loop.create_future()
        self._ended: asyncio.Future[kv_pb2.Outcome] = loop.create_future()
        self._refused: Refused | None = None
        self._is_over = False

    async def layers(self, layers: Sequence[int], span: Span) -> list[int]:
        """Writes these layers; the xxh3-64 of what is written of each. Raises Refused."""
        together = max(1, PIECE_BYTES // span.pool.geometry.layer_bytes)
        digests: list[int] = []
        for run in in_a_row(layers, together):
            digests += await self._write(run[0], len(run), span)
        return digests

    async def _write(self, first: int, count: int, span: Span) -> list[int]:
        if self._refused:
            raise self._refused
        if self._number == 0:
            await self._begin(first, span)
            await self._agent.ask(lambda _: self._agent.source(span.pool))
        moves = [new_move(span, layer) for layer in range(first, first + count)]
        await self._movers.share(moves, lambda move: move.read(), span.pool)
        async with _no_stall(ASK_S):
            grant = await self._grant
        async with _no_stall():
            await self._line.know(grant.memory)
            while len(self._writes) >= AHEAD:
                await self._landed()
        if self._refused:
            raise self._refused
        rows = partial(_rows, span, first, count)
        source, target = rows(span.blocks, span.pool.address), rows(grant.blocks, grant.base)
        notice = NOTICE.pack(grant.grant, first, count)
        self._writes.append(self._agent.write(self._line.remote, span.pool, source, target, notice))
        self._layers += count
        self._count_sent(count * span.layer_bytes)
        return [move.digest() for move in moves]

    async def finish(self) -> None:
        """Returns when the peer has every byte in its digest. Raises Refused when it has not."""
        self._agent.keep_polling(self)
        try:
            async with _no_stall():
                while self._writes:
                    await self._landed()
                self._say_end()
                outcome = await self._ended
        finally:
            self._agent.stop_polling(self)
        self._is_over = True
        self._line.leave(self._number)
        self._line.tell_lanes()
        must_be_taken(outcome)

    def cancel(self) -> None:
        """Writes no more; nothing happens after `finish`."""
        if self._number and not self._is_over:
            self._is_over = True
            self._line.leave(self._number)
            _winding_up.add(task := asyncio.create_task(self._wind_up()))
            task.add_done_callback(_winding_up.discard)

    # ---- what the line hears ----

    def granted(self, grant: nixl_pb2.NixlGrant) -> None:
        """The peer lets the push write."""
        if not self._grant.done():
            self._grant.set_result(grant)

    def stopped(self, refused: Refused) -> None:
        """The peer wants no more, or is lost."""
        self._refused = self._refused or refused
        self.cancel()  # at once: the next layer may be long in coming, and the peer waits
        for answer in (self._grant, self._ended):
            if not answer.done():
                answer.set_exception(refused)
                answer.exception()  # whoever waits for it hears it; nobody may

    def ended(self, outcome: kv_pb2.Outcome) -> None:
        """The peer's answer to the end."""
        if not self._ended.done():
            self._ended.set_result(outcome)

    # ---- the rest ----

    async def _begin(self, layer: int, span: Span) -> None:
        self._line = await self._find_line()
        self._number = self._line.enter(self)
        begin = nixl_pb2.NixlBegin(
            push=self._number,
            wire_id=self._wire_id,
            epoch=self._epoch,
            layer=layer,
            layer_bytes=span.layer_bytes,
        )
        self._line.say(nixl_pb2.FromNixlSender(begin=begin))

    async def _landed(self) -> None:
        """The write that began first has landed. Raises Refused."""
        # Shielded: a write goes on, whoever stops waiting for it.
        first = self._writes[0]
        landing = asyncio.wrap_future(first)
        landing.add_done_callback(_hear)
        await asyncio.shield(landing)
        if first in self._writes:  # a layer may wait for it beside the end
            self._writes.remove(first)

    def _say_end(self, *, in_flight: bool = False) -> None:
        end = nixl_pb2.NixlEnd(push=self._number, layers=self._layers, in_flight=in_flight)
        self._line.say(nixl_pb2.FromNixlSender(end=end))

    async def _wind_up(self) -> None:
        """Says that nothing is in flight, or that something is: the peer goes by that."""
        try:
            async with asyncio.timeout(WIND_UP_S):
                while self._writes:
                    await self._landed()
        except TimeoutError:
            log.warning("a write did not end", extra={"fields": {"within_s": WIND_UP_S}})
            self._say_end(in_flight=True)
        except Refused as refused:
            # UCX's connection is broken, and stays so: with a new line comes a new one.
            self._line.close(f"a write failed: {refused}")
        else:
            self._say_end()


_winding_up: set[asyncio.Task[None]] = set()
"""Tasks that are held by nothing else."""


def _rows(span: Span, first: int, count: int, blocks: Sequence[int], base: int) -> Any:
    """Where these layers lie from `base` on, if the sequence had these blocks: NIXL's descriptors.

    Rows of address, bytes and a device. In Python each row took a microsecond, and a transfer has
    thousands.
    """
    import numpy  # as NIXL does: not there without it

    geometry = span.pool.geometry
    full, rest = divmod(span.num_tokens, geometry.block_tokens)
    (whole,) = geometry.runs(first, count, (0,), geometry.block_tokens)
    last = list(geometry.runs(first, count, blocks[full:], rest)) if rest else []
    rows = numpy.zeros((full + len(last), 3), numpy.uint64)
    rows[:full, 0] = numpy.array(blocks[:full], numpy.uint64) * geometry.block_bytes + whole.offset
    rows[:full, 1] = whole.length
    if last:
        rows[full:, :2] = last
    rows[:, 0] += base
    return rows


def _hear(landing: asyncio.Future[None]) -> None:
    """Takes note of an error that nobody waits for any more."""
    if not landing.cancelled():
        landing.exception()


@asynccontextmanager
async def _no_stall(within_s: float = STALL_S) -> AsyncIterator[None]:
    """Raises Refused when what is waited for inside does not come."""
    try:
        async with asyncio.timeout(within_s):
            yield
    except TimeoutError as error:
        why = f"the peer did not answer, or took no bytes, for {within_s:.0f} s"
        raise Refused(kv_pb2.TRANSPORT_FAILED, why) from error
