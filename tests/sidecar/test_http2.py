"""The port for bytes over gRPC reads HTTP/2 itself: what any client may say, and no more."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    PingAckReceived,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PriorityFrame,
    RstStreamFrame,
)

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar import movers
from splitwise_sidecar.transports import http2
from splitwise_sidecar.transports.grpc_bytes import ACK, HEADER, PATH
from splitwise_sidecar.transports.grpc_receiver import PREFIX
from tests.sidecar.conftest import Node
from tests.sidecar.hand import WHOLE, Hand, Piece
from tests.support.http2_client import REQUEST, Http2Client, data_frame, message
from tests.support.kv_worker import ANSWER_WITHIN_S

REFUSED = "splitwise_kv_connections_refused_total"
BYTES = "splitwise_kv_transfer_bytes_total"
LATE = "splitwise_kv_late_writes_total"


@pytest.fixture
async def hand(tmp_path: Path) -> AsyncIterator[Hand]:
    node = Node(tmp_path, "t", ["grpc"])
    await node.start()
    made = Hand(node)
    await made.reserve()
    async with asyncio.timeout(ANSWER_WITHIN_S):
        yield made
    await made.close()
    await node.stop()


@pytest.fixture
async def client(hand: Hand) -> AsyncIterator[Http2Client]:
    async with Http2Client(hand.node.bytes_address) as made:
        yield made


def body(hand: Hand) -> bytes:
    """All of the KV."""
    return b"".join(message(hand.chunk(piece)) for piece in WHOLE)


async def is_taken(hand: Hand, client: Http2Client, stream: int) -> None:
    assert await client.answer(stream) == (kv_pb2.OK, "0")
    assert (await hand.commit()).outcome == kv_pb2.OK
    await hand.node.worker.expect("lease_verified")
    assert hand.arrived()


async def is_closed(client: Http2Client) -> None:
    with suppress(EOFError, ConnectionError):
        while True:
            await client.hear()


async def is_refused(hand: Hand, client: Http2Client) -> None:
    """Hung up on and counted; who comes next is served."""
    await is_closed(client)
    assert hand.node.value(REFUSED, transport="grpc") == 1
    assert await hand.push("grpc", WHOLE) == kv_pb2.OK


def pieces(draw: random.Random, content: bytes, most: int) -> Iterator[bytes]:
    """The content cut anywhere."""
    while content:
        length = draw.randint(1, most)
        yield content[:length]
        content = content[length:]


def between(draw: random.Random, stream: int) -> bytes:
    """What may stand between two frames of a body, and is no part of it."""
    return draw.choice(
        (
            b"",
            DataFrame(stream).serialize(),
            PriorityFrame(stream, depends_on=0, stream_weight=3).serialize(),
            b"\x00\x00\x06\xbe\x00" + stream.to_bytes(4) + b"of a kind"[:6],  # not known
            DataFrame(0x7FFF, b"of an old request").serialize(),
        )
    )


@pytest.mark.parametrize("at_once", [True, False], ids=["on the event loop", "in threads"])
@pytest.mark.parametrize("most", [1, 7, 100, 5000])
async def test_a_body_arrives_whole_however_it_is_cut(
    hand: Hand, client: Http2Client, monkeypatch: pytest.MonkeyPatch, most: int, at_once: bool
) -> None:
    monkeypatch.setattr(movers, "AT_ONCE_BYTES", movers.AT_ONCE_BYTES * at_once)
    draw = random.Random(most)
    stream = await client.begin()
    for piece in pieces(draw, body(hand), most):
        padding = draw.choice((None, None, 0, 200))
        frame = between(draw, stream) + data_frame(stream, piece, padding=padding)
        for part in pieces(draw, frame, 2 * len(frame)):
            await client.say(part)
            await asyncio.sleep(draw.choice((0, 0, 0, 0.001)) if most > 7 else 0)
    await client.say(data_frame(stream, b"", end=True))
    await is_taken(hand, client, stream)


async def test_the_last_frame_may_end_the_body(hand: Hand, client: Http2Client) -> None:
    stream = await client.begin()
    await client.say(data_frame(stream, body(hand), padding=9, end=True))
    await is_taken(hand, client, stream)


async def test_a_ping_in_the_middle_of_a_layer_is_answered(hand: Hand, client: Http2Client) -> None:
    stream, whole = await client.begin(), body(hand)
    await client.say(data_frame(stream, whole[:1000]))
    client.h2.ping(b"how's it")
    await client.flush()
    while not any(isinstance(event, PingAckReceived) for event in client.events):
        await client.hear()
    await client.say(data_frame(stream, whole[1000:], end=True))
    await is_taken(hand, client, stream)


async def test_windows_open_again_as_bytes_come(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC's own client sends no more than the windows let it."""
    monkeypatch.setattr(http2, "TOP_UP_BYTES", 1000)
    monkeypatch.setitem(http2.SETTINGS, SettingCodes.INITIAL_WINDOW_SIZE, 3000)
    monkeypatch.setattr(http2, "WINDOW_BYTES", 70_000)
    assert len(body(hand)) * 8 > 70_000
    for _ in range(8):
        assert await hand.push("grpc", WHOLE) == kv_pb2.OK
    assert (await hand.commit()).outcome == kv_pb2.OK


async def test_windows_open_by_no_more_than_has_come(
    hand: Hand, client: Http2Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More would be an error of the protocol: they are as wide as they can be from the start."""
    monkeypatch.setattr(http2, "TOP_UP_BYTES", len(body(hand)) * 3 // 2)
    for _ in range(8):
        stream = await client.begin()
        client.h2.send_data(stream, body(hand))
        await client.flush()
        client.h2.end_stream(stream)
        await client.flush()
        assert await client.answer(stream, ended=True) == (kv_pb2.OK, "0")
    opened = [event for event in client.events if isinstance(event, WindowUpdated)]
    assert {bool(event.stream_id) for event in opened} == {True, False}


async def test_one_request_at_a_time_is_announced(client: Http2Client) -> None:
    settings = client.h2.remote_settings
    assert settings.max_concurrent_streams == 1
    assert settings.max_frame_size == http2.DATA_BYTES
    assert settings.initial_window_size == http2.WINDOW_BYTES


async def test_who_makes_two_requests_at_once_is_hung_up_on(
    hand: Hand, client: Http2Client
) -> None:
    await client.begin()
    headers = client.h2.encoder.encode(list(REQUEST.items()))
    await client.say(HeadersFrame(3, headers, flags=["END_HEADERS"]).serialize())
    await is_refused(hand, client)


async def test_one_request_follows_another(hand: Hand, client: Http2Client) -> None:
    for number in range(3):
        stream = await client.begin()
        await client.say(data_frame(stream, body(hand), end=True))
        assert await client.answer(stream) == (kv_pb2.OK, "0"), number


async def test_a_connection_whose_push_was_refused_serves_the_next(
    hand: Hand, client: Http2Client
) -> None:
    """What was on its way of the refused one is read, and is nowhere."""
    refused = await client.begin()
    stale = message(hand.chunk(Piece(0, epoch_off_by=1)))
    await client.say(data_frame(refused, stale))
    assert await client.answer(refused) == (kv_pb2.STALE_EPOCH, "0")
    while not any(isinstance(event, StreamReset) for event in client.events):
        await client.hear()
    (reset,) = (event for event in client.events if isinstance(event, StreamReset))
    assert reset.error_code == ErrorCodes.NO_ERROR
    await client.say(data_frame(refused, stale * 50, end=True))
    stream = await client.begin()
    await client.say(data_frame(stream, body(hand), end=True))
    await is_taken(hand, client, stream)
    assert hand.node.value(LATE) == 1


async def test_who_gives_a_push_up_in_the_middle_leaves_nothing_lent(
    hand: Hand, client: Http2Client
) -> None:
    stream = await client.begin()
    await client.say(data_frame(stream, body(hand)[:1000]))
    await client.say(RstStreamFrame(stream, ErrorCodes.CANCEL).serialize())
    await is_closed(client)
    assert await hand.push("grpc", WHOLE) == kv_pb2.OK
    assert (await hand.commit()).outcome == kv_pb2.OK
    assert hand.node.value(REFUSED, transport="grpc") == 0


@pytest.mark.parametrize(
    "request_of", [{"path": "/splitwise.v1.KvPeer/Hello"}, {"content_type": "text/html"}]
)
async def test_what_is_no_push_is_answered_so(
    hand: Hand, client: Http2Client, request_of: dict[str, str]
) -> None:
    stream = await client.begin(**request_of)
    await client.say(data_frame(stream, body(hand), end=True))
    assert await client.answer(stream) == (None, "12")  # UNIMPLEMENTED


async def test_grpc_tells_its_caller_which_method_is_served(hand: Hand) -> None:
    async with grpc.aio.insecure_channel(hand.node.bytes_address) as channel:
        call: Any = channel.unary_unary("/splitwise.v1.KvPeer/Hello")
        with pytest.raises(grpc.aio.AioRpcError, match=PATH) as refused:
            await call(b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_compressed_chunk_is_invalid(hand: Hand) -> None:
    channel = grpc.aio.insecure_channel(hand.node.bytes_address, compression=grpc.Compression.Gzip)
    async with channel:
        call: Any = channel.stream_unary(PATH)

        async def chunks() -> AsyncIterator[bytes]:
            yield hand.chunk(WHOLE[0])[: HEADER.size] + bytes(1000)

        assert ACK.unpack(await call(chunks())) == (kv_pb2.INVALID,)


@pytest.mark.parametrize("cut", [1, PREFIX.size + 3, PREFIX.size + HEADER.size, 200])
async def test_a_push_that_ends_within_a_chunk_is_invalid(
    hand: Hand, client: Http2Client, cut: int
) -> None:
    stream = await client.begin()
    await client.say(data_frame(stream, body(hand)[:cut], end=True))
    assert await client.answer(stream) == (kv_pb2.INVALID, "0")


async def test_a_push_without_chunks_is_taken(client: Http2Client) -> None:
    stream = await client.begin()
    await client.say(data_frame(stream, b"", end=True))
    assert await client.answer(stream) == (kv_pb2.OK, "0")


BAD: dict[str, Callable[[int], bytes]] = {
    "noise": lambda stream: b"GET / HTTP/1.1\r\n\r\n" * 10,
    "a frame of data that is too long": lambda stream: b"\xff\xff\xff\x00\x00" + bytes(4),
    "a long frame of another kind": lambda stream: b"\x01\x00\x00\x04\x00" + bytes(4),
    "more padding than there is frame": lambda stream: b"\x00\x00\x02\x00\x08\x00\x00\x00\x01\x09x",
    "headers that never end": lambda stream: (
        HeadersFrame(stream + 2, b"\x82").serialize()
        + ContinuationFrame(stream + 2, b"\x82" * 1000).serialize() * 200
    ),
    "headers that do not decode": lambda stream: HeadersFrame(
        stream + 2, b"\xff" * 40, flags=["END_HEADERS"]
    ).serialize(),
    "headers in no alphabet": lambda stream: HeadersFrame(
        stream + 2, b"\x40\x02\xff\xfe\x01\xff", flags=["END_HEADERS"]
    ).serialize(),
    "headers that unfold to megabytes": lambda stream: HeadersFrame(
        stream + 2, b"\x40\x01x\x7f\x81\x1f" + b"y" * 4000 + b"\xbe" * 4000, flags=["END_HEADERS"]
    ).serialize(),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_is_not_http2_is_refused_and_counted(
    hand: Hand, client: Http2Client, what: str
) -> None:
    stream = await client.begin()
    await client.say(BAD[what](stream))
    await is_refused(hand, client)
    ended = [event for event in client.events if isinstance(event, ConnectionTerminated)]
    assert all(event.error_code != ErrorCodes.NO_ERROR for event in ended)


async def test_who_says_something_else_from_the_start_is_refused_and_counted(hand: Hand) -> None:
    host, _, port = hand.node.bytes_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    with suppress(ConnectionError):
        while await reader.read(1000):
            pass
    writer.close()
    assert hand.node.value(REFUSED, transport="grpc") == 1


async def test_who_says_nothing_is_hung_up_on(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "HANDSHAKE_S", 0.2)
    host, _, port = hand.node.bytes_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    while await reader.read(1000):
        pass
    writer.close()
    assert hand.node.value(REFUSED, transport="grpc") == 1


async def test_others_have_their_turn_while_somebody_sends_crumbs(
    hand: Hand, client: Http2Client
) -> None:
    """A frame for each byte, all of them here at once."""
    stream, whole = await client.begin(), body(hand)
    await client.say(b"".join(data_frame(stream, bytes([byte])) for byte in whole))
    turns = 0
    while hand.node.value(BYTES, direction="received") < sum(map(len, hand.kv)):
        await asyncio.sleep(0)
        turns += 1
    assert turns >= len(whole) // http2.FRAMES_AT_ONCE
    await client.say(data_frame(stream, b"", end=True))
    await is_taken(hand, client, stream)
