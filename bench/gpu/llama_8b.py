"""Llama 3 8B with random weights: whole steps against what memory and matrix units allow."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Final

import torch
from torch import Tensor

from bench.gpu.plan import PlannedFigure
from bench.gpu.timing import Call, Ceilings, event_seconds, graph_seconds
from bench.gpu.weights import RandomWeights, llama
from splitwise_worker.loaded import BLOCK_TOKENS
from splitwise_worker.model.batch import Batch, Span, make_batch
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.model.ops_gpu import GpuOps
from splitwise_worker.model.rope import cos_sin

CONFIG: Final = llama(32, 4096, 32, 8, 128, 14336, 128256)
STEPS: Final = ((1, 1024), (64, 2048))  # sequences, tokens of each
PROMPT_TOKENS: Final = 4096
NEEDED_BYTES: Final = 44 << 30
"""Weights 16 GB, K/V of 64 x 2,048 tokens 17 GB, and the largest tensor twice while it is made."""

GOAL: Final = 0.70
"""Of the limit that bandwidth sets for decode, as the goals for H200 do."""

PROMPT_GOAL: Final = 0.60
"""Of the limit that the matrix units set for a prompt."""


def why_not() -> str:
    """What this device lacks for it; empty when nothing."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    if free >= NEEDED_BYTES:
        return ""
    return f"it takes {NEEDED_BYTES / 1e9:.0f} GB of GPU memory and {free / 1e9:.0f} GB are free"


def step_figures(ceilings: Ceilings) -> Iterator[PlannedFigure]:
    """Decode launched op by op, and as one CUDA graph, as the worker does; then a prompt."""
    for sequences, length in STEPS:
        kv_bytes = 2 * 2 * CONFIG.num_layers * CONFIG.kv_heads * CONFIG.head_dim
        step_bytes = 2 * _weights_read() + sequences * length * kv_bytes
        limit = sequences * ceilings.copy_gb_s * 1e9 / step_bytes
        for way, seconds_of in (("op by op", event_seconds), ("as a graph", _graph)):
            name = f"8B decode {way}: {sequences} x {length} tokens"
            seconds = partial(_decode_seconds, seconds_of, sequences, length)
            yield PlannedFigure(name, "tokens/s", sequences, seconds, limit, GOAL * limit)
    head = CONFIG.vocab_size * CONFIG.width  # once for the whole prompt
    attention = 2 * CONFIG.num_layers * CONFIG.num_heads * CONFIG.head_dim * PROMPT_TOKENS**2
    flop = 2 * (_weights_read() - head) * PROMPT_TOKENS + attention + 2 * head
    limit = PROMPT_TOKENS * ceilings.matmul_tflop_s * 1e12 / flop
    name = f"8B prompt of {PROMPT_TOKENS} tokens"
    goal = PROMPT_GOAL * limit
    yield PlannedFigure(name, "tokens/s", PROMPT_TOKENS, _prompt_seconds, limit, goal)


def _weights_read() -> int:
    """Weights that every pass reads: all but the embedding, of which a token takes one row."""
    c = CONFIG
    attention = c.width * c.head_dim * (2 * c.num_heads + 2 * c.kv_heads)
    return c.num_layers * (attention + 3 * c.width * c.mlp_width) + c.vocab_size * c.width


@cache
def _decoder() -> Decoder:
    ops = GpuOps(CONFIG, cos_sin(CONFIG, CONFIG.max_positions).to("cuda"))
    weights = RandomWeights(0, torch.bfloat16, "cuda", drawn_on="cuda")
    return Decoder.assemble(CONFIG, weights, ops, "bfloat16")


@cache
def _pool() -> Tensor:
    """Room for the largest step, with numbers of the size that keys and values have."""
    blocks = max(sequences * -(-length // BLOCK_TOKENS) for sequences, length in STEPS)
    size = (blocks, CONFIG.num_layers, 2, BLOCK_TOKENS, CONFIG.kv_heads, CONFIG.head_dim)
    return torch.empty(size, dtype=torch.bfloat16, device="cuda").normal_()


def _batch(sequences: int, start: int, tokens: int) -> Batch:
    blocks = -(-(start + tokens) // BLOCK_TOKENS)
    order = torch.randperm(len(_pool())).tolist()
    spans = [
        Span([7] * tokens, start, order[i * blocks : (i + 1) * blocks]) for i in range(sequences)
    ]
    return make_batch(spans, BLOCK_TOKENS, "cuda")


def _graph(call: Call) -> float:
    return graph_seconds([call])


@torch.inference_mode()
def _decode_seconds(seconds_of: Callable[[Call], float], sequences: int, length: int) -> float:
    decoder, pool = _decoder(), _pool()
    batch = _batch(sequences, length - 1, 1)
    return seconds_of(partial(decoder.forward, batch, pool))


@torch.inference_mode()
def _prompt_seconds() -> float:
    decoder, pool = _decoder(), _pool()
    return event_seconds(partial(decoder.forward, _batch(1, 0, PROMPT_TOKENS), pool), 5)
