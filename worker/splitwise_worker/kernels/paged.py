"""What both attention kernels and the KV write expect of a paged K/V view, and reading one."""

from torch import Tensor


def check_paged(q: Tensor, k_cache: Tensor, v_cache: Tensor) -> None:
    """Raises ValueError for a layout the kernels would read wrongly. Reads shapes only."""
    if k_cache.shape != v_cache.shape or k_cache.stride() != v_cache.stride():
        raise ValueError(f"k_cache {k_cache.shape} and v_cache {v_cache.shape} differ in layout")
    if k_cache.stride(3) != 1 or q.stride(2) != 1:
        raise ValueError("the head dimension of q, k_cache and v_cache must be contiguous")
    if q.shape[2] != k_cache.shape[3] or q.shape[1] % k_cache.shape[2]:
        raise ValueError(f"q {tuple(q.shape)} does not fit k_cache {tuple(k_cache.shape)}")


def gather_tokens(cache: Tensor, block_table: Tensor, count: int) -> Tensor:
    """The first `count` tokens of one sequence, in order: [count, kv_heads, head_dim], a copy."""
    blocks = -(-count // cache.shape[1])
    return cache[block_table[:blocks].long()].flatten(0, 1)[:count]
