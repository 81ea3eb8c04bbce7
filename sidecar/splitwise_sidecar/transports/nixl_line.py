"""The messages between a sender over NIXL and one peer. What is written does not pass here."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import grpc

from splitwise_core.rpc import kv_pb2, nixl_pb2, nixl_pb2_grpc
from splitwise_sidecar.dial import Dial
from splitwise_sidecar.refusal import Refused, label
from splitwise_sidecar.transports.nixl_agent import NixlAgent

log = logging.getLogger("splitwise.sidecar.nixl")

CONNECT_S: Final = 3.0
"""A hello, and UCX's connection."""


class Guest(Protocol):
    """A push on the line."""

    def granted(self, grant: nixl_pb2.NixlGrant) -> None:
        """The peer lets the push write."""

    def stopped(self, refused: Refused) -> None:
        """The peer wants no more, or is lost."""

    def ended(self, outcome: kv_pb2.Outcome) -> None:
        """The peer's answer to the end."""


class Line:
    """The stream of messages to one peer, and its agent."""

    def __init__(self, peer: str, dial: Dial, agent: NixlAgent) -> None:
        self.remote = ""
        self._peer = peer
        self._lanes: list[str] = []
        self._agent = agent
        self._channel = dial(peer)
        self._outgoing: asyncio.Queue[nixl_pb2.FromNixlSender] = asyncio.Queue()
        self._call: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._pushes: dict[int, Guest] = {}
        self._number = 0
        self._known: set[bytes] = set()
        self.closed = ""  # or why

    async def open(self) -> None:
        """Introduces the two agents to each other. Raises Refused."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._say_hello()
        except TimeoutError as error:
            self.close("no hello")
            why = f"no hello within {CONNECT_S:g} s"
            raise Refused(kv_pb2.TRANSPORT_FAILED, why) from error
        except BaseException:
            self.close("no hello")
            raise

    async def _say_hello(self) -> None:
        self._call = nixl_pb2_grpc.KvNixlStub(self._channel).Line(self._messages())
        hello = nixl_pb2.NixlHello(transport=self._agent.transport, agent=self._agent.connection)
        self._outgoing.put_nowait(nixl_pb2.FromNixlSender(hello=hello))
        try:
            answer = await self._call.read()
        except grpc.aio.AioRpcError as error:
            why = f"no hello: {error.details()}"
            raise Refused(kv_pb2.TRANSPORT_FAILED, why) from error
        if answer is grpc.aio.EOF or answer.WhichOneof("kind") != "hello":
            raise Refused(kv_pb2.TRANSPORT_FAILED, "the peer gave no hello")
        self.remote = await self._agent.meet(answer.hello.agent)
        self._reading = asyncio.create_task(self._read())

    async def _messages(self) -> AsyncIterator[nixl_pb2.FromNixlSender]:
        while True:
            yield await self._outgoing.get()

    def enter(self, push: Guest) -> int:
        """The push's number on this line, from now until `leave`. Raises Refused."""
        if self.closed:
            raise Refused(kv_pb2.PEER_LOST, self.closed)
        self._number += 1
        self._pushes[self._number] = push
        return self._number

    def leave(self, number: int) -> None:
        """Nothing said of this push matters any more."""
        self._pushes.pop(number, None)

    def say(self, message: nixl_pb2.FromNixlSender) -> None:
        """Sends it, as soon as the stream takes it."""
        self._outgoing.put_nowait(message)

    def tell_lanes(self) -> None:
        """Says, once, by which lanes UCX reaches the peer: it chooses them for the first bytes."""
        if not self._lanes:
            self._lanes = self._agent.lanes()
            fields = {"peer": self._peer, "transport": self._agent.transport}
            log.info("UCX connected", extra={"fields": fields | {"lanes": self._lanes}})

    async def know(self, memory: bytes) -> None:
        """Lets the agent write to what these keys are for. Raises Refused."""
        if memory not in self._known:
            if self.remote != self._agent.name:  # as in a probe: it knows its own memory
                await self._agent.ask(lambda agent: agent.add_remote_agent(memory))
            self._known.add(memory)

    def close(self, why: str) -> None:
        """Hangs up; pushes that are under way hear why."""
        if self.closed:
            return
        self.closed = why
        if self._reading is not None:
            self._reading.cancel()
        if self._call is not None:
            self._call.cancel()
        if self.remote:
            self._agent.part(self.remote)
        for push in list(self._pushes.values()):
            push.stopped(Refused(kv_pb2.PEER_LOST, why))
        self._closing = asyncio.create_task(self._channel.close())

    async def _read(self) -> None:
        why = "the peer hung up"
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                self._hear(message)
        except grpc.aio.AioRpcError as error:
            why = f"the push broke: {error.details()}"
        self.close(why)

    def _hear(self, message: nixl_pb2.FromNixlReceiver) -> None:
        kind = message.WhichOneof("kind")
        if kind == "hello" or kind is None:
            return
        push = self._pushes.get(getattr(message, kind).push)
        if push is None:
            return
        if kind == "grant":
            push.granted(message.grant)
        elif kind == "stop":
            outcome = message.stop.outcome
            push.stopped(Refused(outcome, f"the peer takes no more: {label(outcome)}"))
        else:
            push.ended(message.ended.outcome)
