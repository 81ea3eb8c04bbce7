"""Causal attention of many query tokens per sequence over its paged K/V."""

from __future__ import annotations

import torch
from torch import Tensor

from splitwise_worker.kernels.paged import check_paged, gather_tokens
from splitwise_worker.kernels.running_softmax import fold_tile
from splitwise_worker.kernels.tiles import prefill_tiles
from splitwise_worker.kernels.triton_backend import (
    LOG2E,
    Chip,
    Launch,
    chip_of,
    dot_type,
    jit_paged,
    serves,
    tl,
)


def prefill_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    cu_seqlens: Tensor,
    seq_lens: Tensor,
    max_q: int,
    scale: float,
) -> Tensor:
    """softmax(q k^T * scale) v for each query token over the tokens up to its own: [T, H, D].

    Sequence i owns the rows cu_seqlens[i] to cu_seqlens[i + 1], at most `max_q` of them; they are
    the last of its seq_lens[i] tokens, whose K/V all stand in the blocks of block_tables[i].
    So a whole prompt, a later chunk of it and what follows a cached prefix are the same call.
    """
    tensors = (q, k_cache, v_cache, block_tables, cu_seqlens, seq_lens)
    if not serves(q):
        return prefill_attention_torch(*tensors, max_q, scale)
    check_paged(q, k_cache, v_cache)
    out = q.new_empty(q.shape)
    plan_prefill(out, *tensors, max_q, scale, chip_of(q)).run()
    return out


def prefill_attention_torch(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    cu_seqlens: Tensor,
    seq_lens: Tensor,
    max_q: int,
    scale: float,
) -> Tensor:
    """The formula, in float32, one sequence and one KV head at a time. `max_q` is not needed."""
    out = torch.empty_like(q)
    kv_heads = k_cache.shape[2]
    for i, kv_len in enumerate(seq_lens.tolist()):
        first, last = cu_seqlens[i : i + 2].tolist()
        position = torch.arange(kv_len - (last - first), kv_len, device=q.device)
        future = torch.arange(kv_len, device=q.device) > position[:, None]  # [queries, tokens]
        k = gather_tokens(k_cache, block_tables[i], kv_len).float()
        v = gather_tokens(v_cache, block_tables[i], kv_len).float()
        rows = q[first:last].float().unflatten(1, (kv_heads, -1))  # [queries, KV heads, group, D]
        for head in range(kv_heads):
            score = torch.einsum("qgd,nd->gqn", rows[:, head], k[:, head]) * scale
            weight = score.masked_fill(future, float("-inf")).softmax(-1)
            mixed = torch.einsum("gqn,nd->qgd", weight, v[:, head])
            out[first:last].unflatten(1, (kv_heads, -1))[:, head] = mixed.to(q.dtype)
    return out


def plan_prefill(
    out: Tensor,
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    cu_seqlens: Tensor,
    seq_lens: Tensor,
    max_q: int,
    scale: float,
    chip: Chip,
) -> Launch:
    """The launch that fills `out` (contiguous). Reads no tensor: they may be on the meta device."""
    heads, head_dim = q.shape[1:]
    kv_heads = k_cache.shape[2]
    group = heads // kv_heads
    tiles = prefill_tiles(chip.arch, head_dim, q.element_size())
    return Launch(
        kernel=_prefill,
        grid=(-(-max_q // (tiles.rows // group)), kv_heads, len(seq_lens)),
        args={
            "out": out,
            "q": q,
            "k_cache": k_cache,
            "v_cache": v_cache,
            "block_tables": block_tables,
            "cu_seqlens": cu_seqlens,
            "seq_lens": seq_lens,
            "scale_log2e": scale * LOG2E,
            "q_token_stride": q.stride(0),
            "q_head_stride": q.stride(1),
            "kv_block_stride": k_cache.stride(0),
            "kv_token_stride": k_cache.stride(1),
            "kv_head_stride": k_cache.stride(2),
            "table_stride": block_tables.stride(0),
        },
        constants={
            "HEADS": heads,
            "GROUP": group,
            "HEAD_DIM": head_dim,
            "BLOCK_TOKENS": k_cache.shape[1],
            "ROWS": tiles.rows,
            "TILE": tiles.tokens,
            "DOT": dot_type(q.dtype),
        },
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )


@jit_paged
def _prefill(
    out: tl.tensor,
    q: tl.tensor,
    k_cache: tl.tensor,
    v_cache: tl.tensor,
    block_tables: tl.tensor,
    cu_seqlens: tl.tensor,
    seq_lens: tl.tensor,
    scale_log2e: tl.tensor,
    q_token_stride: tl.tensor,
    q_head_stride: tl.tensor,
    kv_block_stride: tl.tensor,
    kv_token_stride: tl.tensor,
    kv_head_stride: tl.tensor,
    table_stride: tl.tensor,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    DOT: tl.constexpr,
) -> None:
    """One program: ROWS // GROUP tokens times the GROUP query heads of one KV head.

    grid = (query tiles, KV heads, sequences). Late tiles see the most tokens and start first.
    """
    QUERIES: tl.constexpr = ROWS // GROUP
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    kv_head, seq = tl.program_id(1), tl.program_id(2)
    first_row = tl.load(cu_seqlens + seq)
    q_len = tl.load(cu_seqlens + seq + 1) - first_row
    if tile * QUERIES >= q_len:
        return
    kv_len = tl.load(seq_lens + seq)
    row = tl.arange(0, ROWS)
    token = tile * QUERIES + row // GROUP
    head = kv_head * GROUP + row % GROUP
    d = tl.arange(0, HEAD_DIM)
    # ROWS need not be a multiple of GROUP; the rows left over belong to the next tile
    there = (row // GROUP < QUERIES) & (token < q_len)
    q_row = (first_row + token).to(tl.int64) * q_token_stride + head * q_head_stride
    queries = tl.load(q + q_row[:, None] + d[None, :], mask=there[:, None], other=0.0).to(DOT)
    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.full([ROWS], 0.0, tl.float32)
    acc = tl.full([ROWS, HEAD_DIM], 0.0, tl.float32)

    k_head = k_cache + kv_head * kv_head_stride
    v_head = v_cache + kv_head * kv_head_stride
    table = block_tables + seq * table_stride
    limit = kv_len - q_len + token  # a row's own position
    first = kv_len - q_len + tile * QUERIES  # every row sees all tokens before this one
    end = tl.minimum(first + QUERIES, kv_len)
    full = first // TILE * TILE
    for start in range(0, full, TILE):
        peak, total, acc = fold_tile(
            queries, peak, total, acc, k_head, v_head, table, start, end, limit, scale_log2e,
            kv_block_stride, kv_token_stride, False, HEAD_DIM, BLOCK_TOKENS, TILE, DOT,
        )  # fmt: skip
    for start in range(full, end, TILE):
        peak, total, acc = fold_tile(
            queries, peak, total, acc, k_head, v_head, table, start, end, limit, scale_log2e,
            kv_block_stride, kv_token_stride, True, HEAD_DIM, BLOCK_TOKENS, TILE, DOT,
        )  # fmt: skip
    out_row = (first_row + token).to(tl.int64) * HEADS + head
    mixed = (acc / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + out_row[:, None] * HEAD_DIM + d[None, :], mixed, mask=there[:, None])
