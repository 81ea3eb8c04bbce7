"""A step of prompts and of tokens, as a GPU computes it: each with the attention made for it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.gpu.weights import RandomWeights, llama
from splitwise_worker import kernels
from splitwise_worker.model.batch import Span, make_batch
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.model.ops_cpu import CpuOps
from splitwise_worker.model.ops_gpu import GpuOps
from splitwise_worker.model.rope import cos_sin

CONFIG = llama(2, 64, 4, 2, 16, 96, 80)
BEGUN = [Span(list(range(9)), 0, [3, 0]), Span([5, 6, 7], 0, [1]), Span([8] * 12, 0, [2, 4])]
STEP = [Span([20, 21, 22, 23], 9, [3, 0]), Span([1], 3, [1]), Span([9], 12, [2, 4])]


def logits(ops: type[CpuOps] | type[GpuOps]) -> torch.Tensor:
    table = cos_sin(CONFIG, 64)
    weights = RandomWeights(1, torch.float32, "cpu")
    decoder = Decoder.assemble(CONFIG, weights, ops(CONFIG, table), "float32")
    kv = torch.full((5, CONFIG.num_layers, 2, 8, CONFIG.kv_heads, CONFIG.head_dim), torch.nan)
    with torch.inference_mode():
        decoder.forward(make_batch(BEGUN, 8, "cpu"), kv)
        return decoder.forward(make_batch(STEP, 8, "cpu"), kv)


def noting(name: str, rows: list[tuple[str, int]]) -> Callable[..., torch.Tensor]:
    """The kernel of this name, that notes how many rows it is given."""
    attention = getattr(kernels, name)

    def noted(q: torch.Tensor, *rest: Any) -> torch.Tensor:
        rows.append((name, len(q)))
        out: torch.Tensor = attention(q, *rest)
        return out

    return noted


def test_both_kinds_of_a_step_are_right_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[tuple[str, int]] = []
    for name in ("prefill_attention", "decode_attention"):
        monkeypatch.setattr(kernels, name, noting(name, rows))
    torch.testing.assert_close(logits(GpuOps), logits(CpuOps), rtol=2e-4, atol=2e-5)
    assert rows[-2:] == [("prefill_attention", 4), ("decode_attention", 2)]
