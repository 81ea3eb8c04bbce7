"""How attention is cut into programs, and what is refused before a weight is read."""

from dataclasses import replace

import pytest
import torch

from bench.gpu.weights import llama
from splitwise_core.errors import UserError
from splitwise_worker.kernels.tiles import MAX_SPLITS, decode_splits, decode_tiles, prefill_tiles
from splitwise_worker.model.ops_gpu import GpuOps

LONG = 1 << 20


@pytest.mark.parametrize(
    ("batch", "most_tokens", "expected"),
    [
        pytest.param(1, LONG, 64, id="one sequence is shared by as many programs as allowed"),
        pytest.param(8, LONG, 8, id="four programs a multiprocessor, or somewhat less"),
        pytest.param(64, LONG, 1, id="many sequences fill the chip by themselves"),
        pytest.param(1, 130, 4, id="about a tile a program, but a power of two"),
        pytest.param(1, 0, 1, id="no tokens still need one program to write zeros"),
    ],
)
def test_programs_that_share_a_sequence(batch: int, most_tokens: int, expected: int) -> None:
    splits = decode_splits(batch, 8, 132, most_tokens=most_tokens, tile=64)
    assert splits == expected
    assert splits <= MAX_SPLITS


@pytest.mark.parametrize(
    ("group", "rows"),
    [
        pytest.param(1, 16, id="a tensor core takes 16 rows at least"),
        pytest.param(7, 16, id="a group is padded"),
        pytest.param(17, 32, id="to a power of two"),
    ],
)
def test_rows_of_a_decode_program(group: int, rows: int) -> None:
    assert decode_tiles(90, 128, group).rows == rows


def test_float32_has_small_tiles_on_every_chip() -> None:
    assert {prefill_tiles(arch, d, 4) for arch in (80, 90, 100, 120) for d in (64, 128)} == {
        prefill_tiles(90, 128, 4)
    }
    assert prefill_tiles(90, 128, 4).rows < prefill_tiles(90, 128, 2).rows


def test_a_chip_without_bf16_tensor_cores_is_refused() -> None:
    with pytest.raises(UserError, match=r"compute capability 7\.5"):
        prefill_tiles(75, 128, 2)


@pytest.mark.parametrize("head_dim", [80, 96, 256])
def test_heads_that_no_tile_fits_are_refused_with_the_field_named(head_dim: int) -> None:
    config = replace(llama(1, 512, 4, 4, 128, 64, 64), head_dim=head_dim)
    with pytest.raises(UserError, match="head_dim"):
        GpuOps(config, torch.zeros(8, head_dim))
