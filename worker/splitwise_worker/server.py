"""The Worker service: routers' messages go to the engine, its updates go back on their streams."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Final

import grpc

from splitwise_core.errors import UserError
from splitwise_core.rpc import kv_pb2, worker_pb2, worker_pb2_grpc
from splitwise_core.rpc.channel import OPTIONS
from splitwise_worker import commands
from splitwise_worker.engine import Engine
from splitwise_worker.sequence import SequenceKey
from splitwise_worker.sessions import OpenSession, Sessions

log = logging.getLogger("splitwise.worker.server")

DRAIN_POLL_S: Final = 0.05

SETTLE_S: Final = 1.0
"""What is given back at a drain's deadline is gone so much later: its sidecar lets go of it."""

MAX_WAITING: Final = 1024
"""Commands that the engine has not taken up; past it routers are not read, and gRPC holds them."""

BACK_PRESSURE_POLL_S: Final = 0.01

MAX_PEER_CHARACTERS: Final = 256
"""A DNS name has at most 253."""

ToWorker = worker_pb2.ToWorker
FromWorker = worker_pb2.FromWorker
Context = grpc.aio.ServicerContext[ToWorker, FromWorker]


class WorkerService(worker_pb2_grpc.WorkerServicer):
    """One engine, any number of routers."""

    def __init__(self, engine: Engine, sessions: Sessions, info: worker_pb2.WorkerInfo) -> None:
        self._engine = engine
        self._sessions = sessions
        self._info = info

    async def Session(
        self, request_iterator: AsyncIterator[ToWorker], context: Context
    ) -> AsyncIterator[FromWorker]:
        """Serves one router until either side goes; its sequences go with it."""
        session = self._sessions.open()
        listening = asyncio.create_task(self._listen(session, request_iterator))
        session.listening = listening
        # Asked once: of a context whose call is over, gRPC reads freed memory.
        fields = {"router": context.peer(), "session": session.number}
        log.info("router attached", extra={"fields": fields})
        try:
            links = self._sessions.links
            yield FromWorker(info=self._info, load=self._sessions.load, links=links)
            while not session.closed or session.updates:
                await session.wait()
                updates, session.updates = session.updates, []
                links, session.links = list(session.links.values()), {}
                yield FromWorker(load=self._sessions.load, updates=updates, links=links)
        finally:
            listening.cancel()
            self._sessions.forget(session)
            log.info("router gone", extra={"fields": fields})

    async def _listen(self, session: OpenSession, messages: AsyncIterator[ToWorker]) -> None:
        try:
            async for message in messages:
                self._take(session, message)
                # An event would cost the engine's thread a wake-up of this loop for each command.
                while self._engine.commands_waiting() >= MAX_WAITING:  # noqa: ASYNC110
                    await asyncio.sleep(BACK_PRESSURE_POLL_S)
        finally:
            session.close()
            self._engine.submit(commands.SessionEnded(session.number))

    def _take(self, session: OpenSession, message: ToWorker) -> None:
        match message.WhichOneof("kind"):
            case "prefill":
                self._engine.submit(commands.Prefill(session.number, message.prefill))
            case "decode":
                self._engine.submit(commands.Decode(session.number, message.decode))
            case "cancel":
                key = SequenceKey(session.number, message.cancel.sequence)
                self._engine.submit(commands.Cancel(key))
            case "move":
                key = SequenceKey(session.number, message.move.sequence)
                self._engine.submit(commands.Move(key, message.move))
            case "measure_link":
                self._measure(message.measure_link)
            case _:  # of a newer router: nothing that we could end for it
                log.warning("a message of unknown kind", extra={"fields": {"from": session.number}})

    def _measure(self, message: kv_pb2.MeasureLink) -> None:
        if 0 < len(message.peer) <= MAX_PEER_CHARACTERS:
            self._engine.submit(commands.MeasureLink(message))
        else:
            fields = {"characters": len(message.peer)}
            log.warning("a link to no peer is not measured", extra={"fields": fields})

    async def Drain(
        self, request: worker_pb2.DrainRequest, context: Context
    ) -> worker_pb2.DrainReply:
        """Takes no new work, and is rid of what is here by the deadline."""
        if not request.deadline_s >= 0:  # NaN too: it would never pass
            text = f"deadline_s: {request.deadline_s} is no time from now"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        return worker_pb2.DrainReply(remaining=await self.drain(request.deadline_s))

    async def drain(self, deadline_s: float) -> int:
        """As `Drain`, in this process; how many sequences were here a moment after the deadline."""
        self._engine.submit(commands.Drain(deadline_s))
        give_up = time.monotonic() + deadline_s + SETTLE_S
        while remaining := self._engine.sequences_left():
            if time.monotonic() >= give_up:
                break
            await asyncio.sleep(DRAIN_POLL_S)
        return remaining


async def serve(service: WorkerService, address: str) -> tuple[grpc.aio.Server, int]:
    """Listens on `address` (host:port); the server and its port. Raises UserError when taken."""
    server = grpc.aio.server(options=OPTIONS)
    worker_pb2_grpc.add_WorkerServicer_to_server(service, server)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if bound == 0:
        raise UserError(
            "port-taken",
            where=address,
            wrong="the worker cannot listen there",
            fix="stop the process that listens there, or choose another address",
        )
    await server.start()
    return server, bound
