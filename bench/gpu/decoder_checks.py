"""The worker's decoder on the GPU against the same weights on the CPU in float32, step by step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Final, NamedTuple

import torch
from torch import Tensor

from bench.gpu.inputs import error, worst
from bench.gpu.plan import PlannedCheck
from bench.gpu.weights import RandomWeights, llama
from splitwise_worker.loaded import BLOCK_TOKENS
from splitwise_worker.model.batch import Span, make_batch
from splitwise_worker.model.config import ModelConfig
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.model.linear import Weights
from splitwise_worker.model.ops_cpu import CpuOps
from splitwise_worker.model.ops_gpu import GpuOps
from splitwise_worker.model.rope import cos_sin

LENGTH: Final = 256
LOGITS_TOLERANCE: Final = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""bf16 rounds every activation of every layer to 8 bits; float32 differs in the order of sums."""

MODELS: Final = {
    "Llama": llama(4, 512, 8, 2, 64, 1024, 4096),
    "Llama with heads of 128": llama(2, 512, 4, 4, 128, 1024, 4096),
    "Qwen2": llama(2, 448, 7, 1, 64, 1024, 4096, "Qwen2ForCausalLM"),
    "Qwen3": llama(2, 512, 8, 4, 128, 1024, 4096, "Qwen3ForCausalLM"),
}
TINY: Final = {"Qwen3": llama(2, 64, 4, 2, 16, 96, 128, "Qwen3ForCausalLM")}


@dataclass(frozen=True, slots=True)
class Load:
    """What runs: prompts of these lengths together, the last in two chunks, then decode steps."""

    prompt_lens: tuple[int, ...]
    steps: int


FULL_LOAD: Final = Load((5, 33, 1, 150), 16)
TINY_LOAD: Final = Load((3, 18), 2)


def decoder_checks(
    models: dict[str, ModelConfig], load: Load, device: str, seed: int
) -> Iterator[PlannedCheck]:
    """Logits of every step within a tolerance, and in float32 the same greedy tokens."""
    for name, config in models.items():
        yield from _model_checks(f"decoder {name}", partial(compare, config, load, device, seed))


def _model_checks(
    name: str, compared: Callable[[torch.dtype], "Difference"]
) -> Iterator[PlannedCheck]:
    exact = cache(partial(compared, torch.float32))
    rounded = partial(compared, torch.bfloat16)
    of_float32, of_bfloat16 = LOGITS_TOLERANCE[torch.float32], LOGITS_TOLERANCE[torch.bfloat16]
    yield PlannedCheck(f"{name} float32: logits", of_float32, lambda: exact().logits)
    yield PlannedCheck(f"{name} float32: other tokens", 0, lambda: exact().tokens)
    yield PlannedCheck(f"{name} bfloat16: logits", of_bfloat16, lambda: rounded().logits)


class Difference(NamedTuple):
    """The worst error of the logits of a step, and how many greedy tokens are others."""

    logits: float
    tokens: float


def compare(
    config: ModelConfig, load: Load, device: str, seed: int, dtype: torch.dtype
) -> Difference:
    """Runs the same load on both sides.

    Both go on with the tokens of the CPU, so that one difference does not hide the next.
    """
    on_cpu = _Side(config, torch.float32, "cpu", seed, load, paged=False)
    on_device = _Side(config, dtype, device, seed, load, paged=True)
    draw = torch.Generator().manual_seed(seed)
    sequences = [
        torch.randint(config.vocab_size, (length,), generator=draw).tolist()
        for length in load.prompt_lens
    ]
    computed = [0] * len(sequences)
    computed[-1] = len(sequences[-1]) // 3
    for side in (on_cpu, on_device):  # the first chunk of the last prompt
        side.forward([sequences[-1][: computed[-1]]], [0], first=len(sequences) - 1)
    errors, others = [], 0.0
    for _ in range(1 + load.steps):
        pending = [s[start:] for s, start in zip(sequences, computed, strict=True)]
        wanted, found = (side.forward(pending, computed) for side in (on_cpu, on_device))
        errors.append(error(found, wanted))
        tokens = wanted.argmax(-1)
        others += float((found.argmax(-1) != tokens).sum())
        computed = [len(sequence) for sequence in sequences]
        for sequence, token in zip(sequences, tokens.tolist(), strict=True):
            sequence.append(token)
    return Difference(worst(*errors), others)


class _Side:
    """A decoder with a KV pool: paged in shuffled blocks, or a block a sequence."""

    def __init__(
        self,
        config: ModelConfig,
        dtype: torch.dtype,
        device: str,
        seed: int,
        load: Load,
        paged: bool,
    ) -> None:
        ops = GpuOps if paged else CpuOps
        table = cos_sin(config, LENGTH).to(device)
        weights = RandomWeights(seed, dtype, device)
        form: Weights = "bfloat16" if dtype is torch.bfloat16 else "float32"
        self._decoder = Decoder.assemble(config, weights, ops(config, table), form)
        self._device = device
        self._block_tokens = BLOCK_TOKENS if paged else LENGTH
        blocks = LENGTH // self._block_tokens
        order = torch.randperm(blocks * len(load.prompt_lens))
        self._tables = order.view(-1, blocks).tolist()
        size = (len(order), config.num_layers, 2, self._block_tokens)
        self._kv = torch.full((*size, config.kv_heads, config.head_dim), torch.nan, dtype=dtype)
        self._kv = self._kv.to(device)

    def forward(self, pending: list[list[int]], starts: list[int], first: int = 0) -> Tensor:
        """Logits on the CPU after the pending tokens of the sequences from `first` on."""
        tables = self._tables[first:]
        spans = [Span(*span) for span in zip(pending, starts, tables, strict=True)]
        batch = make_batch(spans, self._block_tokens, self._device)
        with torch.inference_mode():
            return self._decoder.forward(batch, self._kv).cpu()
