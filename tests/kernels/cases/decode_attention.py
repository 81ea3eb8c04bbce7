"""One query token per sequence over its paged K/V."""

import pytest
import torch

from splitwise_worker.kernels import decode_attention
from splitwise_worker.kernels.decode_attention import decode_attention_torch
from tests.kernels.agreement import TOLERANCE, error, ints, paged_kv, randn

LENS = [1, 33, 130]


@pytest.mark.parametrize("splits", [1, 4], ids=["one program a sequence", "four programs"])
@pytest.mark.parametrize(
    ("group", "head_dim", "dtype"),
    [
        pytest.param(1, 32, torch.float32, id="every head its own kv"),
        pytest.param(3, 32, torch.float32, id="a group that is no power of two"),
        pytest.param(8, 64, torch.float32, id="eight heads share kv"),
        pytest.param(17, 16, torch.float32, id="a group above the rows of a tensor core"),
        pytest.param(4, 64, torch.bfloat16, id="bf16"),
        pytest.param(4, 32, torch.float16, id="fp16"),
    ],
)
def test_it_agrees_with_its_formula(
    group: int, head_dim: int, dtype: torch.dtype, splits: int
) -> None:
    k, v, tables = paged_kv(LENS, 2, head_dim, dtype)
    q = randn(len(LENS), 2 * group, head_dim, dtype=dtype)
    args = (q, k, v, tables, ints(LENS), head_dim**-0.5)
    out = decode_attention(*args, splits)
    assert out.dtype == dtype
    assert error(out, decode_attention_torch(*args)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("splits", [1, 4])
def test_a_length_of_zero_gives_zeros_beside_others(splits: int) -> None:
    lens = [0, 40, 0]
    k, v, tables = paged_kv(lens, 1, 32, torch.float32)
    args = (randn(3, 2, 32), k, v, tables, ints(lens), 0.2)
    out = decode_attention(*args, splits)
    assert not out[0].any()
    assert not out[2].any()
    assert error(out, decode_attention_torch(*args)) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize(
    "lens",
    [
        pytest.param([32], id="exactly one tile"),
        pytest.param([31, 33], id="a token less and a token more"),
        pytest.param([16, 48], id="whole blocks, half tiles"),
        pytest.param([1], id="more programs than tokens"),
    ],
)
def test_no_token_is_lost_at_an_edge(lens: list[int]) -> None:
    k, v, tables = paged_kv(lens, 1, 16, torch.float32)
    args = (randn(len(lens), 2, 16), k, v, tables, ints(lens), 0.25)
    for splits in (1, 2, 8):
        out = decode_attention(*args, splits)
        assert error(out, decode_attention_torch(*args)) <= TOLERANCE[torch.float32]


def test_sequences_may_share_blocks_and_q_may_be_a_slice() -> None:
    k, v, tables = paged_kv([40], 2, 16, torch.float32)
    shared = tables.expand(3, -1)  # a row stride of 0
    q = randn(3, 10, 16)[:, 2:8]
    args = (q, k, v, shared, ints([40, 7, 17]), 0.25)
    assert error(decode_attention(*args), decode_attention_torch(*args)) <= 1e-5


def test_scores_far_from_zero_neither_overflow_nor_vanish() -> None:
    k, v, tables = paged_kv([70], 1, 32, torch.float32)
    args = (100 * randn(1, 2, 32), k, v, tables, ints([70]), 1.0)
    for splits in (1, 4):
        assert error(decode_attention(*args, splits), decode_attention_torch(*args)) <= 1e-5


def test_what_the_kernel_would_read_wrongly_is_refused() -> None:
    k, v, tables = paged_kv([40], 2, 16, torch.float32)
    with pytest.raises(ValueError, match="does not fit"):
        decode_attention(randn(1, 3, 16), k, v, tables, ints([40]), 1.0)
    with pytest.raises(ValueError, match="differ in layout"):
        decode_attention(randn(1, 2, 16), k, v.contiguous(), tables, ints([40]), 1.0)
    sparse = randn(1, 2, 32)[..., ::2]
    with pytest.raises(ValueError, match="contiguous"):
        decode_attention(sparse, k, v, tables, ints([40]), 1.0)
