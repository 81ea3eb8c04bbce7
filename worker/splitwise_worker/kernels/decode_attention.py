"""Attention of one query token per sequence over its paged K/V, split along the tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from splitwise_worker.kernels.paged import check_paged, gather_tokens
from splitwise_worker.kernels.running_softmax import fold_tile
from splitwise_worker.kernels.tiles import decode_splits, decode_tiles
from splitwise_worker.kernels.triton_backend import (
    LOG2E,
    Chip,
    Launch,
    chip_of,
    dot_type,
    jit,
    jit_paged,
    next_power_of_2,
    serves,
    tl,
)


def decode_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    splits: int | None = None,
) -> Tensor:
    """softmax(q k^T * scale) v of each sequence's newest token over all its tokens: [B, H, D].

    The K/V of the seq_lens[i] tokens, the newest included, stand in the blocks of block_tables[i];
    a length of 0 gives zeros. Lengths are read on the device only and shapes depend on the batch
    size only, so the call may be captured in a CUDA graph. `splits` is how many programs share one
    sequence; None chooses it from the batch size, the chip and the width of the block tables.
    """
    tensors = (q, k_cache, v_cache, block_tables, seq_lens)
    if not serves(q):
        return decode_attention_torch(*tensors, scale)
    check_paged(q, k_cache, v_cache)
    chip = chip_of(q)
    if splits is None:
        most_tokens = block_tables.shape[1] * k_cache.shape[1]
        tile = decode_tiles(chip.arch, q.shape[2], q.shape[1] // k_cache.shape[2]).tokens
        splits = decode_splits(
            len(q), k_cache.shape[2], chip.multiprocessors, most_tokens=most_tokens, tile=tile
        )
    out = q.new_empty(q.shape)
    if splits == 1:  # the only part is the answer
        plan_decode(out, None, *tensors, scale, 1, chip).run()
        return out
    # Freed on return: inside a graph every layer gets the same bytes of the graph's memory again.
    parts = q.new_empty(*q.shape[:2], splits, q.shape[2], dtype=torch.float32)
    log_sums = q.new_empty(*q.shape[:2], splits, dtype=torch.float32)
    plan_decode(parts, log_sums, *tensors, scale, splits, chip).run()
    plan_merge(out, parts, log_sums).run()
    return out


def decode_attention_torch(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
) -> Tensor:
    """The formula, in float32, one sequence at a time."""
    out = torch.zeros_like(q)
    for i, kv_len in enumerate(seq_lens.tolist()):
        if kv_len == 0:
            continue
        k = gather_tokens(k_cache, block_tables[i], kv_len).float()
        v = gather_tokens(v_cache, block_tables[i], kv_len).float()
        heads = q[i].float().unflatten(0, (k_cache.shape[2], -1))  # [KV heads, group, D]
        weight = (torch.einsum("hgd,nhd->hgn", heads, k) * scale).softmax(-1)
        out[i] = torch.einsum("hgn,nhd->hgd", weight, v).flatten(0, 1).to(q.dtype)
    return out


def plan_decode(
    out: Tensor,
    log_sums: Tensor | None,
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    splits: int,
    chip: Chip,
) -> Launch:
    """The launch that attends; fills `out` [B, H, D], or with `log_sums` [B, H, splits] the parts.

    Parts are [B, H, splits, D] in float32, each normalised over its own tokens; `log_sums` are
    the base-2 logarithms of their softmax sums, -inf for a part with no tokens.
    """
    heads, head_dim = q.shape[1:]
    kv_heads = k_cache.shape[2]
    group = heads // kv_heads
    tiles = decode_tiles(chip.arch, head_dim, group)
    return Launch(
        kernel=_decode,
        grid=(len(q), kv_heads, splits),
        args={
            "out": out,
            "log_sums": log_sums,
            "q": q,
            "k_cache": k_cache,
            "v_cache": v_cache,
            "block_tables": block_tables,
            "seq_lens": seq_lens,
            "scale_log2e": scale * LOG2E,
            "q_seq_stride": q.stride(0),
            "q_head_stride": q.stride(1),
            "kv_block_stride": k_cache.stride(0),
            "kv_token_stride": k_cache.stride(1),
            "kv_head_stride": k_cache.stride(2),
            "table_stride": block_tables.stride(0),
        },
        constants={
            "HEADS": heads,
            "GROUP": group,
            "ROWS": tiles.rows,
            "HEAD_DIM": head_dim,
            "BLOCK_TOKENS": k_cache.shape[1],
            "TILE": tiles.tokens,
            "SPLITS": splits,
            "DOT": dot_type(q.dtype),
        },
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )


def plan_merge(out: Tensor, parts: Tensor, log_sums: Tensor) -> Launch:
    """The launch that merges parts into `out` [B, H, D].

    A second launch rather than the last program to finish: the order of kernels on a stream needs
    no proof, while a counter across programs must first pass a race checker on a GPU.
    """
    batch, heads, splits, head_dim = parts.shape
    return Launch(
        kernel=_merge,
        grid=(batch, heads),
        args={"out": out, "parts": parts, "log_sums": log_sums},
        constants={
            "HEADS": heads,
            "HEAD_DIM": head_dim,
            "SPLITS": splits,
            "SPLITS_PADDED": next_power_of_2(splits),
        },
    )


@jit_paged
def _decode(
    out: tl.tensor,
    log_sums: tl.tensor,
    q: tl.tensor,
    k_cache: tl.tensor,
    v_cache: tl.tensor,
    block_tables: tl.tensor,
    seq_lens: tl.tensor,
    scale_log2e: tl.tensor,
    q_seq_stride: tl.tensor,
    q_head_stride: tl.tensor,
    kv_block_stride: tl.tensor,
    kv_token_stride: tl.tensor,
    kv_head_stride: tl.tensor,
    table_stride: tl.tensor,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    TILE: tl.constexpr,
    SPLITS: tl.constexpr,
    DOT: tl.constexpr,
) -> None:
    """One program: the GROUP query heads of one KV head over one of SPLITS runs of whole tiles.

    grid = (sequences, KV heads, SPLITS). Each program finds its run from the length by itself.
    """
    seq, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    kv_len = tl.load(seq_lens + seq)
    run = (kv_len + SPLITS * TILE - 1) // (SPLITS * TILE) * TILE
    begin = split * run
    end = tl.minimum(begin + run, kv_len)
    row = tl.arange(0, ROWS)
    d = tl.arange(0, HEAD_DIM)
    there = row < GROUP
    head = kv_head * GROUP + row
    q_row = seq * q_seq_stride + head * q_head_stride
    queries = tl.load(q + q_row[:, None] + d[None, :], mask=there[:, None], other=0.0).to(DOT)
    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.full([ROWS], 0.0, tl.float32)
    acc = tl.full([ROWS, HEAD_DIM], 0.0, tl.float32)
    k_head = k_cache + kv_head * kv_head_stride
    v_head = v_cache + kv_head * kv_head_stride
    table = block_tables + seq * table_stride
    limit = tl.full([ROWS], 0, tl.int32) + end - 1  # every row sees the whole run
    for start in range(begin, end, TILE):
        peak, total, acc = fold_tile(
            queries, peak, total, acc, k_head, v_head, table, start, end, limit, scale_log2e,
            kv_block_stride, kv_token_stride, True, HEAD_DIM, BLOCK_TOKENS, TILE, DOT,
        )  # fmt: skip
    total = tl.where(total > 0.0, total, 1.0)  # an empty run is zeros with a log sum of -inf
    mixed = acc / total[:, None]
    place = (seq * HEADS + head) * SPLITS + split
    store = there & (end > begin) if SPLITS > 1 else there
    tl.store(
        out + place[:, None] * HEAD_DIM + d[None, :],
        mixed.to(out.dtype.element_ty),
        mask=store[:, None],
    )
    if SPLITS > 1:
        tl.store(log_sums + place, peak + tl.log2(total), mask=there)


@jit
def _merge(
    out: tl.tensor,
    parts: tl.tensor,
    log_sums: tl.tensor,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    SPLITS: tl.constexpr,
    SPLITS_PADDED: tl.constexpr,
) -> None:
    """One program: one query head of one sequence. grid = (sequences, query heads)."""
    place = tl.program_id(0).to(tl.int64) * HEADS + tl.program_id(1)
    split = tl.arange(0, SPLITS_PADDED)
    d = tl.arange(0, HEAD_DIM)
    log_sum = tl.load(log_sums + place * SPLITS + split, mask=split < SPLITS, other=float("-inf"))
    used = log_sum > float("-inf")  # an unused part was never written
    highest = tl.maximum(tl.max(log_sum, 0), -1e30)  # finite, so that no part at all gives zeros
    weight = tl.exp2(log_sum - highest)
    part = tl.load(
        parts + (place * SPLITS + split)[:, None] * HEAD_DIM + d[None, :],
        mask=used[:, None],
        other=0.0,
    )
    total = tl.sum(weight, 0)
    mixed = tl.sum(part * weight[:, None], 0) / tl.where(total > 0.0, total, 1.0)
    tl.store(out + place * HEAD_DIM + d, mixed.to(out.dtype.element_ty))
