"""Where the model's KV is, and how it comes to and from the host pool that peers write to."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from queue import SimpleQueue
from threading import Thread
from typing import Final, Protocol

import torch
from torch import Tensor

from splitwise_core.errors import UserError
from splitwise_worker.kernels import copy_blocks
from splitwise_worker.kv import scattered_copy
from splitwise_worker.kv.host_pool import HostPool

PROMPTS_OF_A_STEP: Final = 64
"""Whose block ids stay on the device from one layer to the next."""


class KvStore(Protocol):
    """The KV tensor of the model beside the host pool; both have the same block ids."""

    tensor: Tensor

    def publish(self, layer: int, blocks: Sequence[int], done: Callable[[], None]) -> None:
        """Makes a layer of these blocks readable in the host pool, then calls `done` once."""

    def publish_all(self, blocks: Sequence[int], done: Callable[[], None]) -> None:
        """Makes all layers of these blocks readable in the host pool, then calls `done` once."""

    def settle(self) -> None:
        """Returns when nothing that was published is still on its way to the host pool."""

    def fetch(self, blocks: Sequence[int]) -> None:
        """Makes what a peer wrote to the host pool readable for the model."""


class HostStore:
    """On a CPU the model computes in the host pool itself: nothing is ever copied."""

    def __init__(self, pool: HostPool) -> None:
        self.tensor = pool.tensor

    def publish(self, layer: int, blocks: Sequence[int], done: Callable[[], None]) -> None:
        """The layer is there already."""
        done()

    def publish_all(self, blocks: Sequence[int], done: Callable[[], None]) -> None:
        """The layers are there already."""
        done()

    def settle(self) -> None:
        """Nothing is ever on its way."""

    def fetch(self, blocks: Sequence[int]) -> None:
        """The blocks are there already."""


class DeviceStore:
    """On a GPU the host pool mirrors the device pool block for block, at the same offsets.

    Copies run on a stream of their own, so the compute stream never waits for a push; a thread
    waits for each copy's event and reports it. Whole blocks go by DMA; the layer of a prompt that
    is computed, by a kernel, which is one command whatever the number of its blocks.
    """

    def __init__(self, pool: HostPool, device: torch.device) -> None:
        scattered_copy.check_installed()
        self._device = device
        self.tensor = _device_pool(pool.tensor, device)
        self._block_bytes = pool.geometry.block_bytes
        self._stream = torch.cuda.Stream(device)
        self._copied: SimpleQueue[tuple[torch.cuda.Event, Callable[[], None]]] = SimpleQueue()
        self._ids = lru_cache(PROMPTS_OF_A_STEP)(self._upload)
        _pin(pool.tensor)
        self._host = pool.tensor
        Thread(target=self._report, name="kv-publish", daemon=True).start()

    def publish(self, layer: int, blocks: Sequence[int], done: Callable[[], None]) -> None:
        """Copies the layer to the host behind the compute that wrote it. `done` is a thread's."""
        ids = self._ids(tuple(blocks))
        with self._behind_compute():
            copy_blocks(self._host, self.tensor, ids, layer)
        self._tell(done)

    def publish_all(self, blocks: Sequence[int], done: Callable[[], None]) -> None:
        """The same for all layers: a block is contiguous, and its copy one DMA transfer."""
        with self._behind_compute():
            self._copy(self._host, self.tensor, blocks)
        self._tell(done)

    @contextmanager
    def _behind_compute(self) -> Iterator[None]:
        """On the copy stream, after all that the compute stream runs now."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            yield

    def _upload(self, blocks: tuple[int, ...]) -> Tensor:
        ids = torch.tensor(blocks, dtype=torch.int32, device=self._device)
        ids.record_stream(self._stream)  # its memory is nobody else's before the copies have run
        return ids

    def _tell(self, done: Callable[[], None]) -> None:
        copied = torch.cuda.Event(blocking=True)  # the thread sleeps: the engine needs the core
        copied.record(self._stream)
        self._copied.put((copied, done))

    def settle(self) -> None:
        """Waits for the copy stream: milliseconds at most, behind a step that has just run."""
        self._stream.synchronize()

    def fetch(self, blocks: Sequence[int]) -> None:
        """Copies the blocks to the device before anything that the compute stream runs next.

        And after all that it runs now: the blocks may have been another sequence's a moment ago.
        """
        with self._behind_compute():
            self._copy(self.tensor, self._host, blocks)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def _copy(self, target: Tensor, source: Tensor, blocks: Sequence[int]) -> None:
        to, out_of = target.data_ptr(), source.data_ptr()
        offsets = [block * self._block_bytes for block in blocks]
        targets, sources = ([start + offset for offset in offsets] for start in (to, out_of))
        scattered_copy.copy(targets, sources, self._block_bytes, self._stream)

    def _report(self) -> None:
        while True:
            copied, done = self._copied.get()
            copied.synchronize()
            done()


def _device_pool(host: Tensor, device: torch.device) -> Tensor:
    """Zeros on the device in the shape of `host`. Raises UserError when they do not fit."""
    try:
        return torch.zeros_like(host, device=device)
    except torch.OutOfMemoryError as error:
        free, _ = torch.cuda.mem_get_info(device)
        raise UserError(
            "out-of-memory",
            where="kvMemory",
            wrong=f"the KV pool takes {host.nbytes} bytes and {free} are free on {device}",
            fix="lower kvMemory of the pool, or use a GPU with more memory",
        ) from error


def _pin(host: Tensor) -> None:
    """Registers the pool with CUDA: only pinned memory is copied at link speed, and in the back."""
    result = torch.cuda.cudart().cudaHostRegister(host.data_ptr(), host.nbytes, 0)
    if int(result) != 0:
        raise UserError(
            "out-of-memory",
            where="kvMemory",
            wrong=f"{host.nbytes} bytes of host memory cannot be pinned: CUDA error {int(result)}",
            fix="lower kvMemory of the pool, or raise the memory limit of its pods",
        )
