"""A layer of scattered KV blocks, copied between two pools in one launch, whatever their number.

For the way to the host while a prompt is computed. A copy engine takes a command for each block and
holds a few thousand: behind the layers of a long prompt they would fill it, and make the host wait.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import Tensor

from splitwise_worker.kernels.triton_backend import Launch, jit, serves, tl

PROGRAMS: Final = 8
"""Four of them fill a link of 16 PCIe 5 lanes (H200: 49.5 GB/s, sixteen 50.2); the prompt keeps the
other multiprocessors."""

MOST_WORDS: Final = 2048
WORD: Final = torch.int64


def copy_blocks(target: Tensor, source: Tensor, blocks: Tensor, layer: int) -> None:
    """target[blocks, layer] = source[blocks, layer], of two pools [N, L, ...] of one shape.

    `blocks` [n] int32 is on the device; one of the pools may be pinned memory of the host.
    """
    if not serves(blocks):
        copy_blocks_torch(target, source, blocks, layer)
        return
    plan_copy(target, source, blocks, layer).run()


def copy_blocks_torch(target: Tensor, source: Tensor, blocks: Tensor, layer: int) -> None:
    """The formula."""
    target[blocks.long(), layer] = source[blocks.long(), layer]


def plan_copy(target: Tensor, source: Tensor, blocks: Tensor, layer: int) -> Launch:
    """The launch that copies. Raises ValueError for pools that differ in layout."""
    if target.shape != source.shape or target.stride() != source.stride():
        raise ValueError(f"pools {tuple(target.shape)} and {tuple(source.shape)} differ in layout")
    words = source[0, 0].numel() * source.element_size() // WORD.itemsize
    return Launch(
        kernel=_copy_blocks,
        grid=(PROGRAMS,),
        args={
            "target": target.view(-1).view(WORD),
            "source": source.view(-1).view(WORD),
            "blocks": blocks,
            "count": len(blocks),
            "block_stride": words * source.shape[1],
            "layer_start": words * layer,
        },
        constants={"WORDS": words, "TILE": min(MOST_WORDS, words & -words)},
        num_warps=8,
    )


# Where a layer starts is a multiple of 16 words, and says so: it makes each load one of 16 bytes.
@partial(jit, do_not_specialize=["count"], do_not_specialize_on_alignment=["blocks"])
def _copy_blocks(
    target: tl.tensor,
    source: tl.tensor,
    blocks: tl.tensor,
    count: tl.tensor,
    block_stride: tl.tensor,
    layer_start: tl.tensor,
    WORDS: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """One program: every PROGRAMS-th TILE of the blocks' layer. grid = (PROGRAMS,)."""
    TILES: tl.constexpr = WORDS // TILE
    for index in range(tl.program_id(0), count * TILES, tl.num_programs(0)):
        block = tl.load(blocks + index // TILES).to(tl.int64)
        start = block * block_stride + layer_start + index % TILES * TILE
        place = start + tl.arange(0, TILE)
        tl.store(target + place, tl.load(source + place))
