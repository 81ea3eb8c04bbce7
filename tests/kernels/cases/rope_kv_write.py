"""From the fused projection to rotated queries and the K/V of each token in its slot."""

import pytest
import torch
from torch import Tensor

from splitwise_worker.kernels import rope_kv_write
from splitwise_worker.kernels.rope_kv_write import rope_kv_write_torch
from tests.kernels.agreement import DEVICE, TOLERANCE, error, randn

BLOCK_TOKENS, BLOCKS = 16, 4
SLOTS = [33, -1, 0, 63, 17]  # the second token is padding
POSITIONS = [7, 0, 99, 3, 50]


def pool(kv_heads: int, head_dim: int, dtype: torch.dtype) -> Tensor:
    """A pool of two layers with something in every slot, to see what is overwritten."""
    return randn(BLOCKS, 2, 2, BLOCK_TOKENS, kv_heads, head_dim, dtype=dtype)


def inputs(heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """qkv, cos_sin, positions and slots of the five tokens."""
    qkv = randn(len(SLOTS), (heads + 2 * kv_heads) * head_dim, dtype=dtype)
    angles = torch.rand(100, head_dim // 2) * 6.28
    cos_sin = torch.cat((angles.cos(), angles.sin()), -1).to(DEVICE)
    return qkv, cos_sin, torch.tensor(POSITIONS, device=DEVICE), torch.tensor(SLOTS, device=DEVICE)


@pytest.mark.parametrize("normed", [False, True], ids=["plain", "heads normalised first"])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "dtype"),
    [
        pytest.param(2, 1, 32, torch.float32, id="fewer heads than a tile"),
        pytest.param(9, 3, 64, torch.float32, id="15 heads: one less than a tile"),
        pytest.param(12, 4, 16, torch.float32, id="20 heads: q and k and v share the tiles"),
        pytest.param(16, 16, 16, torch.float32, id="q, k and v a whole tile each"),
        pytest.param(8, 2, 64, torch.bfloat16, id="bf16"),
        pytest.param(4, 2, 32, torch.float16, id="fp16"),
    ],
)
def test_it_agrees_with_its_formula(
    heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype, normed: bool
) -> None:
    args = inputs(heads, kv_heads, head_dim, dtype)
    weights = (randn(head_dim, dtype=dtype), randn(head_dim, dtype=dtype)) if normed else ()
    kv = pool(kv_heads, head_dim, dtype)
    wanted_kv = kv.clone()
    wanted = rope_kv_write_torch(*args, wanted_kv[:, 1, 0], wanted_kv[:, 1, 1], heads, *weights)
    q = rope_kv_write(*args, kv[:, 1, 0], kv[:, 1, 1], heads, *weights)
    assert q.dtype == dtype
    assert error(q, wanted) <= TOLERANCE[dtype]
    assert error(kv, wanted_kv) <= TOLERANCE[dtype]


def test_nothing_but_the_slots_of_its_layer_changes_and_values_arrive_unchanged() -> None:
    qkv, *where = inputs(2, 1, 16, torch.bfloat16)
    kv = pool(1, 16, torch.bfloat16)
    before = kv.clone()
    rope_kv_write(qkv, *where, kv[:, 1, 0], kv[:, 1, 1], 2)
    for token, slot in enumerate(SLOTS):
        if slot >= 0:
            block, offset = divmod(slot, BLOCK_TOKENS)
            assert torch.equal(kv[block, 1, 1, offset, 0], qkv[token, -16:])
            kv[block, 1, :, offset] = before[block, 1, :, offset]
    assert torch.equal(kv, before)


def test_padding_alone_writes_nothing_and_still_rotates() -> None:
    qkv, cos_sin, positions, slots = inputs(2, 1, 16, torch.float32)
    kv = pool(1, 16, torch.float32)
    before = kv.clone()
    q = rope_kv_write(
        qkv, cos_sin, positions, torch.full_like(slots, -1), kv[:, 0, 0], kv[:, 0, 1], 2
    )
    assert torch.equal(kv, before)
    assert torch.isfinite(q).all()


def test_position_zero_leaves_queries_as_they_are() -> None:
    qkv, _, positions, slots = inputs(2, 1, 16, torch.float32)
    upright = torch.cat((torch.ones(1, 8), torch.zeros(1, 8)), -1).to(DEVICE)
    kv = pool(1, 16, torch.float32)
    q = rope_kv_write(qkv, upright, positions * 0, slots, kv[:, 0, 0], kv[:, 0, 1], 2)
    assert torch.equal(q.flatten(1), qkv[:, :32])
