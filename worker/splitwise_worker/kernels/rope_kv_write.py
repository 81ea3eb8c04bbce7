"""From the fused projection to attention's inputs: normalise and rotate q and k, store k and v."""

from __future__ import annotations

import torch
from torch import Tensor

from splitwise_worker.kernels.paged import check_paged
from splitwise_worker.kernels.rms_norm import rms_norm_torch
from splitwise_worker.kernels.triton_backend import Launch, jit, serves, tl


def rope_kv_write(
    qkv: Tensor,
    cos_sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    num_heads: int,
    q_weight: Tensor | None = None,
    k_weight: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """Rotated queries [T, H, D]; writes the rotated keys and the values of the T tokens.

    `qkv` is [T, (H + 2 KVH) * D] in the order q, k, v; `cos_sin` [max_pos, D] in float32 holds
    cosines, then sines; a head's halves are rotated against each other (x[i] with x[i + D/2]).
    `slots` says block * block_tokens + offset for each token; -1 is padding and writes nothing.
    With `q_weight` and `k_weight` [D] each head is RMS-normalised first.
    """
    if not serves(qkv):
        return rope_kv_write_torch(
            qkv, cos_sin, positions, slots, k_cache, v_cache, num_heads, q_weight, k_weight, eps
        )
    q = qkv.new_empty(len(qkv), num_heads, k_cache.shape[3])
    check_paged(q, k_cache, v_cache)
    plan_rope(q, qkv, cos_sin, positions, slots, k_cache, v_cache, q_weight, k_weight, eps).run()
    return q


def rope_kv_write_torch(
    qkv: Tensor,
    cos_sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    num_heads: int,
    q_weight: Tensor | None = None,
    k_weight: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """The formula, in float32 and rounded once."""
    block_tokens, kv_heads, head_dim = k_cache.shape[1:]
    heads = qkv.unflatten(-1, (-1, head_dim))
    q, k, v = heads.split([num_heads, kv_heads, kv_heads], 1)
    cos, sin = cos_sin[positions][:, None].chunk(2, -1)

    def rotate(x: Tensor, weight: Tensor | None) -> Tensor:
        x = x.float() if weight is None else rms_norm_torch(x.float(), weight, eps)
        low, high = x.chunk(2, -1)
        return torch.cat((low * cos - high * sin, high * cos + low * sin), -1)

    kept = slots >= 0
    block, offset = slots[kept] // block_tokens, slots[kept] % block_tokens
    k_cache[block, offset] = rotate(k, k_weight)[kept].to(k_cache.dtype)
    v_cache[block, offset] = v[kept].to(v_cache.dtype)
    return rotate(q, q_weight).to(qkv.dtype)


def plan_rope(
    q: Tensor,
    qkv: Tensor,
    cos_sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    eps: float,
) -> Launch:
    """The launch that fills `q` (contiguous) and the slots of both caches."""
    tokens, heads, head_dim = q.shape
    block_tokens, kv_heads = k_cache.shape[1:3]
    tile = 16  # heads: two tiles of 16 x 64 values give each of 128 threads 16-byte bf16 loads
    return Launch(
        kernel=_rope_kv_write,
        grid=(tokens, -(-(heads + 2 * kv_heads) // tile)),
        args={
            "q": q,
            "qkv": qkv,
            "cos_sin": cos_sin,
            "positions": positions,
            "slots": slots,
            "k_cache": k_cache,
            "v_cache": v_cache,
            "q_weight": q_weight,
            "k_weight": k_weight,
            "eps": eps,
            "qkv_stride": qkv.stride(0),
            "kv_block_stride": k_cache.stride(0),
            "kv_token_stride": k_cache.stride(1),
            "kv_head_stride": k_cache.stride(2),
        },
        constants={
            "HEADS": heads,
            "KV_HEADS": kv_heads,
            "HALF": head_dim // 2,
            "BLOCK_TOKENS": block_tokens,
            "TILE": tile,
            "NORM": q_weight is not None,
        },
    )


@jit
def _rope_kv_write(
    q: tl.tensor,
    qkv: tl.tensor,
    cos_sin: tl.tensor,
    positions: tl.tensor,
    slots: tl.tensor,
    k_cache: tl.tensor,
    v_cache: tl.tensor,
    q_weight: tl.tensor,
    k_weight: tl.tensor,
    eps: tl.tensor,
    qkv_stride: tl.tensor,
    kv_block_stride: tl.tensor,
    kv_token_stride: tl.tensor,
    kv_head_stride: tl.tensor,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    TILE: tl.constexpr,
    NORM: tl.constexpr,
) -> None:
    """One program: TILE of the q, k and v heads of one token. grid = (tokens, tiles of heads)."""
    token = tl.program_id(0).to(tl.int64)
    head = (tl.program_id(1) * TILE + tl.arange(0, TILE))[:, None]
    i = tl.arange(0, HALF)[None, :]
    is_q = head < HEADS
    is_k = (head >= HEADS) & (head < HEADS + KV_HEADS)
    is_v = (head >= HEADS + KV_HEADS) & (head < HEADS + 2 * KV_HEADS)
    source = qkv + token * qkv_stride + head * (2 * HALF) + i
    there = is_q | is_k | is_v
    low = tl.load(source, mask=there, other=0.0).to(tl.float32)
    high = tl.load(source + HALF, mask=there, other=0.0).to(tl.float32)

    slot = tl.load(slots + token).to(tl.int64)
    kept = slot >= 0
    place = (slot // BLOCK_TOKENS) * kv_block_stride + (slot % BLOCK_TOKENS) * kv_token_stride
    v_place = v_cache + place + (head - HEADS - KV_HEADS) * kv_head_stride + i
    tl.store(v_place, low.to(v_cache.dtype.element_ty), mask=is_v & kept)
    tl.store(v_place + HALF, high.to(v_cache.dtype.element_ty), mask=is_v & kept)

    if NORM:
        squares = tl.sum(low * low, 1) + tl.sum(high * high, 1)
        scale = tl.rsqrt(squares / (2 * HALF) + eps)[:, None]
        q_low, k_low = tl.load(q_weight + i), tl.load(k_weight + i)
        q_high, k_high = tl.load(q_weight + HALF + i), tl.load(k_weight + HALF + i)
        low *= scale * tl.where(is_q, q_low.to(tl.float32), k_low.to(tl.float32))
        high *= scale * tl.where(is_q, q_high.to(tl.float32), k_high.to(tl.float32))
    angle = cos_sin + tl.load(positions + token).to(tl.int64) * (2 * HALF) + i
    cos, sin = tl.load(angle), tl.load(angle + HALF)
    turned_low = low * cos - high * sin
    turned_high = high * cos + low * sin

    q_place = q + (token * HEADS + head) * (2 * HALF) + i
    tl.store(q_place, turned_low.to(q.dtype.element_ty), mask=is_q)
    tl.store(q_place + HALF, turned_high.to(q.dtype.element_ty), mask=is_q)
    k_place = k_cache + place + (head - HEADS) * kv_head_stride + i
    tl.store(k_place, turned_low.to(k_cache.dtype.element_ty), mask=is_k & kept)
    tl.store(k_place + HALF, turned_high.to(k_cache.dtype.element_ty), mask=is_k & kept)
