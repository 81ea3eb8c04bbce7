"""Peers that break the protocol: the prompt side ends the transfer with a reason, and lives on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from splitwise_sidecar.leases import MAX_ID_CHARACTERS
from splitwise_sidecar.peer_service import MAX_OUTPUT_TOKENS, MAX_RENEWED, MAX_TRANSPORTS
from splitwise_sidecar.refusal import MAX_DETAIL_CHARACTERS
from splitwise_sidecar.transports.grpc_bytes import ACK
from splitwise_sidecar.transports.tcp import ANSWER
from tests.sidecar.conftest import GEOMETRY, Node, Pair
from tests.support.answering_peer import AnsweringPeer, correct_answers

EPOCH = 77


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path, "p")
    await made.start()
    yield made
    await made.stop()


async def end_with(node: Node, answers: dict[str, bytes]) -> kv_pb2.TransferEnded:
    """How a transfer ends whose peer answers so; the sidecar must be as it was."""
    async with AsyncExitStack() as stack:
        peer = await AnsweringPeer().start()
        peer.answers = peer.correct_answers(EPOCH) | answers
        stack.push_async_callback(peer.stop)
        node.worker.start_transfer("t", peer.address, [0], 5)
        node.worker.layers_ready("t")
        node.worker.finish("t")
        ended: kv_pb2.TransferEnded = await node.worker.expect("transfer_ended")
    assert node.worker.nothing_came()
    return ended


def reply(kind: type, **fields: object) -> bytes:
    return bytes(kind(**fields).SerializeToString())


MADE_UP = 99  # an Outcome that this version has no name for

SENSELESS = [
    pytest.param({"Hello": b"\xff"}, id="a Hello that is no message"),
    pytest.param({"Hello": reply(kv_pb2.HelloReply, outcome=MADE_UP)}, id="a Hello, made up"),
    pytest.param({"Reserve": reply(kv_pb2.ReserveReply, outcome=MADE_UP)}, id="a Reserve, made up"),
    pytest.param({"Commit": reply(kv_pb2.CommitReply, outcome=MADE_UP)}, id="a Commit, made up"),
    pytest.param({"Commit": b""}, id="a Commit without an outcome"),
    pytest.param({"Push": ACK.pack(MADE_UP)}, id="an end of the bytes, made up"),
    pytest.param({"Push": b"?"}, id="an end of the bytes, too short"),
    pytest.param(
        {"Commit": reply(kv_pb2.CommitReply, outcome=kv_pb2.DIGEST_MISMATCH, bad_layers=[99])},
        id="a damaged layer that does not exist",
    ),
]


@pytest.mark.parametrize("answers", SENSELESS)
async def test_a_senseless_answer_ends_the_transfer(node: Node, answers: dict[str, bytes]) -> None:
    ended = await end_with(node, answers)
    assert ended.outcome in (kv_pb2.INVALID, kv_pb2.TRANSPORT_FAILED)
    assert node.value("splitwise_kv_transfers_total", direction="sent") == 1


@pytest.mark.parametrize(
    ("transport", "address"),
    [
        ("tcp", "65536"),
        ("tcp", "9" * 5000),
        ("tcp", "-1"),
        ("tcp", "0"),
        ("grpc", ""),
        ("grpc", "65536"),
        ("grpc", "1"),
        ("shm", "/nowhere"),
        ("shm", "/no\0where"),
        ("shm", "/" + "x" * 5000),
        ("pigeon", ""),
    ],
)
async def test_a_door_that_cannot_be_ends_the_transfer(
    node: Node, transport: str, address: str
) -> None:
    ended = await end_with(node, correct_answers(EPOCH, transport, address))
    assert ended.outcome == kv_pb2.TRANSPORT_FAILED


async def test_long_words_of_a_peer_do_not_cost_the_worker_its_connection(node: Node) -> None:
    words = "w" * 1_000_000
    refusal = reply(kv_pb2.ReserveReply, outcome=kv_pb2.NO_CAPACITY, detail=words)
    ended = await end_with(node, {"Reserve": refusal})
    assert (ended.outcome, len(ended.detail)) == (kv_pb2.NO_CAPACITY, MAX_DETAIL_CHARACTERS)


async def test_a_layer_named_often_is_sent_again_once(node: Node) -> None:
    bad = reply(kv_pb2.CommitReply, outcome=kv_pb2.DIGEST_MISMATCH, bad_layers=[1] * 10_000)
    ended = await end_with(node, {"Commit": bad})
    assert (ended.outcome, ended.pushes) == (kv_pb2.DIGEST_MISMATCH, 2)
    layers = GEOMETRY.num_layers + 1
    sent = node.value("splitwise_kv_transfer_bytes_total", direction="sent")
    assert sent == layers * GEOMETRY.sequence_bytes(5) / GEOMETRY.num_layers


async def test_an_answer_on_the_tcp_port_that_has_no_name_ends_the_transfer(node: Node) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(ANSWER.pack(MADE_UP))

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        ended = await end_with(node, correct_answers(EPOCH, "tcp", str(port)))
    assert ended.outcome == kv_pb2.INVALID


async def test_a_made_up_answer_to_a_renewal_is_the_end_of_the_peer(node: Node) -> None:
    peer = await AnsweringPeer().start()
    renewed = reply(kv_pb2.RenewReply, outcome=MADE_UP)
    peer.answers = peer.correct_answers(EPOCH) | {"Renew": renewed}
    node.worker.start_transfer("t", peer.address, [0], 5)
    assert (await node.worker.expect("transfer_ended")).outcome == kv_pb2.INVALID
    await peer.stop()


# ---- the token side ----


TOO_MUCH = [
    pytest.param("Hello", {"transports": ["tcp"] * (MAX_TRANSPORTS + 1)}, id="transports"),
    pytest.param("Renew", {"transfer_ids": ["t"] * (MAX_RENEWED + 1)}, id="leases"),
    pytest.param("Renew", {"write_tokens": [b""] * (MAX_RENEWED + 1)}, id="write tokens"),
    pytest.param(
        "Commit",
        {"output_tokens": [2**32 - 1] * (MAX_OUTPUT_TOKENS + 1)},
        id="output tokens than a datagram holds",
    ),
    pytest.param(
        "Commit",
        {"digests": [kv_pb2.LayerDigest()] * (GEOMETRY.num_layers + 1)},
        id="digests than layers",
    ),
]


@pytest.mark.parametrize(("call", "said"), TOO_MUCH)
async def test_a_call_is_refused_at_once_with_more(
    pair: Pair, call: str, said: dict[str, Any]
) -> None:
    """A message has room for millions, each of which would keep the event loop from all else."""
    if call != "Hello":
        said = {"epoch": pair.token.worker.epoch, **said}
    async with grpc.aio.insecure_channel(pair.token.address) as channel:
        request = getattr(kv_pb2, f"{call}Request")(**said)
        answer = await getattr(kv_pb2_grpc.KvPeerStub(channel), call)(request)
    assert answer.outcome == kv_pb2.INVALID
    assert pair.token.value("splitwise_kv_transfers_total", outcome="invalid") == 1


async def test_a_reservation_for_an_id_that_cannot_be_does_not_wait(pair: Pair) -> None:
    async with grpc.aio.insecure_channel(pair.token.address) as channel:
        request = kv_pb2.ReserveRequest(
            transfer_id="t" * (MAX_ID_CHARACTERS + 1),
            epoch=pair.token.worker.epoch,
            num_tokens=5,
            wait_ms=2**32 - 1,
        )
        answer = await kv_pb2_grpc.KvPeerStub(channel).Reserve(request)
    assert answer.outcome == kv_pb2.DENIED


async def test_an_id_that_was_verified_may_come_again_and_is_verified_again(pair: Pair) -> None:
    """INV-3: what an earlier Commit found says nothing of the new lease."""
    for seed in (1, 2):
        source, target = pair.open("t", seed=seed)
        pair.complete("t")
        await pair.token.worker.expect("lease_verified")
        assert (await pair.prompt.worker.expect("transfer_ended")).outcome == kv_pb2.OK
        assert pair.arrived(source, target)
