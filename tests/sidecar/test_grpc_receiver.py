"""Streams over gRPC hold a layer's memory between two chunks: who wants it back has it at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.transports import listener
from splitwise_sidecar.transports.grpc_bytes import ACK, PATH
from tests.sidecar.conftest import Node
from tests.sidecar.hand import BLOCKS, LAYER_BYTES, TOKENS, WHOLE, Hand, Piece
from tests.support.kv_worker import ANSWER_WITHIN_S, KvWorker

BYTES = "splitwise_kv_transfer_bytes_total"
HALF = Piece(0, 0, 500)
OTHER_HALF = Piece(0, 500)


class Stream:
    """One push, whose sender says when anything comes."""

    def __init__(self, hand: Hand, channel: Any) -> None:
        self._hand = hand
        self._call = channel.stream_unary(PATH)(timeout=ANSWER_WITHIN_S)

    async def say(self, piece: Piece) -> None:
        """Sends a chunk."""
        await self._call.write(self._hand.chunk(piece))

    async def end(self) -> int:
        """The outcome that it is answered with."""
        await self._call.done_writing()
        (outcome,) = ACK.unpack(await self._call)
        return int(outcome)


class Door:
    """A node, a hand that has claimed its lease, and as many streams as somebody wants."""

    def __init__(self, node: Node, hand: Hand, stack: AsyncExitStack) -> None:
        self.node = node
        self.hand = hand
        self._stack = stack

    async def stream(self) -> Stream:
        """On a connection of its own."""
        own = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.insecure_channel(self.node.bytes_address, options=own)
        await self._stack.enter_async_context(channel)
        return Stream(self.hand, channel)

    async def half_written(self) -> Stream:
        """One that has sent half of a layer, which is in its place."""
        stream = await self.stream()
        await stream.say(HALF)
        half = self.hand.kv[0][: LAYER_BYTES // 2]
        await self.until(lambda: self.node.worker.read(BLOCKS, TOKENS)[0].startswith(half))
        return stream

    async def until(self, holds: Callable[[], bool]) -> None:
        """Returns once it holds."""
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while not holds():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Door]:
    """The sidecar stops before its clients hang up."""
    async with AsyncExitStack() as clients, AsyncExitStack() as sidecar:
        node = Node(directory, "t", ["grpc"])
        sidecar.push_async_callback(node.stop)
        await node.start()
        hand = Hand(node)
        clients.push_async_callback(hand.close)
        await hand.reserve()
        yield Door(node, hand, clients)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(tmp_path) as made:
        yield made


async def test_a_lease_that_ends_between_two_chunks_is_fenced_at_once(door: Door) -> None:
    """INV-6."""
    stream = await door.half_written()
    door.node.worker.close_lease("t")
    assert (await door.node.worker.expect("lease_ended")).outcome == kv_pb2.CANCELLED
    before = door.node.worker.memory[:]
    await stream.say(OTHER_HALF)
    assert await stream.end() == kv_pb2.UNKNOWN_TRANSFER
    assert door.node.worker.memory[:] == before
    assert door.node.value("splitwise_kv_late_writes_total") == 1


async def test_a_worker_that_dies_between_two_chunks_has_its_memory_left_alone(door: Door) -> None:
    stream = await door.half_written()
    dead = door.node.worker
    async with asyncio.timeout(ANSWER_WITHIN_S):
        await door.node.replace_worker(KvWorker(dead.geometry, 64, "t2"))
    await stream.say(OTHER_HALF)
    assert await stream.end() in (kv_pb2.UNKNOWN_TRANSFER, kv_pb2.STALE_EPOCH)


async def test_a_push_that_begins_a_layer_anew_does_not_wait_for_one_that_sleeps(
    door: Door,
) -> None:
    asleep = await door.half_written()
    assert await door.hand.push("grpc", WHOLE) == kv_pb2.OK
    await asleep.say(OTHER_HALF)
    assert await asleep.end() == kv_pb2.DENIED
    assert (await door.hand.commit()).outcome == kv_pb2.OK
    await door.node.worker.expect("lease_verified")
    assert door.hand.arrived()


async def test_a_commit_waits_for_a_stream_that_is_in_the_middle_of_a_layer(door: Door) -> None:
    stream = await door.half_written()
    committing = asyncio.create_task(door.hand.commit())
    await asyncio.sleep(0.1)
    assert not committing.done()
    for piece in (OTHER_HALF, *WHOLE[1:]):
        await stream.say(piece)
    assert await stream.end() == kv_pb2.OK
    assert (await committing).outcome == kv_pb2.OK
    await door.node.worker.expect("lease_verified")
    assert door.hand.arrived()


async def test_a_sidecar_that_stops_waits_for_no_stream(tmp_path: Path) -> None:
    async with asyncio.timeout(ANSWER_WITHIN_S), opened(tmp_path) as door:
        await door.half_written()


async def test_bytes_for_a_sidecar_without_a_worker_are_refused(door: Door) -> None:
    stream = await door.stream()
    door.node.worker.hang_up()
    await door.until(lambda: door.node.value("splitwise_kv_attached_workers") == 0)
    await stream.say(WHOLE[0])
    assert await stream.end() == kv_pb2.STALE_EPOCH


async def test_more_connections_than_are_taken_are_hung_up_on_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 2)
    async with opened(tmp_path) as door:
        first, second = await door.half_written(), await door.stream()
        await second.say(WHOLE[1])
        await door.until(lambda: door.node.value(BYTES, direction="received") > LAYER_BYTES)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await door.hand.push("grpc", WHOLE)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        for piece in (OTHER_HALF, *WHOLE[2:]):
            await first.say(piece)
        assert (await first.end(), await second.end()) == (kv_pb2.OK, kv_pb2.OK)
        assert (await door.hand.commit()).outcome == kv_pb2.OK
