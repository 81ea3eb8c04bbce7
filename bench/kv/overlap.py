"""How much of a transfer a prompt hides when its layers are pushed while it is computed.

`python -m bench.kv.overlap NAME TRANSPORT FILE` measures and writes the points: the way into a
namespace whose loopback is another link.
"""

import asyncio
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.kv.link import run_on_link
from bench.kv.pair import Pair, pair
from splitwise_core.kv import KvGeometry

LLAMA_3_8B: Final = KvGeometry("Llama-3-8B", "bfloat16", 32, 8, 128, 16)
LLAMA_3_70B: Final = KvGeometry("Llama-3-70B", "bfloat16", 80, 8, 128, 16)
LENGTHS: Final = (128, 512, 2048, 8192)
REPEATS: Final = 7


@dataclass(frozen=True, slots=True)
class Point:
    """One prompt length: seconds of the prompt, and what is seen of the transfer, either way."""

    model: str
    over: str
    tokens: int
    mib: int
    prompt_s: float
    at_end_s: float
    by_layer_s: float

    @property
    def hidden(self) -> float:
        """The part of the transfer that is not seen."""
        return 1 - self.by_layer_s / self.at_end_s

    @property
    def slower(self) -> float:
        """How much longer prompt and transfer take by layer, as a part; below 0: less long."""
        return (self.prompt_s + self.by_layer_s) / (self.prompt_s + self.at_end_s) - 1


async def overlap(name: str, transport: str) -> list[Point]:
    """Both models at all lengths, each with a prompt as long as the slowest of its transfers alone.

    A prompt that took longer would hide more: this is the quickest prompt that the claim is for.
    With the median one half of the transfers would be longer than their prompt, and show it.
    """
    points = []
    for geometry in (LLAMA_3_8B, LLAMA_3_70B):
        print(f"{geometry.model} over {name}: a prompt as long as its slowest transfer, in ms")
        titles = f"{'tokens':>8}{'MiB':>7}{'prompt':>9}{'seen, pushed at the end':>25}"
        print(f"{titles}{'by layer':>10}{'hidden':>8}{'total':>8}", flush=True)
        with tempfile.TemporaryDirectory(prefix="kv-") as place:
            async with pair(transport, geometry, max(LENGTHS), Path(place)) as measured:
                for tokens in LENGTHS:
                    point = await _point(measured, name, geometry, tokens)
                    points.append(point)
                    print(
                        f"{tokens:8}{point.mib:7}{point.prompt_s * 1e3:9.1f}"
                        f"{point.at_end_s * 1e3:25.1f}{point.by_layer_s * 1e3:10.1f}"
                        f"{point.hidden:8.1%}{point.slower:+8.1%}",
                        flush=True,
                    )
    return points


async def overlap_on_link(name: str, transport: str) -> list[Point]:
    """The same on the link of `bench.kv.link`. Raises CalledProcessError."""
    with tempfile.NamedTemporaryFile(prefix="kv-", suffix=".json") as file:
        await run_on_link("bench.kv.overlap", name, transport, file.name)
        return [Point(**fields) for fields in json.load(file)]


async def _point(measured: Pair, name: str, geometry: KvGeometry, tokens: int) -> Point:
    await measured.move(tokens)
    prompt_s = max([(await measured.move(tokens)).ended.transfer_s for _ in range(REPEATS)])
    at_end, by_layer = [], []
    for _ in range(REPEATS):
        at_end.append((await measured.move(tokens, prompt_s, layerwise=False)).seen_s)
        by_layer.append((await measured.move(tokens, prompt_s)).seen_s)
    return Point(
        geometry.model,
        name,
        tokens,
        geometry.sequence_bytes(tokens) >> 20,
        prompt_s,
        statistics.median(at_end),
        statistics.median(by_layer),
    )


if __name__ == "__main__":
    _, asked_name, asked_transport, target = sys.argv
    found = asyncio.run(overlap(asked_name, asked_transport))
    Path(target).write_text(json.dumps([asdict(point) for point in found]))
