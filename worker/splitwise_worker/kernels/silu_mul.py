"""The gated activation of the feed-forward layer."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from splitwise_worker.kernels.triton_backend import Launch, jit, serves, tl


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up for `gate_up` [T, 2F], gate in the first half: [T, F] in its type."""
    if not serves(gate_up):
        return silu_mul_torch(gate_up)
    out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
    plan_silu_mul(out, gate_up).run()
    return out


def silu_mul_torch(gate_up: Tensor) -> Tensor:
    """The formula, in float32 and rounded once."""
    gate, up = gate_up.float().chunk(2, -1)
    return (F.silu(gate) * up).to(gate_up.dtype)


def plan_silu_mul(out: Tensor, gate_up: Tensor) -> Launch:
    """The launch that fills `out` [T, F] (contiguous)."""
    rows, width = out.shape
    tile = 1024  # 8 values a thread: one 16-byte load each of gate and up in bf16
    return Launch(
        kernel=_silu_mul,
        grid=(rows, -(-width // tile)),
        args={"out": out, "gate_up": gate_up, "row_stride": gate_up.stride(0)},
        constants={"WIDTH": width, "TILE": tile},
    )


@jit
def _silu_mul(
    out: tl.tensor,
    gate_up: tl.tensor,
    row_stride: tl.tensor,
    WIDTH: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """One program: one TILE of one row. grid = (rows, tiles of a row)."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * TILE + tl.arange(0, TILE)
    there = column < WIDTH
    source = gate_up + row * row_stride + column
    gate = tl.load(source, mask=there, other=0.0).to(tl.float32)
    up = tl.load(source + WIDTH, mask=there, other=0.0).to(tl.float32)
    value = gate * tl.sigmoid(gate) * up
    tl.store(out + row * WIDTH + column, value.to(out.dtype.element_ty), mask=there)
