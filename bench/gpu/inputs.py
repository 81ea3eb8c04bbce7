"""Random inputs as the worker has them: paged K/V in blocks of any order, ragged lengths."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from splitwise_worker.loaded import BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Paged:
    """A KV pool of which each sequence owns some blocks; `layers[i]` are the K and V of layer i."""

    layers: list[tuple[Tensor, Tensor]]
    tables: Tensor
    seq_lens: Tensor


def normal(*size: int, dtype: torch.dtype, device: str) -> Tensor:
    """Fresh normal numbers."""
    return torch.empty(size, dtype=dtype, device=device).normal_()


def ints(values: Sequence[int], device: str) -> Tensor:
    """int32 on the device."""
    return torch.tensor(values, dtype=torch.int32, device=device)


def paged(
    lens: Sequence[int],
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    device: str,
    layers: int = 1,
    block_tokens: int = BLOCK_TOKENS,
) -> Paged:
    """K/V for sequences of `lens` tokens in shuffled blocks.

    Block 0 is nobody's, and it and the unused end of each last block are NaN: no kernel may
    read them.
    """
    counts = [-(-length // block_tokens) for length in lens]
    order = (1 + torch.randperm(sum(counts))).int()
    tables = torch.zeros(len(lens), max(1, *counts), dtype=torch.int32)
    shape = (1 + sum(counts), layers, 2, block_tokens, kv_heads, head_dim)
    pool = normal(*shape, dtype=dtype, device=device)
    pool[0] = torch.nan
    for i, blocks in enumerate(order.split(counts)):
        tables[i, : len(blocks)] = blocks
        used = lens[i] % block_tokens
        if used:
            pool[int(blocks[-1]), :, :, used:] = torch.nan
    views = [(pool[:, layer, 0], pool[:, layer, 1]) for layer in range(layers)]
    return Paged(views, tables.to(device), ints(lens, device))


def error(out: Tensor, reference: Tensor) -> float:
    """‖out - reference‖ / ‖reference‖, no unit; NaN when an element of `out` is NaN."""
    wanted = reference.double()
    return float((out.double() - wanted).norm() / wanted.norm())


def worst(*errors: float) -> float:
    """The largest of them; NaN when one is NaN, which `max` would lose."""
    return math.nan if any(map(math.isnan, errors)) else max(errors)


@contextmanager
def unwritten_memory_is_nan() -> Iterator[None]:
    """Within it every new tensor is filled with NaN, so that an element left out shows."""
    torch.set_deterministic_debug_mode("warn")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode("default")
