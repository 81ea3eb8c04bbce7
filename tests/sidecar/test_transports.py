"""Which way bytes go, and what the doors of shm and tcp do with those who are no peers."""

import asyncio
import mmap
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.moves import new_move
from splitwise_sidecar.pool import Span, new_pool
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.transports import tcp, wire_id
from splitwise_sidecar.transports.tcp import ANSWER, FRAME, TcpPush, TcpTransport
from tests.sidecar.conftest import GEOMETRY, Node
from tests.support.kv_worker import KvWorker

TOKENS = 100


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    """A prompt and a token node that may use every transport."""
    async with AsyncExitStack() as stack:
        made = []
        for name in ("p", "t"):
            node = Node(tmp_path, name)
            stack.push_async_callback(node.stop)
            await node.start()
            made.append(node)
        yield made[0], made[1]


async def transfer(prompt: Node, token: Node, name: str = "t") -> kv_pb2.TransferEnded:
    """One transfer, to its end."""
    blocks = list(range(GEOMETRY.blocks_for(TOKENS)))
    prompt.worker.fill(blocks, TOKENS, seed=len(name))
    token.worker.open_lease(name, blocks, TOKENS)
    prompt.worker.start_transfer(name, token.address, blocks, TOKENS)
    prompt.worker.layers_ready(name)
    prompt.worker.finish(name)
    ended: kv_pb2.TransferEnded = await prompt.worker.expect("transfer_ended")
    if ended.outcome == kv_pb2.OK:
        await token.worker.expect("lease_verified")
        assert token.worker.read(blocks, TOKENS) == prompt.worker.read(blocks, TOKENS)
    return ended


def close_shm(node: Node) -> None:
    """As on another machine: there is no such path."""
    Path(node.sidecar.endpoints["shm"]).unlink()


# ---- the choice ----


async def test_peers_on_one_machine_share_memory(nodes: tuple[Node, Node]) -> None:
    assert (await transfer(*nodes)).transport == "shm"


async def test_peers_on_two_machines_use_tcp(nodes: tuple[Node, Node]) -> None:
    close_shm(nodes[1])
    assert (await transfer(*nodes)).transport == "tcp"


async def test_grpc_goes_where_nothing_else_does(nodes: tuple[Node, Node]) -> None:
    close_shm(nodes[1])
    nodes[1].sidecar.endpoints["tcp"] = "1"  # a port that nobody listens on
    assert (await transfer(*nodes)).transport == "grpc"


@pytest.mark.parametrize("transport", ["shm", "tcp"])
async def test_a_transport_that_was_named_is_not_replaced(tmp_path: Path, transport: str) -> None:
    async with AsyncExitStack() as stack:
        prompt, token = (Node(tmp_path, "p", [transport]), Node(tmp_path, "t"))
        for node in (prompt, token):
            stack.push_async_callback(node.stop)
            await node.start()
        token.sidecar.endpoints.update(shm="/nowhere/kv.sock", tcp="1")
        ended = await transfer(prompt, token)
    assert ended.outcome == kv_pb2.TRANSPORT_FAILED
    assert transport in ended.detail


# ---- shm: memory of others is read, and never written ----


def test_what_reads_a_pool_cannot_write_it() -> None:
    pool = new_pool(KvGeometry("tiny", "float16", 1, 1, 8, 128), bytes(4096))
    with pytest.raises(PermissionError):
        mmap.mmap(pool.fd, 4096)
    pool.memory[:4] = b"seen"
    with mmap.mmap(pool.fd, 4096, prot=mmap.PROT_READ) as mapped:
        assert mapped[:4] == b"seen"
    pool.close()


async def test_a_lease_that_ends_while_layers_are_copied_is_fenced_at_once(
    nodes: tuple[Node, Node],
) -> None:
    """INV-6."""
    prompt, token = nodes
    blocks = list(range(GEOMETRY.blocks_for(TOKENS)))
    token.worker.open_lease("t", blocks, TOKENS)
    prompt.worker.fill(blocks, TOKENS, seed=1)
    prompt.worker.start_transfer("t", token.address, blocks, TOKENS)
    prompt.worker.layers_ready("t", 0, 2)
    token.worker.close_lease("t")
    assert (await token.worker.expect("lease_ended")).outcome == kv_pb2.CANCELLED
    before = token.worker.memory[:]
    prompt.worker.layers_ready("t", 2)
    prompt.worker.finish("t")
    assert (await prompt.worker.expect("transfer_ended")).outcome != kv_pb2.OK
    assert token.worker.memory[:] == before
    assert (await transfer(prompt, token, "next")).transport == "shm"


# ---- tcp: as many connections as there is work for ----

WIDE = KvGeometry("wide", "float16", 5, 8, 128, 2048)  # 8 MiB a layer of one block
WIDE_TOKENS = 2000


@pytest.fixture
async def wide_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Node, Node]]:
    """A prompt and a token node with one block of five large layers, and nothing but tcp, by which
    a connection takes on two layers at a time."""
    monkeypatch.setattr(tcp, "RUN_BYTES", 2 * WIDE.layer_bytes)
    async with AsyncExitStack() as stack:
        made = []
        for name in ("p", "t"):
            node = Node(tmp_path, name, ["tcp"])
            node.worker.close()
            node.worker = KvWorker(WIDE, 1, name)
            stack.push_async_callback(node.stop)
            await node.start()
            made.append(node)
        yield made[0], made[1]


@pytest.mark.parametrize(
    ("batches", "streams"),
    [
        pytest.param([[0], [1], [2, 3], [4]], 1, id="one layer at a time: one"),
        pytest.param([[0, 1, 2, 3, 4]], 3, id="all layers at once: three"),
        pytest.param([[0], [1, 2, 3, 4]], 2, id="one, and all that became ready meanwhile: two"),
        pytest.param([[4, 2, 0], [3, 1]], 3, id="layers that do not follow each other: three"),
    ],
)
async def test_a_push_uses_as_many_connections_as_it_has_work_for(
    wide_nodes: tuple[Node, Node], batches: list[list[int]], streams: int
) -> None:
    """INV-3: every layer arrives whole, whichever connection it went by, and has its own digest."""
    prompt, token = wide_nodes
    prompt.worker.fill([0], WIDE_TOKENS, seed=3)
    token.worker.open_lease("t", [0], WIDE_TOKENS)
    prompt.worker.start_transfer("t", token.address, [0], WIDE_TOKENS)
    while token.value("splitwise_kv_leases", state="reserved") < 1:
        await asyncio.sleep(0.01)
    pool = new_pool(WIDE, bytes(prompt.worker.memory))
    span = pool.span([0], WIDE_TOKENS)
    movers = Movers()
    sender = TcpTransport(movers, lambda _: None, tls=None)
    await sender.connect(token.address, token.sidecar.endpoints["tcp"])
    push = sender.open_push(token.address, "t", token.worker.epoch, 5)
    for batch in batches:
        assert await push.layers(batch, span) == [digest_of(span, layer) for layer in batch]
    assert push.streams == streams
    await push.finish()
    assert token.worker.read([0], WIDE_TOKENS) == prompt.worker.read([0], WIDE_TOKENS)
    await sender.forget(token.address)
    movers.close()
    pool.close()


async def test_kv_that_came_by_several_connections_is_committed_when_all_have_ended(
    wide_nodes: tuple[Node, Node],
) -> None:
    prompt, token = wide_nodes
    for name in ("first", "second"):
        prompt.worker.fill([0], WIDE_TOKENS, seed=len(name))
        token.worker.open_lease(name, [0], WIDE_TOKENS)
        prompt.worker.start_transfer(name, token.address, [0], WIDE_TOKENS)
        prompt.worker.layers_ready(name)
        prompt.worker.finish(name)
        ended = await prompt.worker.expect("transfer_ended")
        assert (ended.outcome, ended.pushes) == (kv_pb2.OK, 1)
        await token.worker.expect("lease_verified")
        assert token.worker.read([0], WIDE_TOKENS) == prompt.worker.read([0], WIDE_TOKENS)


def digest_of(span: Span, layer: int) -> int:
    """By another way than the push's: a move that only reads."""
    move = new_move(span, layer)
    move.read()
    return move.digest()


# ---- strangers ----


async def test_noise_on_the_tcp_port_hurts_nobody(nodes: tuple[Node, Node]) -> None:
    draw = random.Random(7)
    close_shm(nodes[1])
    for size in (1, 39, 40, 41, 5000):
        noise = await speak_tcp(nodes[1])
        await asyncio.get_running_loop().sock_sendall(noise, draw.randbytes(size))
        noise.close()
    assert (await transfer(*nodes)).outcome == kv_pb2.OK


async def test_noise_on_the_shm_socket_hurts_nobody(nodes: tuple[Node, Node]) -> None:
    draw = random.Random(7)
    for size in (1, 40, 5000):
        noise = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        noise.setblocking(False)
        noise.connect(nodes[1].sidecar.endpoints["shm"])
        greeting = await asyncio.get_running_loop().sock_recv(noise, 100)
        assert kv_pb2.ShmAnswer.FromString(greeting).HasField("counters")
        noise.send(draw.randbytes(size))
        assert await asyncio.get_running_loop().sock_recv(noise, 100) == b"", "it hangs up"
        noise.close()
    assert (await transfer(*nodes)).transport == "shm"


async def speak_tcp(node: Node) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    address = ("127.0.0.1", int(node.sidecar.endpoints["tcp"]))
    await asyncio.get_running_loop().sock_connect(made, address)
    return made


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param([("other", 0, 64)], kv_pb2.UNKNOWN_TRANSFER, id="a transfer nobody opened"),
        pytest.param([("t", 99, 64)], kv_pb2.DENIED, id="a layer that does not exist"),
        pytest.param([("t", 0, 1 << 40)], kv_pb2.DENIED, id="more bytes than a layer has"),
        pytest.param([("t", 0, 64), ("u", 0, 64)], kv_pb2.INVALID, id="two transfers in one push"),
    ],
)
async def test_a_push_that_is_not_allowed_is_answered_with_why(
    nodes: tuple[Node, Node], frames: list[tuple[str, int, int]], expected: int
) -> None:
    token = nodes[1].worker
    for name in ("t", "u"):
        token.open_lease(name, [len(name), ord(name[0]) % 60], 20)
        nodes[0].worker.start_transfer(name, nodes[1].address, [1, 2], 20)
    while nodes[1].value("splitwise_kv_leases", state="reserved") < 2:
        await asyncio.sleep(0.01)
    before = nodes[1].value("splitwise_kv_transfer_bytes_total")
    connection = await speak_tcp(nodes[1])
    loop = asyncio.get_running_loop()
    for name, layer, length in frames:
        head = FRAME.pack(wire_id(name), token.epoch, length, layer, 1)
        await loop.sock_sendall(connection, head + bytes(min(length, 64)))
    async with asyncio.timeout(5):
        (answer,) = ANSWER.unpack(await loop.sock_recv(connection, ANSWER.size))
    connection.close()
    assert answer == expected
    taken = 64 if len(frames) == 2 else 0
    assert nodes[1].value("splitwise_kv_transfer_bytes_total") == before + taken


async def test_a_stale_epoch_is_told_apart(nodes: tuple[Node, Node]) -> None:
    nodes[1].worker.open_lease("t", [1, 2], 20)
    movers = Movers()
    sender = TcpTransport(movers, lambda _: None, tls=None)
    port = nodes[1].sidecar.endpoints["tcp"]
    await sender.connect(nodes[1].address, port)
    push = sender.open_push(nodes[1].address, "t", nodes[1].worker.epoch + 1, 5)
    pool = new_pool(GEOMETRY, bytes(GEOMETRY.block_bytes))
    with pytest.raises(Refused, match="stale_epoch"):
        await push_one(push, pool.span([0], 10))
    push.cancel()
    await sender.forget(nodes[1].address)
    movers.close()
    pool.close()


async def push_one(push: TcpPush, span: Span) -> None:
    await push.layers([0], span)
    await push.finish()
