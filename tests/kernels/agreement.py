"""What all kernel cases share: the device, how far is too far, and a layer of a KV pool."""

import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Of `error`: float32 kernels multiply in float32, the others round operands and results."""


def error(out: Tensor, reference: Tensor) -> float:
    """‖out - reference‖ / ‖reference‖, no unit; NaN when an element of `out` is NaN."""
    wanted = reference.double()
    return float((out.double() - wanted).norm() / wanted.norm())


def randn(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Fresh normal numbers on the device."""
    return torch.randn(*size).to(DEVICE, dtype)


def ints(values: list[int]) -> Tensor:
    """int32 on the device, as lengths and offsets are."""
    return torch.tensor(values, dtype=torch.int32, device=DEVICE)


def paged_kv(
    lens: list[int], kv_heads: int, head_dim: int, dtype: torch.dtype, block_tokens: int = 16
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer's K and V views of a pool, and block tables that walk it in random order.

    NaN stands wherever a kernel must not read: in slots without a token, in the other layer and in
    block 0, which is nobody's and which a masked look-up yields.
    """
    width = max(1, -(-max(lens) // block_tokens))
    tables = 1 + torch.randperm(len(lens) * width).view(len(lens), width).int()
    pool = torch.full((1 + len(lens) * width, 2, 2, block_tokens, kv_heads, head_dim), float("nan"))
    for i, kv_len in enumerate(lens):
        for token in range(kv_len):
            block = int(tables[i, token // block_tokens])
            pool[block, 1, :, token % block_tokens] = torch.randn(2, kv_heads, head_dim)
    pool = pool.to(DEVICE, dtype)
    return pool[:, 1, 0], pool[:, 1, 1], tables.to(DEVICE)
