"""The receiving end of NIXL: grants blocks to pushes, hears of layers, and fences what it granted.

A sender writes without being seen. So memory that it was granted comes back in one of two ways:
the sender says that nothing is in flight any more, or the memory is taken from it (`Area.fence`).
The second needs nothing of the sender, who may be stopped, cut off or gone. It happens when its
line breaks, when it does not answer a Stop within GOODBYE_S, or when it cannot say.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

import grpc

from splitwise_core.rpc import kv_pb2, nixl_pb2, nixl_pb2_grpc
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.transports import FindSink
from splitwise_sidecar.transports.nixl_agent import NixlAgent
from splitwise_sidecar.transports.nixl_area import Areas
from splitwise_sidecar.transports.nixl_pull import Pull

log = logging.getLogger("splitwise.sidecar.nixl_receiver")

MAX_LINES: Final = 256
MAX_PUSHES: Final = 256
"""Of one line at once."""


class NixlReceiver(nixl_pb2_grpc.KvNixlServicer):
    """Takes pushes into the sink of the moment, by the agents of the transports in use."""

    def __init__(self, movers: Movers, sink: FindSink, count_fence: Callable[[], None]) -> None:
        self._movers = movers
        self._sink = sink
        self._areas: dict[str, Areas] = {}
        self._count_fence = count_fence
        self._lines = 0

    def add(self, agent: NixlAgent) -> None:
        """Receives by this agent's transport too."""
        self._areas[agent.transport] = Areas(agent, self._count_fence)

    async def Line(
        self,
        messages: AsyncIterator[nixl_pb2.FromNixlSender],
        context: grpc.aio.ServicerContext[nixl_pb2.FromNixlSender, nixl_pb2.FromNixlReceiver],
    ) -> AsyncIterator[nixl_pb2.FromNixlReceiver]:
        """One sender's messages in, ours out, until either side hangs up."""
        first = await anext(aiter(messages), None)
        areas = self._areas.get(first.hello.transport) if first is not None else None
        if areas is None or self._lines == MAX_LINES:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not received here")
        assert first is not None
        assert areas is not None
        self._lines += 1
        remote = ""
        try:
            remote = await areas.agent.meet(first.hello.agent)
            line = _Line(areas, self._movers, self._sink)
            hello = nixl_pb2.NixlHello(
                transport=areas.agent.transport, agent=areas.agent.connection
            )
            yield nixl_pb2.FromNixlReceiver(hello=hello)
            async for message in line.run(messages):
                yield message
        except Refused as refused:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, refused.detail)
        finally:
            self._lines -= 1
            if remote:
                areas.agent.part(remote)


class _Line:
    """One sender's pushes."""

    def __init__(self, areas: Areas, movers: Movers, sink: FindSink) -> None:
        self._areas = areas
        self._movers = movers
        self._sink = sink
        self._answers: asyncio.Queue[nixl_pb2.FromNixlReceiver | None] = asyncio.Queue()
        self._pulls: dict[int, Pull] = {}

    async def run(
        self, messages: AsyncIterator[nixl_pb2.FromNixlSender]
    ) -> AsyncIterator[nixl_pb2.FromNixlReceiver]:
        """What is to be said, while the sender is there."""
        hearing = asyncio.create_task(self._hear_all(messages))
        try:
            while (answer := await self._answers.get()) is not None:
                yield answer
        finally:
            hearing.cancel()
            for pull in self._pulls.values():
                pull.lose()

    async def _hear_all(self, messages: AsyncIterator[nixl_pb2.FromNixlSender]) -> None:
        try:
            async for message in messages:
                self._hear(message)
        except Refused as refused:
            log.warning("a line made no sense", extra={"fields": {"detail": refused.detail}})
        finally:
            self._answers.put_nowait(None)

    def _hear(self, message: nixl_pb2.FromNixlSender) -> None:
        """Raises Refused when it makes no sense."""
        match message.WhichOneof("kind"):
            case "begin":
                self._begin(message.begin)
            case "end":
                if pull := self._pulls.get(message.end.push):
                    pull.lose() if message.end.in_flight else pull.end(message.end.layers)
            case kind:
                raise Refused(kv_pb2.INVALID, f"a message of kind {kind} has no place here")

    def _begin(self, begin: nixl_pb2.NixlBegin) -> None:
        if begin.push in self._pulls or len(self._pulls) == MAX_PUSHES:
            raise Refused(kv_pb2.INVALID, "a push is begun twice, or one too many")
        sink = self._sink()
        if sink is None:
            stop = nixl_pb2.NixlStop(push=begin.push, outcome=kv_pb2.STALE_EPOCH)
            self._answers.put_nowait(nixl_pb2.FromNixlReceiver(stop=stop))
            return
        pull = Pull(begin, sink, self._areas, self._movers, self._answers.put_nowait)
        self._pulls[begin.push] = pull
        _running.add(task := asyncio.create_task(pull.run()))
        task.add_done_callback(_running.discard)
        task.add_done_callback(lambda _: self._pulls.pop(begin.push, None))


_running: set[asyncio.Task[None]] = set()
"""Pulls outlive the line that broke: they have memory to give back."""
