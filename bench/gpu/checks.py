"""Each kernel against its formula on the device, over the shapes that models have."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Final

import torch
from torch import Tensor

from bench.gpu.inputs import Paged, error, ints, normal, paged, unwritten_memory_is_nan, worst
from bench.gpu.plan import PlannedCheck
from splitwise_worker import kernels
from splitwise_worker.kernels.decode_attention import decode_attention_torch
from splitwise_worker.kernels.prefill_attention import prefill_attention_torch
from splitwise_worker.kernels.rms_norm import add_rms_norm_torch, rms_norm_torch
from splitwise_worker.kernels.rope_kv_write import rope_kv_write_torch
from splitwise_worker.kernels.silu_mul import silu_mul_torch

TOLERANCE: Final = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Float32 kernels multiply in float32; the others round their operands and results."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Heads of an attention layer, and the type of its values."""

    dtype: torch.dtype
    head_dim: int
    group: int  # query heads that share a K/V head
    kv_heads: int = 4

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} d{self.head_dim} group {self.group}"


@dataclass(frozen=True, slots=True)
class Scope:
    """How much is checked: all of it on a GPU, a little of everything under the interpreter."""

    shapes: tuple[Shape, ...]
    kv_lens: tuple[int, ...]
    fresh: tuple[int, ...]  # the last tokens of each of kv_lens that a prefill computes
    splits: tuple[int | None, ...]
    widths: tuple[int, ...]
    rows: int
    block_tokens: int


FULL: Final = Scope(
    shapes=(
        *(Shape(torch.bfloat16, d, group) for d in (64, 128) for group in (1, 2, 3, 4, 7, 8)),
        *(Shape(torch.float16, d, 4) for d in (64, 128)),
        *(Shape(torch.float32, d, 4) for d in (64, 128)),
    ),
    kv_lens=(1, 31, 32, 33, 257, 1000, 2049),
    fresh=(1, 31, 5, 33, 1, 700, 2049),
    splits=(1, None),
    widths=(576, 1024, 4096, 8192),
    rows=333,
    block_tokens=32,
)
TINY: Final = Scope(
    shapes=(Shape(torch.float32, 32, 3, 1), Shape(torch.bfloat16, 16, 4, 1)),
    kv_lens=(1, 33, 40),
    fresh=(1, 20, 40),
    splits=(1, 3),
    widths=(96,),
    rows=3,
    block_tokens=16,
)


def kernel_checks(scope: Scope, device: str) -> Iterator[PlannedCheck]:
    """Every kernel in every shape of `scope`."""
    for shape in scope.shapes:
        tolerance = TOLERANCE[shape.dtype]
        for splits in scope.splits:
            name = f"decode_attention {shape} splits {splits or 'chosen'}"
            yield PlannedCheck(name, tolerance, partial(_decode, scope, shape, splits, device))
        name = f"prefill_attention {shape}"
        yield PlannedCheck(name, tolerance, partial(_prefill, scope, shape, device))
        for normed in (False, True):
            name = f"rope_kv_write {shape}{' normed' if normed else ''}"
            yield PlannedCheck(name, tolerance, partial(_rope, scope, shape, normed, device))
    for dtype in dict.fromkeys(shape.dtype for shape in scope.shapes):
        for width in scope.widths:
            args = (scope.rows, width, dtype, device)
            name = f"{str(dtype).removeprefix('torch.')} {width}"
            yield PlannedCheck(f"rms_norm {name}", TOLERANCE[dtype], partial(_norm, *args))
            yield PlannedCheck(f"add_rms_norm {name}", TOLERANCE[dtype], partial(_add_norm, *args))
            yield PlannedCheck(f"silu_mul {name}", TOLERANCE[dtype], partial(_silu, *args))


def _kv(scope: Scope, shape: Shape, lens: tuple[int, ...], device: str) -> Paged:
    return paged(
        lens, shape.kv_heads, shape.head_dim, shape.dtype, device, block_tokens=scope.block_tokens
    )


def _decode(scope: Scope, shape: Shape, splits: int | None, device: str) -> float:
    lens = (*scope.kv_lens, 0)  # a padded row of a graph
    kv = _kv(scope, shape, lens, device)
    heads = shape.kv_heads * shape.group
    q = normal(len(lens), heads, shape.head_dim, dtype=shape.dtype, device=device)
    args = (q, *kv.layers[0], kv.tables, kv.seq_lens, shape.head_dim**-0.5)
    with unwritten_memory_is_nan():
        out = kernels.decode_attention(*args, splits)
    return error(out, decode_attention_torch(*args))


def _prefill(scope: Scope, shape: Shape, device: str) -> float:
    kv = _kv(scope, shape, scope.kv_lens, device)
    heads, rows = shape.kv_heads * shape.group, sum(scope.fresh)
    q = normal(rows, heads, shape.head_dim, dtype=shape.dtype, device=device)
    starts = ints(list(accumulate(scope.fresh, initial=0)), device)
    lengths = (kv.tables, starts, kv.seq_lens, max(scope.fresh))
    args = (q, *kv.layers[0], *lengths, shape.head_dim**-0.5)
    with unwritten_memory_is_nan():
        out = kernels.prefill_attention(*args)
    return error(out, prefill_attention_torch(*args))


def _rope(scope: Scope, shape: Shape, normed: bool, device: str) -> float:
    heads, rows = shape.kv_heads * shape.group, scope.rows
    columns = (heads + 2 * shape.kv_heads) * shape.head_dim
    qkv = normal(rows, columns, dtype=shape.dtype, device=device)
    angles = 6.28 * torch.rand(4096, shape.head_dim // 2, device=device)
    cos_sin = torch.cat((angles.cos(), angles.sin()), -1)
    positions = torch.randint(4096, (rows,), device=device)
    blocks = -(-rows // scope.block_tokens)
    slots = torch.randperm(blocks * scope.block_tokens, device=device)[:rows]
    slots[::7] = -1  # padding
    weights: tuple[Tensor | None, Tensor | None] = (None, None)
    if normed:
        drawn = normal(2, shape.head_dim, dtype=shape.dtype, device=device)
        weights = (drawn[0], drawn[1])
    size = (blocks, 2, scope.block_tokens, shape.kv_heads, shape.head_dim)
    pool = normal(*size, dtype=shape.dtype, device=device)
    wanted_pool = pool.clone()
    args = (qkv, cos_sin, positions, slots)
    with unwritten_memory_is_nan():
        q = kernels.rope_kv_write(*args, pool[:, 0], pool[:, 1], heads, *weights)
    near = (wanted_pool[:, 0], wanted_pool[:, 1])
    wanted = rope_kv_write_torch(*args, *near, heads, *weights)
    return worst(error(q, wanted), error(pool, wanted_pool))


def _norm(rows: int, width: int, dtype: torch.dtype, device: str) -> float:
    x, weight = (normal(*size, dtype=dtype, device=device) for size in ((rows, width), (width,)))
    with unwritten_memory_is_nan():
        out = kernels.rms_norm(x, weight, 1e-5)
    return error(out, rms_norm_torch(x, weight, 1e-5))


def _add_norm(rows: int, width: int, dtype: torch.dtype, device: str) -> float:
    x, residual = (normal(rows, width, dtype=dtype, device=device) for _ in range(2))
    weight = normal(width, dtype=dtype, device=device)
    kept = residual.clone()
    wanted = add_rms_norm_torch(x, kept, weight, 1e-5)
    with unwritten_memory_is_nan():
        out = kernels.add_rms_norm(x, residual, weight, 1e-5)
    return worst(error(out, wanted), error(residual, kept))


def _silu(rows: int, width: int, dtype: torch.dtype, device: str) -> float:
    gate_up = normal(rows, 2 * width, dtype=dtype, device=device)
    with unwritten_memory_is_nan():
        out = kernels.silu_mul(gate_up)
    return error(out, silu_mul_torch(gate_up))
