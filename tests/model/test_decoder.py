"""The decoder equals transformers on the same weights, however its work is cut into passes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.llama import LlamaConfig
from transformers.models.mistral import MistralConfig
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen3 import Qwen3Config

from splitwise_worker.model.batch import Span, make_batch
from splitwise_worker.model.decoder import Decoder

VOCAB = 97
LENGTH = 64
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": LENGTH,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
MODELS = {
    "llama": LlamaConfig(**SHAPE),
    "llama, tied, llama3 rope": LlamaConfig(
        **SHAPE, tie_word_embeddings=True, rope_parameters=LLAMA3
    ),
    "llama, biases everywhere": LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "llama, linear rope": LlamaConfig(
        **SHAPE, rope_parameters={"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0}
    ),
    "llama, one head per key": LlamaConfig(**SHAPE | {"num_key_value_heads": 6}),
    "llama, wide heads": LlamaConfig(**SHAPE, head_dim=16),
    "mistral, within its window": MistralConfig(**SHAPE, sliding_window=LENGTH),
    "mistral": MistralConfig(**SHAPE, sliding_window=None),
    "qwen2, biases": Qwen2Config(**SHAPE),
    "qwen2, tied": Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "qwen3, normed heads": Qwen3Config(**SHAPE, head_dim=8),
    "qwen3, normed heads and biases": Qwen3Config(**SHAPE, head_dim=8, attention_bias=True),
}


@pytest.fixture(scope="module", params=MODELS, ids=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A random model in transformers, and ours loaded from what it saved."""
    torch.manual_seed(1)
    reference = AutoModelForCausalLM.from_config(MODELS[request.param]).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(0, 0.3 if parameter.dim() == 1 else 0.08)
    directory: Path = tmp_path_factory.mktemp("model")
    reference.save_pretrained(directory)
    return reference, Decoder.load(directory, max_model_len=LENGTH)


def pool(decoder: Decoder, blocks: int, block_tokens: int = LENGTH) -> torch.Tensor:
    c = decoder.config
    shape = (blocks, c.num_layers, 2, block_tokens, c.kv_heads, c.head_dim)
    return torch.full(shape, float("nan"))


def wanted(reference: Any, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = reference(torch.tensor([tokens])).logits
    return logits[0, -1]


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-5)


TOKENS = [(7 * i + 3) % VOCAB for i in range(40)]


def test_a_prompt_gives_the_logits_of_transformers(pair: Any) -> None:
    reference, decoder = pair
    batch = make_batch([Span(TOKENS, 0, [1])], LENGTH, "cpu")
    with torch.inference_mode():
        close(decoder.forward(batch, pool(decoder, 2))[0], wanted(reference, TOKENS))


@pytest.mark.parametrize(
    ("block_tokens", "tables"),
    [
        pytest.param(LENGTH, [[2], [0]], id="a block a sequence"),
        pytest.param(8, [[9, 4, 0, 7, 2], [1, 3, 8, 5, 6]], id="blocks in any order"),
    ],
)
def test_chunks_single_tokens_and_batches_give_the_same_as_whole_prompts(
    pair: Any, block_tokens: int, tables: list[list[int]]
) -> None:
    reference, decoder = pair
    kv = pool(decoder, 10, block_tokens)
    other = TOKENS[::-1]
    one, two = tables
    passes = [
        [Span(TOKENS[:9], 0, one), Span(other[:1], 0, two)],
        [Span(TOKENS[9:23], 9, one), Span(other[1:20], 1, two)],
        [Span(TOKENS[23:24], 23, one), Span(other[20:21], 20, two)],
        [Span(TOKENS[24:25], 24, one), Span(other[21:30], 21, two)],
    ]
    with torch.inference_mode():
        for spans in passes:
            logits = decoder.forward(make_batch(spans, block_tokens, "cpu"), kv)
            for row, span, tokens in zip(logits, spans, (TOKENS, other), strict=True):
                close(row, wanted(reference, tokens[: span.start + len(span.tokens)]))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)], ids=["first", "between"])
@pytest.mark.parametrize("most", [1 << 20, 0], ids=["together", "one by one"])
def test_a_stretch_of_a_prompt_beside_those_that_decode_gives_the_same(
    pair: Any, order: tuple[int, ...], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitwise_worker.model.ops_cpu.BATCHED_BYTES", most)
    reference, decoder = pair
    kv = pool(decoder, 12, 8)
    texts = [TOKENS, TOKENS[::-1], TOKENS[3:20]]
    ends, tables = (23, 30, 12), ([9, 4, 0], [1, 3, 8, 5], [6, 11])
    begun = [
        Span(texts[0][:9], 0, tables[0]),
        *(Span(texts[i][: ends[i] - 1], 0, tables[i]) for i in (1, 2)),
    ]
    step = [
        Span(texts[0][9:23], 9, tables[0]),
        *(Span(texts[i][ends[i] - 1 : ends[i]], ends[i] - 1, tables[i]) for i in (1, 2)),
    ]
    with torch.inference_mode():
        decoder.forward(make_batch(begun, 8, "cpu"), kv)
        logits = decoder.forward(make_batch([step[i] for i in order], 8, "cpu"), kv)
        for row, i in zip(logits, order, strict=True):
            close(row, wanted(reference, texts[i][: ends[i]]))


def test_blocks_of_a_common_beginning_may_be_shared(pair: Any) -> None:
    reference, decoder = pair
    kv = pool(decoder, 6, 8)
    common, ends = TOKENS[:16], (TOKENS[20:27], TOKENS[31:32])
    first, *others = ([3, 1], [3, 1, 5], [3, 1, 0])
    with torch.inference_mode():
        decoder.forward(make_batch([Span(common, 0, first)], 8, "cpu"), kv)
        before = kv[first].clone()
        spans = [Span(end, 16, table) for end, table in zip(ends, others, strict=True)]
        logits = decoder.forward(make_batch(spans, 8, "cpu"), kv)
        for row, end in zip(logits, ends, strict=True):
            close(row, wanted(reference, [*common, *end]))
    assert torch.equal(kv[first], before), "INV-5: what is shared is only read"


def test_sequences_too_long_to_decode_together_decode_one_by_one(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, decoder = pair
    found = []
    for most in (1 << 20, 0):
        monkeypatch.setattr("splitwise_worker.model.ops_cpu.BATCHED_BYTES", most)
        kv = pool(decoder, 10, 8)
        with torch.inference_mode():
            prompts = [Span(TOKENS[:9], 0, [9, 4]), Span(TOKENS[:30], 0, [1, 3, 8, 5])]
            decoder.forward(make_batch(prompts, 8, "cpu"), kv)
            single = [Span([5], 9, [9, 4]), Span([7], 30, [1, 3, 8, 5])]
            found.append(decoder.forward(make_batch(single, 8, "cpu"), kv))
    close(found[0], found[1])


def test_each_layer_is_announced_once_its_keys_and_values_stand_in_the_pool(pair: Any) -> None:
    _, decoder = pair
    kv = pool(decoder, 1)
    seen: list[int] = []

    def on_layer(layer: int) -> None:
        seen.append(layer)
        assert not kv[0, layer, :, : len(TOKENS)].isnan().any()
        assert kv[0, layer + 1 :].isnan().all()

    with torch.inference_mode():
        decoder.forward(make_batch([Span(TOKENS, 0, [0])], LENGTH, "cpu"), kv, on_layer)
    assert seen == list(range(decoder.config.num_layers))


def test_nothing_is_written_beyond_the_tokens_of_the_batch(pair: Any) -> None:
    _, decoder = pair
    kv = pool(decoder, 3)
    with torch.inference_mode():
        decoder.forward(make_batch([Span(TOKENS[:5], 0, [1])], LENGTH, "cpu"), kv)
    assert kv[[0, 2]].isnan().all()
    assert kv[1, :, :, 5:].isnan().all()
