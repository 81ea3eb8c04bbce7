"""Rows normalised, alone or with the residual stream added."""

import pytest
import torch

from splitwise_worker.kernels import add_rms_norm, rms_norm
from splitwise_worker.kernels.rms_norm import add_rms_norm_torch, rms_norm_torch
from tests.kernels.agreement import TOLERANCE, error, randn

EPS = 1e-5
WIDTHS = pytest.mark.parametrize(
    "width",
    [
        pytest.param(1, id="one column"),
        pytest.param(128, id="a power of two"),
        pytest.param(576, id="no power of two"),
        pytest.param(2049, id="odd, and wide enough for eight warps"),
    ],
)
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["fp32", "fp16", "bf16"]
)


@WIDTHS
@DTYPES
def test_a_row_is_divided_by_its_root_mean_square(width: int, dtype: torch.dtype) -> None:
    x, weight = randn(3, width, dtype=dtype), randn(width, dtype=dtype)
    out = rms_norm(x, weight, EPS)
    assert out.dtype == dtype
    assert error(out, rms_norm_torch(x, weight, EPS)) <= TOLERANCE[dtype]


@WIDTHS
@DTYPES
def test_the_residual_becomes_the_sum_and_the_sum_is_normalised(
    width: int, dtype: torch.dtype
) -> None:
    x, residual, weight = randn(3, width, dtype=dtype), randn(3, width, dtype=dtype), randn(width)
    kept = residual.clone()
    wanted = add_rms_norm_torch(x, kept, weight, EPS)
    out = add_rms_norm(x, residual, weight, EPS)
    assert error(out, wanted) <= TOLERANCE[dtype]
    assert error(residual, kept) <= TOLERANCE[dtype]


def test_a_row_of_zeros_stays_zeros() -> None:
    assert not rms_norm(torch.zeros_like(randn(2, 40)), randn(40), EPS).any()


def test_rows_may_be_slices_of_wider_ones() -> None:
    x, residual, weight = randn(4, 90)[:, 10:74], randn(4, 100)[:, :64], randn(64)
    around = residual.clone()
    wanted = add_rms_norm_torch(x, around, weight, EPS)
    assert error(add_rms_norm(x, residual, weight, EPS), wanted) <= TOLERANCE[torch.float32]
    assert torch.equal(residual, around)
