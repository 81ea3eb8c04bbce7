"""How fast each kernel is, against the device's own copy or matrix product."""

from collections.abc import Iterator
from functools import partial
from itertools import accumulate
from typing import Final

import torch

from bench.gpu.inputs import ints, normal, paged
from bench.gpu.plan import PlannedFigure
from bench.gpu.timing import Ceilings, graph_seconds, input_sets
from splitwise_worker import kernels
from splitwise_worker.loaded import BLOCK_TOKENS

BF16: Final = torch.bfloat16
BYTES: Final = 2  # of a value
HEAD_DIM: Final = 128

DECODE_GOAL: Final = 0.75
"""Of the copy bandwidth."""

PREFILL_GOAL_TFLOP_S: Final = 350.0
PREFILL_GOAL_FROM: Final = 4096
"""On H100 and H200, for prompts of at least so many tokens."""

LLAMA_8B: Final = ("8B", 32, 8)  # name, heads, K/V heads
LLAMA_70B: Final = ("70B", 64, 8)
LLAMA_2_7B: Final = ("7B without groups", 32, 32)

DECODE: Final = (  # sequences, tokens of each: at least 128 MB of K/V
    (LLAMA_8B, 1, 32_768),
    (LLAMA_8B, 1, 131_072),
    (LLAMA_8B, 8, 4096),
    (LLAMA_8B, 16, 8192),
    (LLAMA_8B, 64, 1024),
    (LLAMA_8B, 64, 4096),
    (LLAMA_8B, 256, 512),
    (LLAMA_70B, 64, 2048),
    (LLAMA_2_7B, 16, 2048),
)
PREFILL: Final = (  # sequences, tokens of each
    *((shape, 1, 1024 << i) for shape in (LLAMA_8B, LLAMA_70B) for i in range(5)),
    *((LLAMA_8B, 16 >> i, 1024 << i) for i in range(4)),
)
ROWS: Final = 8192
Shape = tuple[str, int, int]


def kernel_figures(ceilings: Ceilings) -> Iterator[PlannedFigure]:
    """Every kernel in bf16."""
    for shape, batch, length in DECODE:
        kv_bytes = batch * length * shape[2] * HEAD_DIM * 2 * BYTES
        amount = (kv_bytes + 2 * batch * shape[1] * HEAD_DIM * BYTES) / 1e9
        name = f"decode_attention {shape[0]}: {batch} x {length} tokens"
        seconds = partial(_decode_seconds, shape, batch, length)
        goal = DECODE_GOAL * ceilings.copy_gb_s
        yield PlannedFigure(name, "GB/s", amount, seconds, ceilings.copy_gb_s, goal)
    for shape, batch, length in PREFILL:
        scores = batch * shape[1] * length * (length + 1) / 2
        name = f"prefill_attention {shape[0]}: {batch} x {length} tokens"
        seconds = partial(_prefill_seconds, shape, batch, length)
        amount = 4 * HEAD_DIM * scores / 1e12
        wanted = PREFILL_GOAL_TFLOP_S if length >= PREFILL_GOAL_FROM else None
        yield PlannedFigure(name, "TFLOP/s", amount, seconds, ceilings.matmul_tflop_s, wanted)
    yield from _elementwise(ceilings.copy_gb_s)


def _elementwise(copy_gb_s: float) -> Iterator[PlannedFigure]:
    width, mlp, heads, kv_heads = 4096, 14336, 32, 8
    turned, stored = heads * HEAD_DIM, 2 * kv_heads * HEAD_DIM
    for name, values, seconds in (
        (f"rms_norm {ROWS} x {width}", 2 * width, partial(_norm_seconds, width, False)),
        (f"add_rms_norm {ROWS} x {width}", 4 * width, partial(_norm_seconds, width, True)),
        (
            f"rope_kv_write {ROWS} tokens",
            2 * (turned + stored),
            partial(_rope_seconds, heads, kv_heads),
        ),
        (f"silu_mul {ROWS} x {mlp}", 3 * mlp, partial(_silu_seconds, mlp)),
    ):
        yield PlannedFigure(name, "GB/s", ROWS * values * BYTES / 1e9, seconds, copy_gb_s)


def _decode_seconds(shape: Shape, batch: int, length: int) -> float:
    _, heads, kv_heads = shape
    sets = input_sets(batch * length * kv_heads * HEAD_DIM * 2 * BYTES)
    kv = paged([length] * batch, kv_heads, HEAD_DIM, BF16, "cuda", layers=sets)
    q = normal(batch, heads, HEAD_DIM, dtype=BF16, device="cuda")
    where = (kv.tables, kv.seq_lens, HEAD_DIM**-0.5)
    return graph_seconds([partial(kernels.decode_attention, q, k, v, *where) for k, v in kv.layers])


def _prefill_seconds(shape: Shape, batch: int, length: int) -> float:
    _, heads, kv_heads = shape
    kv = paged([length] * batch, kv_heads, HEAD_DIM, BF16, "cuda", layers=2)
    q = normal(batch * length, heads, HEAD_DIM, dtype=BF16, device="cuda")
    starts = ints(list(accumulate([length] * batch, initial=0)), "cuda")
    where = (kv.tables, starts, kv.seq_lens, length, HEAD_DIM**-0.5)
    return graph_seconds(
        [partial(kernels.prefill_attention, q, k, v, *where) for k, v in kv.layers]
    )


def _norm_seconds(width: int, adds: bool) -> float:
    sets = input_sets(2 * ROWS * width * BYTES)
    x, residual = (normal(sets, ROWS, width, dtype=BF16, device="cuda") for _ in range(2))
    weight = normal(width, dtype=BF16, device="cuda")
    if adds:
        pairs = zip(x, residual, strict=True)
        return graph_seconds([partial(kernels.add_rms_norm, *p, weight, 1e-5) for p in pairs])
    return graph_seconds([partial(kernels.rms_norm, row, weight, 1e-5) for row in x])


def _rope_seconds(heads: int, kv_heads: int) -> float:
    columns = (heads + 2 * kv_heads) * HEAD_DIM
    sets = input_sets(2 * ROWS * columns * BYTES)
    qkv = normal(sets, ROWS, columns, dtype=BF16, device="cuda")
    kv = paged([ROWS], kv_heads, HEAD_DIM, BF16, "cuda", layers=sets)
    cos_sin = torch.rand(ROWS, HEAD_DIM, device="cuda")
    positions = torch.arange(ROWS, device="cuda")
    blocks = kv.tables[0].long().repeat_interleave(BLOCK_TOKENS)
    slots = blocks * BLOCK_TOKENS + positions % BLOCK_TOKENS
    return graph_seconds(
        [
            partial(kernels.rope_kv_write, rows, cos_sin, positions, slots, k, v, heads)
            for rows, (k, v) in zip(qkv, kv.layers, strict=True)
        ]
    )


def _silu_seconds(mlp: int) -> float:
    sets = input_sets(3 * ROWS * mlp * BYTES)
    gate_up = normal(sets, ROWS, 2 * mlp, dtype=BF16, device="cuda")
    return graph_seconds([partial(kernels.silu_mul, rows) for rows in gate_up])
