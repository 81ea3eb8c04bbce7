"""Moves, compiled and plain: the same bytes, the same digests, however a layer is cut."""

import asyncio
import ctypes
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.kv import KvGeometry
from splitwise_sidecar.arrivals import Arrivals
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.moves import Move
from splitwise_sidecar.moves.native import NativeMove
from splitwise_sidecar.moves.plain import PlainMove
from splitwise_sidecar.pool import Span, new_pool

LAYERS = 2

kinds = pytest.mark.parametrize("kind", [NativeMove, PlainMove], ids=["compiled", "plain"])
geometries = st.builds(
    KvGeometry,
    st.just("any"),
    st.sampled_from(["float32", "bfloat16"]),
    st.just(LAYERS),
    st.integers(1, 3),
    st.sampled_from([1, 4, 12, 128]),
    st.integers(1, 17),
)
tokens = st.integers(1, 60)
cuts = st.lists(st.integers(1, 3000), max_size=8)
seeds = st.randoms(use_true_random=False)


@contextmanager
def sequence(geometry: KvGeometry, num_tokens: int, draw: random.Random) -> Iterator[Span]:
    """A sequence of random KV in blocks that lie in no order."""
    blocks = list(range(geometry.blocks_for(num_tokens)))
    draw.shuffle(blocks)
    pool = new_pool(geometry, draw.randbytes(len(blocks) * geometry.block_bytes))
    yield pool.span(blocks, num_tokens)
    pool.close()


def content(span: Span, layer: int) -> bytes:
    """The layer as one string."""
    return b"".join(span.pieces(layer, 0, span.layer_bytes))


def ends(span: Span, lengths: list[int]) -> Iterator[int]:
    """Where parts of these lengths end; the last is the layer's end."""
    at = 0
    for length in lengths:
        at = min(at + length, span.layer_bytes)
        yield at
    yield span.layer_bytes


@kinds
@given(geometry=geometries, num_tokens=tokens, parts=cuts, draw=seeds)
def test_reading_gives_the_digest_of_the_layer(
    kind: type[Move], geometry: KvGeometry, num_tokens: int, parts: list[int], draw: random.Random
) -> None:
    with sequence(geometry, num_tokens, draw) as span:
        move = kind(span, 1)  # type: ignore[call-arg]
        for move.end in ends(span, parts):
            move.read()
        assert move.at == span.layer_bytes
        assert move.digest() == xxhash.xxh3_64_intdigest(content(span, 1))


@kinds
@given(geometry=geometries, num_tokens=tokens, parts=cuts, draw=seeds)
def test_a_copy_is_what_was_copied(
    kind: type[Move], geometry: KvGeometry, num_tokens: int, parts: list[int], draw: random.Random
) -> None:
    with (
        sequence(geometry, num_tokens, draw) as source,
        sequence(geometry, num_tokens, draw) as target,
    ):
        other = content(target, 0)
        move = kind(target, 1)  # type: ignore[call-arg]
        for move.end in ends(target, parts):
            move.copy_from(source)
        assert content(target, 1) == content(source, 1)
        assert move.digest() == xxhash.xxh3_64_intdigest(content(source, 1))
        assert content(target, 0) == other, "the other layer is as it was"


@kinds
@given(geometry=geometries, num_tokens=tokens, parts=cuts, draw=seeds)
def test_what_is_gathered_and_scattered_is_the_same(
    kind: type[Move], geometry: KvGeometry, num_tokens: int, parts: list[int], draw: random.Random
) -> None:
    with (
        sequence(geometry, num_tokens, draw) as source,
        sequence(geometry, num_tokens, draw) as target,
    ):
        out, into = kind(source, 1), kind(target, 1)  # type: ignore[call-arg]
        for end in ends(source, parts):
            out.end = into.end = end
            into.scatter(out.gather(1 << 30, b"head"), 4)
        assert content(target, 1) == content(source, 1)
        assert out.digest() == into.digest() == xxhash.xxh3_64_intdigest(content(source, 1))


@kinds
@given(geometry=geometries, num_tokens=tokens, parts=cuts, draw=seeds)
def test_what_is_sent_is_received(
    kind: type[Move], geometry: KvGeometry, num_tokens: int, parts: list[int], draw: random.Random
) -> None:
    here, there = socket.socketpair()
    with (
        here,
        there,
        sequence(geometry, num_tokens, draw) as source,
        sequence(geometry, num_tokens, draw) as target,
    ):
        out, into = kind(source, 1), kind(target, 1)  # type: ignore[call-arg]
        out.end = source.layer_bytes
        for into.end in ends(target, parts):
            while into.at < into.end:
                out.send(here, 0)  # as much as fits
                into.receive(there, 0)
        assert content(target, 1) == content(source, 1)
        assert out.digest() == into.digest() == xxhash.xxh3_64_intdigest(content(source, 1))


LONG = KvGeometry("long", "bfloat16", LAYERS, 8, 128, 16)  # 64 KiB a block and layer
LEAD, CHUNK = 4 << 20, 256 << 10  # of `move.c`
PATIENT_MS = 60_000


async def until_at(move: NativeMove, at: int) -> None:
    """Returns when another thread has moved so many bytes."""
    async with asyncio.timeout(20):
        while move.at < at:
            await asyncio.sleep(0.001)


@kinds
def test_a_copy_counts_what_it_has_copied(kind: type[Move]) -> None:
    draw = random.Random(5)
    counter = ctypes.c_uint64(7)
    with sequence(LONG, 64, draw) as source, sequence(LONG, 64, draw) as target:
        kind(target, 1).copy_from(source, ctypes.addressof(counter))  # type: ignore[call-arg]
        assert counter.value == 7 + source.layer_bytes


async def test_who_reads_stays_a_little_ahead_of_who_copies() -> None:
    counter, step = ctypes.c_uint64(1000), 1 << 20
    with sequence(LONG, 4096, random.Random(6)) as span:
        move = NativeMove(span, 1)
        reading = asyncio.create_task(
            asyncio.to_thread(move.read, ctypes.addressof(counter), 1000, PATIENT_MS)
        )
        while not reading.done():
            copied = counter.value - 1000
            await until_at(move, min(copied + LEAD + 1, move.end))
            assert move.at <= copied + LEAD + CHUNK
            counter.value += step
        assert await reading
        assert move.digest() == xxhash.xxh3_64_intdigest(content(span, 1))


def test_who_reads_goes_on_alone_when_nobody_copies() -> None:
    counter = ctypes.c_uint64()
    with sequence(LONG, 4096, random.Random(7)) as span:
        move = NativeMove(span, 1)
        assert not move.read(ctypes.addressof(counter), 0, 2)
        assert move.digest() == xxhash.xxh3_64_intdigest(content(span, 1))


async def test_who_waits_for_a_copy_is_stopped_at_once() -> None:
    counter = ctypes.c_uint64()
    with sequence(LONG, 4096, random.Random(8)) as span:
        move = NativeMove(span, 1)
        reading = asyncio.create_task(
            asyncio.to_thread(move.read, ctypes.addressof(counter), 0, PATIENT_MS)
        )
        await until_at(move, LEAD + 1)
        move.stop()
        async with asyncio.timeout(5):
            await reading
        assert move.at < move.end


@kinds
def test_a_socket_that_takes_little_is_sent_to_in_turns(kind: type[Move]) -> None:
    draw = random.Random(3)
    here, there = socket.socketpair()
    with here, there, sequence(LONG, 400, draw) as source, sequence(LONG, 400, draw) as target:
        out, into = kind(source, 0), kind(target, 0)  # type: ignore[call-arg]
        out.end = into.end = source.layer_bytes
        out.send(here, 0)
        assert 0 < out.at < out.end, "a socket does not hold a layer"
        while into.at < into.end:
            into.receive(there, 0)
            out.send(here, 0)
        assert out.digest() == into.digest() == xxhash.xxh3_64_intdigest(content(source, 0))


@kinds
def test_the_end_of_a_stream_is_told(kind: type[Move]) -> None:
    here, there = socket.socketpair()
    with there, sequence(LONG, 16, random.Random(1)) as span:
        here.close()
        move = kind(span, 0)  # type: ignore[call-arg]
        move.end = span.layer_bytes
        with pytest.raises(EOFError):
            move.receive(there, 0)
        with pytest.raises(OSError, match="Broken pipe"):
            move.send(there, 0)


@kinds
def test_a_move_that_was_stopped_moves_nothing(kind: type[Move]) -> None:
    with sequence(LONG, 16, random.Random(1)) as span:
        move = kind(span, 0)  # type: ignore[call-arg]
        move.end = span.layer_bytes
        move.stop()
        move.read()
        assert move.at == 0


@kinds
def test_a_layer_can_be_begun_anew(kind: type[Move]) -> None:
    with sequence(LONG, 16, random.Random(1)) as span:
        move = kind(span, 0)  # type: ignore[call-arg]
        move.end = 1000
        move.read()
        move.restart()
        move.end = span.layer_bytes
        move.read()
        assert move.digest() == xxhash.xxh3_64_intdigest(content(span, 0))


# ---- threads ----


async def test_a_move_whose_asker_is_cancelled_has_let_go_of_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """INV-6."""
    monkeypatch.setattr("splitwise_sidecar.movers.AT_ONCE_BYTES", 0)
    movers = Movers()
    here, there = socket.socketpair()
    with here, there, sequence(LONG, 400, random.Random(1)) as span:
        move = NativeMove(span, 0)
        move.end = span.layer_bytes
        receive = partial(move.receive, there, 100)
        asking = asyncio.create_task(movers.run([move], receive, span.pool))
        here.send(b"in time")
        while move.at == 0:
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        here.send(b"late")
        assert there.recv(10, socket.MSG_DONTWAIT) == b"late"
    movers.close()


async def test_memory_is_not_unmapped_in_the_middle_of_a_move() -> None:
    with sequence(LONG, 16, random.Random(1)) as span:
        span.pool.enter()
        with pytest.raises(AssertionError, match="middle of a move"):
            span.pool.close()
        span.pool.leave()


# ---- what has arrived ----


@given(geometry=geometries, num_tokens=tokens, parts=cuts, draw=seeds)
def test_only_whole_layers_as_they_were_sent_are_accepted(
    geometry: KvGeometry, num_tokens: int, parts: list[int], draw: random.Random
) -> None:
    with sequence(geometry, num_tokens, draw) as span:
        arrivals = Arrivals(span)
        sent = {n: xxhash.xxh3_64_intdigest(content(span, n)) for n in range(LAYERS)}
        assert arrivals.damaged(sent) == [0, 1]
        for layer in range(LAYERS):
            offset = 0
            for end in ends(span, parts):
                if end == offset:
                    continue
                move = arrivals.lend(layer, offset, end - offset)
                assert move is not None
                move.read()
                arrivals.give_back(layer)
                offset = end
        assert arrivals.damaged(sent) == []
        assert arrivals.damaged(sent | {1: sent[1] ^ 1}) == [1]


@given(layer=st.integers(0, 3), offset=st.integers(0, 200), length=st.integers(0, 200))
def test_only_what_comes_next_is_lent(layer: int, offset: int, length: int) -> None:
    small = KvGeometry("tiny", "float16", LAYERS, 1, 8, 4)
    with sequence(small, 3, random.Random(1)) as span:
        arrivals = Arrivals(span)
        first = arrivals.lend(0, 0, 10)
        assert first is not None
        assert arrivals.lend(0, 0, 10) is None, "a layer has one writer"
        first.read()
        arrivals.give_back(0)
        is_next = layer < LAYERS and length > 0 and offset in (0, 10 if layer == 0 else 0)
        fits = offset + length <= span.layer_bytes
        assert (arrivals.lend(layer, offset, length) is not None) == (is_next and fits)
