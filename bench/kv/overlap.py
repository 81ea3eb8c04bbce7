"""How much of a transfer a prompt hides when its layers are pushed while it is computed."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.kv.pair import Pair, pair
from splitwise_core.kv import KvGeometry

LENGTHS: Final = (128, 512, 2048, 8192)
REPEATS: Final = 7
EASE: Final = 1.25
"""On a loopback the processors are the link: with a prompt as long as its transfer the bytes take
all of them, and what it costs to announce each layer comes on top. Two hosts have twice as many."""


@dataclass(frozen=True, slots=True)
class Point:
    """One prompt length: seconds of the prompt, and what is seen of the transfer, either way.

    `eased_s`: what is seen by layer of a prompt that takes EASE times as long.
    """

    model: str
    transport: str
    tokens: int
    mib: int
    prompt_s: float
    at_end_s: float
    by_layer_s: float
    eased_s: float

    @property
    def hidden_eased(self) -> float:
        """The part that is not seen when the prompt takes EASE times as long."""
        return 1 - self.eased_s / self.at_end_s

    @property
    def hidden(self) -> float:
        """The part of the transfer that is not seen."""
        return 1 - self.by_layer_s / self.at_end_s

    @property
    def slower(self) -> float:
        """How much longer prompt and transfer take by layer, as a part; below 0: less long."""
        return (self.prompt_s + self.by_layer_s) / (self.prompt_s + self.at_end_s) - 1


async def overlap(geometry: KvGeometry, transport: str, place: Path) -> list[Point]:
    """The lengths, each with a prompt that takes as long as the slowest of its transfers alone.

    A prompt that took longer would hide more: this is the quickest prompt that the claim is for.
    With the median one half of the transfers would be longer than their prompt, and show it.
    """
    print(f"{geometry.model} over {transport}: a prompt as long as its slowest transfer, in ms")
    titles = f"{'tokens':>8}{'MiB':>7}{'prompt':>9}{'seen, pushed at the end':>25}"
    eased = f"hidden of {EASE:g} as long"
    print(f"{titles}{'by layer':>10}{'hidden':>8}{'total':>8}{eased:>24}")
    points = []
    async with pair(transport, geometry, max(LENGTHS), place) as measured:
        for tokens in LENGTHS:
            point = await _point(measured, geometry, tokens)
            points.append(point)
            print(
                f"{tokens:8}{point.mib:7}{point.prompt_s * 1e3:9.1f}{point.at_end_s * 1e3:25.1f}"
                f"{point.by_layer_s * 1e3:10.1f}{point.hidden:8.1%}{point.slower:+8.1%}"
                f"{point.hidden_eased:24.1%}"
            )
    return points


async def _point(measured: Pair, geometry: KvGeometry, tokens: int) -> Point:
    await measured.move(tokens)
    prompt_s = max([(await measured.move(tokens)).ended.transfer_s for _ in range(REPEATS)])
    at_end, by_layer, eased = [], [], []
    for _ in range(REPEATS):
        at_end.append((await measured.move(tokens, prompt_s, layerwise=False)).seen_s)
        by_layer.append((await measured.move(tokens, prompt_s)).seen_s)
        eased.append((await measured.move(tokens, EASE * prompt_s)).seen_s)
    return Point(
        geometry.model,
        measured.transport,
        tokens,
        geometry.sequence_bytes(tokens) >> 20,
        prompt_s,
        statistics.median(at_end),
        statistics.median(by_layer),
        statistics.median(eased),
    )
