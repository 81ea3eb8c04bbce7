"""RMS normalisation of rows, alone or after adding the residual stream."""

from __future__ import annotations

import torch
from torch import Tensor

from splitwise_worker.kernels.triton_backend import (
    Launch,
    jit,
    next_power_of_2,
    serves,
    tl,
)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension of [T, W], in x's type."""
    if not serves(x):
        return rms_norm_torch(x, weight, eps)
    out = x.new_empty(x.shape)
    plan_rms_norm(out, x, None, weight, eps).run()
    return out


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
    """rms_norm(x + residual). Changes `residual` into that sum, rounded to its type, in place."""
    if not serves(x):
        return add_rms_norm_torch(x, residual, weight, eps)
    out = x.new_empty(x.shape)
    plan_rms_norm(out, x, residual, weight, eps).run()
    return out


def rms_norm_torch(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The formula, in float32 and rounded once."""
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * scale * weight.float()).to(x.dtype)


def add_rms_norm_torch(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The formula: what is normalised is the sum as the residual keeps it, already rounded."""
    return rms_norm_torch(residual.add_(x), weight, eps)


def plan_rms_norm(
    out: Tensor, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float
) -> Launch:
    """The launch that fills `out` (contiguous), and `residual` if there is one."""
    rows, width = x.shape
    return Launch(
        kernel=_rms_norm,
        grid=(rows,),
        args={
            "out": out,
            "x": x,
            "residual": residual,
            "weight": weight,
            "eps": eps,
            "x_stride": x.stride(0),
            "residual_stride": 0 if residual is None else residual.stride(0),
        },
        constants={
            "WIDTH": width,
            "BLOCK": next_power_of_2(width),
            "ADD": residual is not None,
        },
        num_warps=min(16, max(4, next_power_of_2(width) // 512)),  # to 8192: 16 values a thread
    )


@jit
def _rms_norm(
    out: tl.tensor,
    x: tl.tensor,
    residual: tl.tensor,
    weight: tl.tensor,
    eps: tl.tensor,
    x_stride: tl.tensor,
    residual_stride: tl.tensor,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    ADD: tl.constexpr,
) -> None:
    """One program: one row, held in registers between the sum and the scaling. grid = (rows,)."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    there = column < WIDTH
    value = tl.load(x + row * x_stride + column, mask=there, other=0.0).to(tl.float32)
    if ADD:
        place = residual + row * residual_stride + column
        value += tl.load(place, mask=there, other=0.0).to(tl.float32)
        kept = value.to(residual.dtype.element_ty)
        tl.store(place, kept, mask=there)
        value = kept.to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 0) / WIDTH + eps)
    normed = value * scale * tl.load(weight + column, mask=there, other=0.0).to(tl.float32)
    tl.store(out + row * WIDTH + column, normed.to(out.dtype.element_ty), mask=there)
