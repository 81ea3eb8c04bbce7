"""Attention kernels against their formula: interpreted on a CPU, compiled where there is a GPU."""

from itertools import accumulate

import pytest
import torch
from torch import Tensor

from splitwise_worker.kernels import decode_attention, prefill_attention
from splitwise_worker.kernels.decode_attention import decode_attention_torch
from splitwise_worker.kernels.prefill_attention import prefill_attention_torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
BLOCK_TOKENS = 16
SHAPES = pytest.mark.parametrize(
    ("group", "head_dim", "dtype"),
    [
        pytest.param(1, 32, torch.float32, id="every head its own kv"),
        pytest.param(3, 32, torch.float32, id="a group that is no power of two"),
        pytest.param(4, 64, torch.bfloat16, id="four heads share kv in bf16"),
        pytest.param(8, 32, torch.float32, id="eight heads share kv"),
    ],
)


def paged(lens: list[int], head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """One layer's K and V views of a pool, NaN where no token stands, and shuffled tables."""
    torch.manual_seed(0)
    width = -(-max(lens) // BLOCK_TOKENS)
    tables = torch.randperm(len(lens) * width).view(len(lens), width).int()
    pool = torch.full((len(lens) * width, 2, 2, BLOCK_TOKENS, 2, head_dim), float("nan"))
    for i, kv_len in enumerate(lens):
        for token in range(kv_len):
            block = int(tables[i, token // BLOCK_TOKENS])
            pool[block, 1, :, token % BLOCK_TOKENS] = torch.randn(2, 2, head_dim)
    pool = pool.to(DEVICE, dtype)
    return pool[:, 1, 0], pool[:, 1, 1], tables.to(DEVICE)


@SHAPES
@pytest.mark.parametrize("splits", [1, 4])
def test_decode_agrees_with_its_formula(
    group: int, head_dim: int, dtype: torch.dtype, splits: int
) -> None:
    lens = [1, 33, 130]
    k, v, tables = paged(lens, head_dim, dtype)
    q = torch.randn(len(lens), 2 * group, head_dim, device=DEVICE, dtype=dtype)
    args = (q, k, v, tables, torch.tensor(lens, device=DEVICE, dtype=torch.int32), head_dim**-0.5)
    wanted = decode_attention_torch(*args)
    error = (decode_attention(*args, splits) - wanted).abs().max().item()
    assert error <= TOLERANCE[dtype]


@SHAPES
def test_prefill_agrees_with_its_formula(group: int, head_dim: int, dtype: torch.dtype) -> None:
    lens, fresh = [5, 33, 100], [5, 20, 67]  # a whole prompt, a later chunk, after a prefix
    k, v, tables = paged(lens, head_dim, dtype)
    q = torch.randn(sum(fresh), 2 * group, head_dim, device=DEVICE, dtype=dtype)
    starts = torch.tensor([0, *accumulate(fresh)], device=DEVICE, dtype=torch.int32)
    kv_lens = torch.tensor(lens, device=DEVICE, dtype=torch.int32)
    args = (q, k, v, tables, starts, kv_lens, max(fresh), head_dim**-0.5)
    wanted = prefill_attention_torch(*args)
    error = (prefill_attention(*args) - wanted).abs().max().item()
    assert error <= TOLERANCE[dtype]
