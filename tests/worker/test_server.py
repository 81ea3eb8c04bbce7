"""The Worker service over a real socket: one stream a router, whatever a router sends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from splitwise_core.errors import UserError
from splitwise_core.rpc import worker_pb2, worker_pb2_grpc
from splitwise_core.rpc.channel import OPTIONS
from splitwise_worker import commands, server, sessions
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.outbox import Updates
from splitwise_worker.server import WorkerService, serve
from splitwise_worker.sessions import Sessions
from tests.worker.conftest import MakeRig
from tests.worker.listening_sidecar import WAIT_S
from tests.worker.support import (
    CANCELLED,
    DRAINING,
    FAILURE,
    INVALID,
    LENGTH_REACHED,
    Rig,
    greedy,
    prompt,
    request,
)

INFO = worker_pb2.WorkerInfo(worker_id="w0", model="small", num_blocks=4)
FAR_S = 4e9


def prefill(number: int, tokens: list[int], **asked: Any) -> worker_pb2.ToWorker:
    message = request(number, tokens, deadline_s=FAR_S, **asked)
    return worker_pb2.ToWorker(prefill=worker_pb2.Prefill(request=message))


def cancel(number: int) -> worker_pb2.ToWorker:
    return worker_pb2.ToWorker(cancel=worker_pb2.Cancel(sequence=number))


class Served:
    """A worker's engine behind its real service."""

    def __init__(self, rig: Rig, service: WorkerService, sessions: Sessions, address: str) -> None:
        self.rig = rig
        self.sessions = sessions
        self.service = service
        self.address = address

    @asynccontextmanager
    async def router(self) -> AsyncIterator["Router"]:
        """A router whose session is open."""
        async with grpc.aio.insecure_channel(self.address, options=OPTIONS) as channel:
            stub: Any = worker_pb2_grpc.WorkerStub(channel)
            router = Router(stub, stub.Session())
            router.first = await router.read()
            assert router.first.info == INFO
            yield router

    async def until_idle(self) -> None:
        """Returns when the engine holds nothing, and all is free."""
        async with asyncio.timeout(WAIT_S):
            while self.rig.engine.sequences_left() or self.rig.blocks.free_blocks < 4:
                await asyncio.sleep(0.005)


class Router:
    """The router's end of a session."""

    def __init__(self, stub: Any, call: Any) -> None:
        self.stub = stub
        self.call = call
        self.first = worker_pb2.FromWorker()
        self.updates: list[worker_pb2.Update] = []

    async def read(self) -> worker_pb2.FromWorker:
        async with asyncio.timeout(WAIT_S):
            message = await self.call.read()
        assert message is not grpc.aio.EOF, "the worker ended the session"
        self.updates += message.updates
        return message

    async def send(self, *messages: worker_pb2.ToWorker) -> None:
        for message in messages:
            await self.call.write(message)

    async def end(self, number: int) -> tuple[int, int]:
        """Reads until this sequence has ended; its finish and outcome."""
        while True:
            for update in self.updates:
                if update.sequence == number and update.finish:
                    return update.finish, update.outcome
            await self.read()

    def tokens(self, number: int) -> list[int]:
        return [t for update in self.updates if update.sequence == number for t in update.tokens]


@pytest.fixture
async def served(make_rig: MakeRig) -> AsyncIterator[Served]:
    """A worker that serves on a port of its own, with 4 blocks."""
    rig, open_sessions, loop = make_rig(), Sessions(), asyncio.get_running_loop()

    def deliver(updates: Updates, load: worker_pb2.Load) -> None:
        loop.call_soon_threadsafe(open_sessions.deliver, updates, load)

    rig.deliver, open_sessions.load = deliver, rig.load
    service = WorkerService(rig.engine, open_sessions, INFO)
    listening, port = await serve(service, "127.0.0.1:0")
    thread = rig.start()
    yield Served(rig, service, open_sessions, f"127.0.0.1:{port}")
    await listening.stop(grace=0)
    rig.engine.submit(commands.Stop())
    await asyncio.to_thread(thread.join, WAIT_S)


async def test_a_session_begins_with_who_the_worker_is_and_how_loaded(served: Served) -> None:
    async with served.router() as router:
        assert (await router.read()).load.free_blocks == 4


async def test_a_request_over_the_wire_gets_the_models_answer(
    served: Served, decoder: Decoder
) -> None:
    async with served.router() as router:
        await router.send(prefill(1, prompt(20), max_tokens=9))
        assert await router.end(1) == (LENGTH_REACHED, 0)
        assert router.tokens(1) == greedy(decoder, prompt(20), 9)


async def test_two_routers_hear_of_their_own_sequences_alone(served: Served) -> None:
    async with served.router() as one, served.router() as other:
        await one.send(prefill(1, prompt(20), max_tokens=9))
        await other.send(prefill(2, prompt(20), max_tokens=5))
        assert await one.end(1) == await other.end(2) == (LENGTH_REACHED, 0)
        assert {update.sequence for update in one.updates} == {1}
        assert {update.sequence for update in other.updates} == {2}


async def test_an_idle_session_hears_the_load_again_and_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "HEARTBEAT_S", 0.01)
    async with served.router() as router:
        for _ in range(3):
            assert (await router.read()).load.ready


async def test_a_cancel_over_the_wire_frees_the_blocks(served: Served) -> None:
    async with served.router() as router:
        await router.send(prefill(1, prompt(5), max_tokens=59), cancel(1))
        await served.until_idle()


@pytest.mark.parametrize("how", ["half closed", "cancelled", "gone"])
async def test_a_session_that_ends_takes_its_sequences_along(served: Served, how: str) -> None:
    async with served.router() as router:
        await router.send(*(prefill(number, prompt(5), max_tokens=59) for number in range(4)))
        await router.read()
        if how == "half closed":
            await router.call.done_writing()
        elif how == "cancelled":
            router.call.cancel()
        if how != "gone":
            await served.until_idle()
    await served.until_idle()
    async with served.router() as another:
        await another.send(prefill(1, prompt(5)))
        assert (await another.end(1))[0] == LENGTH_REACHED


NONSENSE = {
    "nothing at all": worker_pb2.ToWorker(),
    "a request that is empty": worker_pb2.ToWorker(prefill=worker_pb2.Prefill()),
    "a decode that is empty": worker_pb2.ToWorker(decode=worker_pb2.Decode()),
    "a cancel of an absurd number": cancel(2**64 - 1),
    "a bias outside the vocabulary": prefill(9, prompt(5), logit_bias={2**32 - 1: 1.0}),
    "a temperature that is not a number": prefill(9, prompt(5), temperature=float("nan")),
    "a million tokens": prefill(9, [1] * 1_000_000),
}


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_what_makes_no_sense_is_answered_and_harms_nobody(
    served: Served, nonsense: str
) -> None:
    async with served.router() as router:
        await router.send(
            prefill(1, prompt(5), max_tokens=30), NONSENSE[nonsense], prefill(2, prompt(5))
        )
        assert await router.end(1) == await router.end(2) == (LENGTH_REACHED, 0)
        refused = {u.outcome for u in router.updates if u.finish == FAILURE}
        assert refused <= {INVALID}
        assert bool(refused) == (NONSENSE[nonsense].WhichOneof("kind") in ("prefill", "decode"))
    await served.until_idle()


async def test_bytes_that_are_no_message_end_their_own_session_only(served: Served) -> None:
    async with served.router() as router, grpc.aio.insecure_channel(served.address) as raw:
        call: Any = raw.stream_stream("/splitwise.v1.Worker/Session")()
        await call.write(b"\xff\xff\xff")
        async with asyncio.timeout(WAIT_S):
            with suppress(grpc.aio.AioRpcError):
                while await call.read() is not grpc.aio.EOF:
                    pass
        await router.send(prefill(1, prompt(5)))
        assert (await router.end(1))[0] == LENGTH_REACHED


async def test_a_router_that_sends_without_end_waits_for_the_engine(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_WAITING", 10)
    most = 0
    submit = served.rig.engine.submit

    def watched(command: commands.Command) -> None:
        nonlocal most
        submit(command)
        most = max(most, served.rig.engine.commands_waiting())

    monkeypatch.setattr(served.rig.engine, "submit", watched)
    async with served.router() as router:
        await router.send(*(cancel(number) for number in range(2000)), prefill(1, prompt(5)))
        assert (await router.end(1))[0] == LENGTH_REACHED
    assert most <= 11


async def test_a_router_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_UNREAD", 10)
    open_sessions = Sessions()
    session = open_sessions.open()
    session.listening = asyncio.create_task(asyncio.sleep(WAIT_S))
    for _ in range(12):
        open_sessions.deliver({session.number: [worker_pb2.Update()]}, worker_pb2.Load())
    with pytest.raises(asyncio.CancelledError):
        await session.listening
    assert session.closed
    assert session.updates == []


async def test_drain_waits_for_what_is_here_and_refuses_what_comes(served: Served) -> None:
    async with served.router() as router:
        await router.send(prefill(1, prompt(5), max_tokens=50))
        await router.read()
        reply = await router.stub.Drain(worker_pb2.DrainRequest(deadline_s=WAIT_S))
        assert reply.remaining == 0
        assert await router.end(1) == (LENGTH_REACHED, 0)
        await router.send(prefill(2, prompt(5)))
        assert await router.end(2) == (FAILURE, DRAINING)
        assert (await router.read()).load.draining


async def test_drain_tells_how_many_were_left_at_its_deadline(served: Served) -> None:
    async with served.router() as router:
        message = worker_pb2.Decode(
            request=request(1, prompt(5), deadline_s=FAR_S),
            transfer=worker_pb2.Transfer(transfer_id="never comes"),
        )
        await router.send(worker_pb2.ToWorker(decode=message))
        while (await router.read()).load.free_blocks == 4:
            pass
        reply = await router.stub.Drain(worker_pb2.DrainRequest(deadline_s=0.1))
        assert reply.remaining == 1
        served.rig.lease_ended("never comes", CANCELLED)
        await served.until_idle()


@pytest.mark.parametrize("deadline_s", [float("nan"), -1.0])
async def test_a_drain_without_an_end_is_refused(served: Served, deadline_s: float) -> None:
    async with served.router() as router:
        with pytest.raises(grpc.aio.AioRpcError, match="deadline_s"):
            await router.stub.Drain(worker_pb2.DrainRequest(deadline_s=deadline_s))
        await router.send(prefill(1, prompt(5)))
        assert (await router.end(1))[0] == LENGTH_REACHED


async def test_a_taken_port_is_told_with_the_address(served: Served) -> None:
    with pytest.raises(UserError, match=served.address) as refused:
        await serve(served.service, served.address)
    assert refused.value.code == "port-taken"
