"""How fast KV blocks reach the pinned host pool and come back, moved as the worker moves them."""

import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from statistics import median
from threading import Semaphore
from typing import Final

import torch

from bench.gpu.plan import PlannedFigure
from bench.gpu.timing import Ceilings
from splitwise_core.kv import KvGeometry
from splitwise_worker.kv.host_pool import HostPool
from splitwise_worker.kv.store import DeviceStore
from splitwise_worker.loaded import BLOCK_TOKENS

GEOMETRY: Final = KvGeometry("bench", "bfloat16", 32, 8, 128, BLOCK_TOKENS)
"""Of Llama 3 8B."""

TOKENS: Final = 4096
BLOCKS: Final = list(range(0, 2 * GEOMETRY.blocks_for(TOKENS), 2))
REPEATS: Final = 5


def copy_figures(ceilings: Ceilings) -> Iterator[PlannedFigure]:
    """A prompt of 4,096 tokens of Llama 3 8B, block by block."""
    name = f"{TOKENS} tokens of 8B"
    amount = GEOMETRY.sequence_bytes(TOKENS) / 1e9
    to_host = ceilings.to_host_gb_s
    yield PlannedFigure(f"publish {name}", "GB/s", amount, partial(_measure, _publish), to_host)
    yield PlannedFigure(f"fetch {name}", "GB/s", amount, partial(_measure, _fetch), to_host)
    host_time = partial(_measure, _enqueue_layer)
    yield PlannedFigure("publish: host time of a layer", "us", 1, host_time)


@cache
def _store() -> DeviceStore:
    """One for all figures: its thread keeps it, and what it pinned, until the process ends."""
    store = DeviceStore(HostPool(GEOMETRY, 2 * len(BLOCKS)), torch.device("cuda"))
    store.tensor.normal_()
    torch.cuda.synchronize()
    return store


def _measure(once: Callable[[DeviceStore], float]) -> float:
    """Median host seconds; the first run is left out."""
    return median([once(_store()) for _ in range(1 + REPEATS)][1:])


def _publish(store: DeviceStore) -> float:
    copied = Semaphore(0)
    started = time.perf_counter()
    for layer in range(GEOMETRY.num_layers):
        store.publish(layer, BLOCKS, copied.release)
    for _ in range(GEOMETRY.num_layers):
        assert copied.acquire(timeout=60), "a published layer was not reported"
    return time.perf_counter() - started


def _fetch(store: DeviceStore) -> float:
    started = time.perf_counter()
    store.fetch(BLOCKS)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def _enqueue_layer(store: DeviceStore) -> float:
    """What the engine's own thread spends for a layer."""
    copied = Semaphore(0)
    started = time.perf_counter()
    store.publish(0, BLOCKS, copied.release)
    spent = time.perf_counter() - started
    assert copied.acquire(timeout=60), "a published layer was not reported"
    return spent
