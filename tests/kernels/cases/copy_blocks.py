"""A layer of scattered blocks, from one pool to another."""

import pytest
import torch

from splitwise_worker.kernels.copy_blocks import copy_blocks, copy_blocks_torch
from tests.kernels.agreement import ints, randn


@pytest.mark.parametrize(
    ("kv_heads", "dtype"),
    [
        pytest.param(2, torch.float32, id="float32"),
        pytest.param(2, torch.bfloat16, id="bf16"),
        pytest.param(3, torch.float32, id="a number of heads that is no power of two"),
    ],
)
@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param([3], id="one block"),
        pytest.param([8, 0, 5], id="scattered"),
        pytest.param(list(range(9)), id="all of them"),
    ],
)
def test_it_copies_that_layer_of_those_blocks_and_nothing_else(
    kv_heads: int, dtype: torch.dtype, layer: int, blocks: list[int]
) -> None:
    source, target = (randn(9, 3, 2, 16, kv_heads, 16, dtype=dtype) for _ in range(2))
    wanted = target.clone()
    copy_blocks_torch(wanted, source, ints(blocks), layer)
    copy_blocks(target, source, ints(blocks), layer)
    assert torch.equal(target, wanted)
    assert torch.equal(target[blocks, layer], source[blocks, layer])


def test_pools_of_another_layout_are_refused() -> None:
    source = randn(4, 3, 2, 16, 2, 16)
    with pytest.raises(ValueError, match="differ in layout"):
        copy_blocks(source[:2], source, ints([0]), 0)
