"""Weights of fewer bits: how close their logits are, and that answers survive them."""

import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from splitwise_core.tiny_tasks import lookup
from splitwise_worker.model.batch import Span, make_batch
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.model.linear import Weights, compiled_rows, linear

LENGTH = 1024


def logits(decoder: Decoder, spans: list[list[int]]) -> torch.Tensor:
    """[prompts, vocab] of one batch of prompts."""
    c = decoder.config
    kv = torch.zeros(len(spans), c.num_layers, 2, LENGTH, c.kv_heads, c.head_dim)
    batch = make_batch([Span(t, 0, [i]) for i, t in enumerate(spans)], LENGTH, "cpu")
    with torch.inference_mode():
        return decoder.forward(batch, kv)


@pytest.fixture(scope="module")
def prompts(tiny_model: Path) -> list[list[int]]:
    """Questions that only a model with its wits together answers."""
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    return [tokenizer.encode(lookup(random.Random(s), 30).prompt).ids for s in range(8)]


@pytest.fixture(scope="module")
def exact(tiny_model: Path, prompts: list[list[int]]) -> torch.Tensor:
    return logits(Decoder.load(tiny_model, max_model_len=LENGTH), prompts)


@pytest.mark.parametrize(("weights", "error"), [("float16", 2e-3), ("int8", 0.1)])
def test_logits_are_close_to_those_of_float32(
    tiny_model: Path,
    prompts: list[list[int]],
    exact: torch.Tensor,
    weights: Weights,
    error: float,
) -> None:
    """By the ratio of root mean squares; the answers are the same."""
    found = logits(Decoder.load(tiny_model, max_model_len=LENGTH, weights=weights), prompts)
    assert (found - exact).pow(2).mean().sqrt() < error * exact.pow(2).mean().sqrt()
    assert found.argmax(-1).tolist() == exact.argmax(-1).tolist()


def test_code_is_compiled_for_few_numbers_of_rows_and_hardly_more_than_there_are() -> None:
    """What is compiled is kept: with one for each length of a prompt memory grows and grows."""
    sizes = [compiled_rows(rows) for rows in range(1, 2049)]
    assert all(rows <= size <= rows * 9 / 8 for rows, size in enumerate(sizes, 1))
    assert sizes[:16] == list(range(1, 17)), "steps of few sequences compute nothing in vain"
    assert len(set(sizes)) == 16 + 7 * 8


@pytest.mark.parametrize("rows", [1, 2, 17, 64, 65, 1000], ids="{} rows".format)
@pytest.mark.parametrize("has_bias", [False, True], ids=["no bias", "a bias"])
@pytest.mark.parametrize("shape", [(40, 24), (24, 40)], ids=["widens", "narrows"])
@pytest.mark.parametrize(
    ("weights", "error"), [("float32", 1e-6), ("float16", 1e-3), ("int8", 3e-2)]
)
def test_a_linear_layer_of_any_form_and_batch(
    weights: Weights, error: float, shape: tuple[int, int], has_bias: bool, rows: int
) -> None:
    torch.manual_seed(3)
    weight, x = torch.randn(shape), torch.randn(rows, shape[1])
    bias = torch.randn(shape[0]) if has_bias else None
    wanted = torch.nn.functional.linear(x, weight, bias)
    found = linear(weight, bias, weights)(x)
    assert (found - wanted).pow(2).mean().sqrt() < error * wanted.pow(2).mean().sqrt()
