"""The step that both attention kernels share: fold one tile of paged tokens into the softmax."""

from __future__ import annotations

from splitwise_worker.kernels.triton_backend import jit, tl


@jit
def fold_tile(
    q: tl.tensor,
    peak: tl.tensor,
    total: tl.tensor,
    acc: tl.tensor,
    k_head: tl.tensor,
    v_head: tl.tensor,
    table: tl.tensor,
    start: tl.tensor,
    end: tl.tensor,
    limit: tl.tensor,
    scale_log2e: tl.tensor,
    kv_block_stride: tl.tensor,
    kv_token_stride: tl.tensor,
    MASKED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    TILE: tl.constexpr,
    DOT: tl.constexpr,
) -> tl.tensor:
    """(peak, total, acc) of each row of `q` after the tokens [start, start + TILE).

    MASKED: tokens from `end` on are not read, and row r sees only tokens up to limit[r]. Every
    row must see a token by its first tile, or its peak stays -inf and the row becomes NaN.
    """
    token = start + tl.arange(0, TILE)
    d = tl.arange(0, HEAD_DIM)
    if MASKED:
        there = token < end
        block = tl.load(table + token // BLOCK_TOKENS, mask=there, other=0)
    else:
        block = tl.load(table + token // BLOCK_TOKENS)
    # int64: a pool passes 2**31 elements
    offset = block.to(tl.int64) * kv_block_stride + (token % BLOCK_TOKENS) * kv_token_stride
    if MASKED:
        k = tl.load(k_head + offset[None, :] + d[:, None], mask=there[None, :], other=0.0)
    else:
        k = tl.load(k_head + offset[None, :] + d[:, None])
    score = tl.dot(q, k.to(DOT), input_precision="ieee") * scale_log2e
    if MASKED:
        score = tl.where(token[None, :] <= limit[:, None], score, float("-inf"))
    new_peak = tl.maximum(peak, tl.max(score, 1))
    p = tl.exp2(score - new_peak[:, None])
    shrink = tl.exp2(peak - new_peak)
    if MASKED:
        # 0 for what is not there: an unused slot may hold NaN, and 0 * NaN is NaN
        v = tl.load(v_head + offset[:, None] + d[None, :], mask=there[:, None], other=0.0)
    else:
        v = tl.load(v_head + offset[:, None] + d[None, :])
    fresh = tl.dot(p.to(DOT), v.to(DOT), input_precision="ieee")
    return new_peak, total * shrink + tl.sum(p, 1), acc * shrink[:, None] + fresh
