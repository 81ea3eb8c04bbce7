"""The gated activation."""

import pytest
import torch

from splitwise_worker.kernels import silu_mul
from splitwise_worker.kernels.silu_mul import silu_mul_torch
from tests.kernels.agreement import TOLERANCE, error, randn


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "width"),
    [
        pytest.param(1, 1, id="one value"),
        pytest.param(5, 1023, id="a value less than a tile"),
        pytest.param(2, 1024, id="a tile"),
        pytest.param(3, 2049, id="two tiles and a value"),
    ],
)
def test_it_agrees_with_its_formula(rows: int, width: int, dtype: torch.dtype) -> None:
    gate_up = randn(rows, 2 * width, dtype=dtype)
    out = silu_mul(gate_up)
    assert out.dtype == dtype
    assert error(out, silu_mul_torch(gate_up)) <= TOLERANCE[dtype]


def test_a_gate_far_below_zero_closes_and_far_above_opens() -> None:
    gate_up = randn(1, 4)
    gate_up[0, 0], gate_up[0, 1] = -200.0, 200.0
    out = silu_mul(gate_up)
    assert out[0, 0] == 0
    assert out[0, 1] == 200 * gate_up[0, 3]


def test_rows_may_be_slices_of_wider_ones() -> None:
    gate_up = randn(4, 100)[:, 20:80]
    assert error(silu_mul(gate_up), silu_mul_torch(gate_up)) <= TOLERANCE[torch.float32]
