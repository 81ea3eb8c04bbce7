"""Device time of a call, and the two ceilings that the device itself sets."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import torch

REPEATS: Final = 20
REPLAY_S: Final = 0.002
"""A replay runs at least this long: the gap between replays is then below a hundredth of it."""

MOST_ROUNDS: Final = 200
COPY_BYTES: Final = 2 << 30
MATMUL_WIDTH: Final = 8192

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What this device does in a plain copy and in a matrix product, measured by itself."""

    copy_gb_s: float  # bytes read plus bytes written
    matmul_tflop_s: float  # bf16
    to_host_gb_s: float  # one large copy into pinned memory


def event_seconds(call: Call, repeats: int = REPEATS) -> float:
    """Median device seconds of one `call`, launched from the host each time."""
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        start, end = _events()
        start.record()
        call()
        end.record()
        times.append((start, end))
    torch.cuda.synchronize()
    milliseconds: float = median(start.elapsed_time(end) for start, end in times)
    return milliseconds / 1e3


def graph_seconds(calls: Sequence[Call], repeats: int = REPEATS) -> float:
    """Median device seconds of one call: a CUDA graph makes all `calls` in turn, without gaps.

    Each call has inputs of its own, so that none finds them in the cache.
    """
    passed = event_seconds(lambda: [call() for call in calls], 3)  # also compiles and warms up
    rounds = min(MOST_ROUNDS, max(1, math.ceil(REPLAY_S / passed)))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(rounds):
            for call in calls:
                call()
    return event_seconds(graph.replay, repeats) / (rounds * len(calls))


def input_sets(set_bytes: int) -> int:
    """How many sets of inputs to go round so that a set has left the cache when it comes again."""
    cache = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    return max(2, 1 + math.ceil(3 * cache / set_bytes))


def measure_ceilings() -> Ceilings:
    """Measures this device; takes a few seconds."""
    source = torch.empty(COPY_BYTES // 2, dtype=torch.bfloat16, device="cuda").normal_()
    target = torch.empty_like(source)
    copy_s = event_seconds(lambda: target.copy_(source))
    host = torch.empty(COPY_BYTES // 8, dtype=torch.bfloat16, pin_memory=True)
    to_host_s = event_seconds(lambda: host.copy_(source[: len(host)], non_blocking=True), 5)
    a, b = source[: 2 * MATMUL_WIDTH**2].view(2, MATMUL_WIDTH, MATMUL_WIDTH)
    product = torch.empty_like(a)
    matmul_s = event_seconds(lambda: torch.mm(a, b, out=product))
    return Ceilings(
        copy_gb_s=2 * COPY_BYTES / copy_s / 1e9,
        matmul_tflop_s=2 * MATMUL_WIDTH**3 / matmul_s / 1e12,
        to_host_gb_s=host.nbytes / to_host_s / 1e9,
    )


def _events() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
