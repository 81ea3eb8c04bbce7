"""One forward pass as tensors: which tokens run, where they stand, and where their K/V lives."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one sequence to run now: `tokens` stand at positions `start`, `start + 1`, ...

    `blocks` holds the ids of the KV blocks of the sequence in order; they must cover the stretch.
    """

    tokens: Sequence[int]
    start: int
    blocks: Sequence[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """T tokens of B sequences. The tuples repeat on the host what a CPU pass must not read back."""

    tokens: Tensor  # [T] int64
    positions: Tensor  # [T] int64
    slots: Tensor  # [T] int64: block * block_tokens + offset; -1 is padding and is written nowhere
    block_tables: Tensor  # [B, most blocks of a sequence] int32, padded with 0
    cu_seqlens: Tensor  # [B + 1] int32: sequence i owns rows cu_seqlens[i] to cu_seqlens[i + 1]
    seq_lens: Tensor  # [B] int32: tokens with K/V once this pass has run
    max_q: int  # most tokens of one sequence in this pass; 1 means that every row is a decode row
    q_lens: tuple[int, ...]  # [B]
    kv_lens: tuple[int, ...]  # [B], the values of seq_lens
    stretches: int  # the first P sequences: those behind them have one token each
    stretch_rows: int  # of those P; each later row is a sequence of its own


def make_batch(items: Sequence[Span], block_tokens: int, device: torch.device | str) -> Batch:
    """The batch that runs `items`, in their order. A span may be a prompt, a chunk or one token."""
    _check(items, block_tokens)
    q_lens = tuple(len(span.tokens) for span in items)
    kv_lens = tuple(span.start + len(span.tokens) for span in items)
    positions = list(chain.from_iterable(map(range, (s.start for s in items), kv_lens)))
    width = max(len(span.blocks) for span in items)
    stretches = max((i + 1 for i, length in enumerate(q_lens) if length > 1), default=0)

    def ints(values: Sequence[int] | list[list[int]], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    return Batch(
        tokens=ints(list(chain.from_iterable(s.tokens for s in items)), torch.int64),
        positions=ints(positions, torch.int64),
        slots=ints(_slots(items, block_tokens), torch.int64),
        block_tables=ints(
            [[*s.blocks, *[0] * (width - len(s.blocks))] for s in items], torch.int32
        ),
        cu_seqlens=ints(list(accumulate(q_lens, initial=0)), torch.int32),
        seq_lens=ints(kv_lens, torch.int32),
        max_q=max(q_lens),
        q_lens=q_lens,
        kv_lens=kv_lens,
        stretches=stretches,
        stretch_rows=sum(q_lens[:stretches]),
    )


def _slots(items: Sequence[Span], block_tokens: int) -> list[int]:
    return [
        span.blocks[position // block_tokens] * block_tokens + position % block_tokens
        for span in items
        for position in range(span.start, span.start + len(span.tokens))
    ]


def _check(items: Sequence[Span], block_tokens: int) -> None:
    if not items:
        raise ValueError("a batch needs at least one span")
    for span in items:
        end = span.start + len(span.tokens)
        if not span.tokens or span.start < 0 or end > len(span.blocks) * block_tokens:
            raise ValueError(
                f"tokens {span.start}..{end} do not fit {len(span.blocks)} blocks of {block_tokens}"
            )
