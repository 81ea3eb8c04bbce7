"""The worker's KV pool as its sidecar sees it: the same memory, mapped, and never trusted."""

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from mmap import MAP_SHARED, PROT_READ, PROT_WRITE, mmap

from splitwise_core.kv import DTYPE_BYTES, KvGeometry
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.layout import SpanLayout, address_of
from splitwise_sidecar.populate import populate
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.sealed import is_sealed, new_sealed, only_to_read


class Pool:
    """The mapping of a worker's pool; `fd` reads the same memory, and cannot write it."""

    def __init__(self, geometry: KvGeometry, num_blocks: int, mapped: mmap, fd: int) -> None:
        assert len(mapped) == num_blocks * geometry.block_bytes
        self.geometry = geometry
        self.num_blocks = num_blocks
        self.fd = fd
        self._mapped = mapped
        self._closing: list[Callable[[], object]] = []
        self.memory = memoryview(mapped)
        self.address = address_of(self.memory)
        self._moves = 0

    def enter(self) -> None:
        """A move begins that reads or writes this memory by its address."""
        self._moves += 1

    def leave(self) -> None:
        """That move has ended."""
        self._moves -= 1

    def before_close(self, act: Callable[[], object]) -> None:
        """`act()` lets go of an address of this memory, before it is unmapped."""
        self._closing.append(act)

    def close(self) -> None:
        """Unmaps, when no move is under way: what would fault then is stopped here."""
        assert self._moves == 0, "memory is unmapped in the middle of a move"
        for act in self._closing:
            act()
        self.memory.release()
        self._mapped.close()
        os.close(self.fd)

    def span(self, blocks: Sequence[int], num_tokens: int) -> "Span":
        """Where a sequence lies. Raises Refused(INVALID) for blocks that cannot be its own."""
        if num_tokens < 1 or len(blocks) != self.geometry.blocks_for(num_tokens):
            raise Refused(kv_pb2.INVALID, f"{len(blocks)} blocks for {num_tokens} tokens")
        if max(blocks) >= self.num_blocks or len(set(blocks)) != len(blocks):
            raise Refused(kv_pb2.INVALID, "a block is out of the pool or named twice")
        return Span(self, tuple(blocks), num_tokens)

    def rest(self, blocks: Sequence[int], num_tokens: int, held_tokens: int) -> "Span":
        """Where a sequence lies behind its first `held_tokens`. Raises Refused(INVALID)."""
        if held_tokens % self.geometry.block_tokens:
            raise Refused(kv_pb2.INVALID, f"{held_tokens} tokens are no whole blocks")
        return self.span(blocks, num_tokens - held_tokens)


@dataclass(frozen=True)
class Span:
    """One sequence's KV in the pool. Each layer reads as one string of `layer_bytes` bytes."""

    pool: Pool
    blocks: tuple[int, ...]
    num_tokens: int

    def behind(self, num_tokens: int) -> "Span":
        """What follows the first `num_tokens` tokens. Raises Refused(INVALID) where nothing can."""
        block_tokens = self.pool.geometry.block_tokens
        if num_tokens % block_tokens or num_tokens >= self.num_tokens:
            detail = f"{num_tokens} of {self.num_tokens} tokens are no whole blocks, or all of them"
            raise Refused(kv_pb2.INVALID, detail)
        first = num_tokens // block_tokens
        return Span(self.pool, self.blocks[first:], self.num_tokens - num_tokens)

    @property
    def layer_bytes(self) -> int:
        """Bytes of one layer of the whole sequence."""
        return 2 * self.num_tokens * self.pool.geometry.token_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes of all layers."""
        return self.pool.geometry.sequence_bytes(self.num_tokens)

    @cached_property
    def layout(self) -> SpanLayout:
        """The same for compiled code. It holds no memory: the pool has to stay mapped."""
        geometry = self.pool.geometry
        return SpanLayout(
            pool=self.pool.address,
            blocks=(ctypes.c_uint32 * len(self.blocks))(*self.blocks),
            block_bytes=geometry.block_bytes,
            layer_bytes=geometry.layer_bytes,
            token_bytes=geometry.token_bytes,
            block_tokens=geometry.block_tokens,
            num_tokens=self.num_tokens,
        )

    def pieces(self, layer: int, offset: int, length: int) -> Iterator[memoryview]:
        """The pool's memory behind bytes [offset, offset + length) of a layer, in order.

        Starts at the block that holds `offset`, so that cutting a long layer stays linear.
        """
        assert 0 <= offset <= self.layer_bytes - length
        geometry = self.pool.geometry
        skip, offset = divmod(offset, geometry.layer_bytes)
        tokens = self.num_tokens - skip * geometry.block_tokens
        if length == 0:
            return
        for run in geometry.layer_runs(layer, self.blocks[skip:], tokens):
            if offset >= run.length:
                offset -= run.length
                continue
            taken = min(run.length - offset, length)
            start = run.offset + offset
            yield self.pool.memory[start : start + taken]
            offset, length = 0, length - taken
            if length == 0:
                return


def geometry_of(message: kv_pb2.Geometry) -> KvGeometry:
    """The geometry a worker named. Raises Refused(INVALID) when there is no such shape."""
    counts = (message.num_layers, message.kv_heads, message.head_dim, message.block_tokens)
    if message.dtype not in DTYPE_BYTES or min(counts) < 1:
        raise Refused(kv_pb2.INVALID, f"no such geometry: dtype {message.dtype!r}, {counts}")
    return KvGeometry(message.model, message.dtype, *counts)


def map_pool(fd: int, geometry: KvGeometry, num_blocks: int, *, writable: bool = True) -> Pool:
    """Maps a worker's memfd; `fd` stays the caller's. Raises Refused(INVALID)."""
    size = num_blocks * geometry.block_bytes
    try:
        keeps_its_size, actual = is_sealed(fd), os.fstat(fd).st_size
    except OSError as error:
        raise Refused(kv_pb2.INVALID, f"the pool is no sealed memory: {error.strerror}") from error
    if not keeps_its_size:
        raise Refused(kv_pb2.INVALID, "the pool is not sealed against growing and shrinking")
    if actual != size or size == 0:
        raise Refused(kv_pb2.INVALID, f"the pool has {actual} bytes, its geometry says {size}")
    try:
        to_read = only_to_read(fd)
    except OSError as error:
        raise Refused(kv_pb2.NO_CAPACITY, f"no descriptor for the pool: {error}") from error
    try:
        mapped = mmap(fd, size, MAP_SHARED, PROT_READ | (PROT_WRITE if writable else 0))
    except OSError as error:
        os.close(to_read)
        raise Refused(kv_pb2.NO_CAPACITY, f"the pool cannot be mapped: {error}") from error
    populate(mapped, fd, writable=writable)
    return Pool(geometry, num_blocks, mapped, to_read)


def new_pool(geometry: KvGeometry, content: bytes) -> Pool:
    """Blocks of memory of this process's own, with this content. Raises Refused."""
    try:
        fd = new_sealed("splitwise-kv", len(content))
    except OSError as error:
        raise Refused(kv_pb2.NO_CAPACITY, f"no memory to probe with: {error}") from error
    try:
        pool = map_pool(fd, geometry, len(content) // geometry.block_bytes)
    finally:
        os.close(fd)
    pool.memory[:] = content
    return pool
