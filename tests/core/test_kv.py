"""Where the bytes of a sequence lie."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.kv import KvGeometry, Run

GEOMETRY = KvGeometry("m", "float32", num_layers=3, kv_heads=2, head_dim=4, block_tokens=8)


def test_a_transfer_moves_keys_and_values_of_all_layers() -> None:
    assert GEOMETRY.sequence_bytes(5) == 2 * 3 * 5 * 2 * 4 * 4


@given(st.permutations(range(6)), st.integers(1, 48), st.integers(0, 2))
def test_the_runs_of_a_layer_hold_its_bytes_once_and_stay_in_their_blocks(
    blocks: list[int], num_tokens: int, layer: int
) -> None:
    runs = list(GEOMETRY.layer_runs(layer, blocks, num_tokens))
    assert sum(run.length for run in runs) == GEOMETRY.sequence_bytes(num_tokens) // 3
    assert len({run.offset for run in runs}) == len(runs)
    own = blocks[: GEOMETRY.blocks_for(num_tokens)]
    for run in runs:
        block, inside = divmod(run.offset, GEOMETRY.block_bytes)
        assert block in own
        assert inside // GEOMETRY.layer_bytes == layer
        assert (inside + run.length - 1) // GEOMETRY.layer_bytes == layer


@given(st.permutations(range(6)), st.integers(1, 48), st.integers(0, 2), st.integers(1, 3))
def test_the_runs_of_several_layers_are_those_of_each_joined_where_they_touch(
    blocks: list[int], num_tokens: int, first: int, layers: int
) -> None:
    layers = min(layers, 3 - first)

    def held(runs: Iterable[Run]) -> list[int]:
        return sorted(byte for run in runs for byte in range(run.offset, run.offset + run.length))

    together = list(GEOMETRY.runs(first, layers, blocks, num_tokens))
    apart = [
        run
        for layer in range(first, first + layers)
        for run in GEOMETRY.layer_runs(layer, blocks, num_tokens)
    ]
    assert held(together) == held(apart)
    full, rest = divmod(num_tokens, GEOMETRY.block_tokens)
    assert len(together) == full + (2 * layers if rest else 0)


@given(st.permutations(range(6)), st.permutations(range(6)), st.integers(1, 48))
def test_both_ends_see_the_same_lengths_whatever_their_blocks(
    ours: list[int], theirs: list[int], num_tokens: int
) -> None:
    lengths = [
        [run.length for run in GEOMETRY.layer_runs(1, blocks, num_tokens)]
        for blocks in (ours, theirs)
    ]
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize(
    "other",
    [
        KvGeometry("n", "float32", 3, 2, 4, 8),
        KvGeometry("m", "bfloat16", 3, 2, 4, 8),
        KvGeometry("m", "float32", 4, 2, 4, 8),
        KvGeometry("m", "float32", 3, 1, 4, 8),
        KvGeometry("m", "float32", 3, 2, 8, 8),
        KvGeometry("m", "float32", 3, 2, 4, 16),
    ],
    ids=["model", "dtype", "layers", "heads", "head size", "block size"],
)
def test_pools_that_could_not_exchange_kv_have_different_fingerprints(other: KvGeometry) -> None:
    assert other.fingerprint() != GEOMETRY.fingerprint()
    assert len(other.fingerprint()) == 16
