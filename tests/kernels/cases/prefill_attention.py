"""Many query tokens per sequence, causal, over their paged K/V."""

from itertools import accumulate

import pytest
import torch
from torch import Tensor

from splitwise_worker.kernels import decode_attention, prefill_attention
from splitwise_worker.kernels.prefill_attention import prefill_attention_torch
from tests.kernels.agreement import TOLERANCE, error, ints, paged_kv, randn


def arguments(
    lens: list[int],
    fresh: list[int],
    group: int = 2,
    kv_heads: int = 2,
    head_dim: int = 16,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int, float]:
    """Arguments for sequences of `lens` tokens of which the last `fresh` are computed now."""
    k, v, tables = paged_kv(lens, kv_heads, head_dim, dtype)
    q = randn(sum(fresh), kv_heads * group, head_dim, dtype=dtype)
    starts = ints(list(accumulate(fresh, initial=0)))
    return q, k, v, tables, starts, ints(lens), max(fresh), head_dim**-0.5


@pytest.mark.parametrize(
    ("group", "head_dim", "dtype"),
    [
        pytest.param(1, 32, torch.float32, id="every head its own kv"),
        pytest.param(3, 32, torch.float32, id="a group that does not divide the tile"),
        pytest.param(8, 64, torch.float32, id="eight heads share kv"),
        pytest.param(4, 64, torch.bfloat16, id="bf16"),
        pytest.param(4, 32, torch.float16, id="fp16"),
    ],
)
def test_it_agrees_with_its_formula(group: int, head_dim: int, dtype: torch.dtype) -> None:
    # a whole prompt, a later chunk of one, and what follows a cached prefix
    args = arguments([5, 33, 100], [5, 20, 67], group, 2, head_dim, dtype)
    out = prefill_attention(*args)
    assert out.dtype == dtype
    assert error(out, prefill_attention_torch(*args)) <= TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("lens", "fresh"),
    [
        pytest.param([1], [1], id="a prompt of one token"),
        pytest.param([64], [64], id="whole tiles"),
        pytest.param([65, 63], [65, 63], id="a token more and a token less"),
        pytest.param([50, 3, 41], [1, 3, 1], id="single tokens beside a prompt"),
        pytest.param([96], [1], id="one token after many"),
        pytest.param([48], [16], id="a chunk that begins on a block"),
        pytest.param([47], [17], id="a chunk that begins inside a block"),
    ],
)
def test_no_token_is_lost_at_an_edge(lens: list[int], fresh: list[int]) -> None:
    args = arguments(lens, fresh)
    assert error(prefill_attention(*args), prefill_attention_torch(*args)) <= 1e-5


def test_no_token_sees_a_later_one() -> None:
    args = arguments([40], [40])
    before = prefill_attention(*args)
    k, v, tables = args[1:4]
    last = int(tables[0, 2])  # tokens 32 to 47
    k[last], v[last] = randn(16, 2, 16), randn(16, 2, 16)
    after = prefill_attention(*args)
    assert torch.equal(before[:32], after[:32])
    assert not torch.equal(before[32:40], after[32:40])


def test_the_last_token_of_a_prompt_gets_what_decode_gives_it() -> None:
    q, k, v, tables, starts, lens, max_q, scale = arguments([77], [77], group=3, head_dim=32)
    prefilled = prefill_attention(q, k, v, tables, starts, lens, max_q, scale)
    decoded = decode_attention(q[-1:], k, v, tables, lens, scale)
    assert error(decoded, prefilled[-1:]) <= TOLERANCE[torch.float32]
