"""How much work one program of an attention kernel takes, per chip. Pure; no autotuning.

Autotuning would time candidates inside the first requests and choose differently on each worker.
Each row compiles without a register spill and fits the shared memory of its family
(tests/kernels/test_compile.py). Those of Hopper are timed on an H200 (bench/gpu/results).
"""

from dataclasses import dataclass
from typing import Final

from splitwise_core.errors import UserError
from splitwise_worker.kernels.triton_backend import next_power_of_2

MIN_DOT_ROWS: Final = 16
"""A tensor core multiplies at least 16 rows: a smaller group of query heads is padded to it."""
MAX_SPLITS: Final = 64


@dataclass(frozen=True, slots=True)
class Tiles:
    """`rows` of queries times `tokens` of K/V per step, and the warps and pipeline stages."""

    rows: int
    tokens: int
    warps: int
    stages: int


INTERPRETER: Final = Tiles(32, 32, 4, 1)  # small, so that short tests still take several steps

PREFILL: Final = {
    # Two warpgroups, 64 rows each: the accumulators fit the registers. 4 warps would spill.
    ("hopper", 64): Tiles(128, 64, 8, 3),
    ("hopper", 128): Tiles(128, 128, 8, 2),  # 8 % faster than 64 tokens in 3 stages (H200)
    ("blackwell", 64): Tiles(128, 64, 4, 3),  # 8 warps would spill
    ("blackwell", 128): Tiles(128, 64, 8, 3),
    ("ampere", 64): Tiles(128, 64, 8, 2),
    ("ampere", 128): Tiles(128, 64, 8, 2),  # 64 rows in 4 warps would spill
}
PREFILL_FLOAT32: Final = Tiles(32, 16, 8, 2)
"""No tensor core multiplies exact float32: each thread holds its operands, 10 kB of them in the
tiles above. Slow and exact, for comparing with a reference."""
DECODE: Final = {
    ("hopper", 64): (64, 4, 3),
    ("hopper", 128): (64, 4, 3),
    ("blackwell", 64): (64, 4, 3),
    ("blackwell", 128): (64, 4, 3),
    ("ampere", 64): (64, 4, 3),
    ("ampere", 128): (64, 4, 2),
}


def prefill_tiles(arch: int, head_dim: int, value_bytes: int) -> Tiles:
    """The tiles of a prefill program on values of `value_bytes`."""
    if arch == 0:
        return INTERPRETER
    if value_bytes == 4:
        return PREFILL_FLOAT32
    return PREFILL[_family(arch), 64 if head_dim <= 64 else 128]


def decode_tiles(arch: int, head_dim: int, group: int) -> Tiles:
    """The tiles of a decode program: `rows` is the group, padded to what a dot takes."""
    rows = max(MIN_DOT_ROWS, 1 << (group - 1).bit_length())
    if arch == 0:
        return Tiles(rows, INTERPRETER.tokens, 4, 1)
    tokens, warps, stages = DECODE[_family(arch), 64 if head_dim <= 64 else 128]
    return Tiles(rows, tokens, warps, stages)


def decode_splits(
    batch: int, kv_heads: int, multiprocessors: int, *, most_tokens: int, tile: int
) -> int:
    """Programs that share one sequence, a power of two: each number is compiled by itself, and a
    worker compiles them all before it serves.

    Four programs per multiprocessor hide each other's loads: with two, 8 sequences of 4,096 tokens
    and 16 of 8,192 were 13 and 19 % slower (H200). A split without a tile is waste.
    """
    programs = 4 * multiprocessors // (batch * kv_heads)
    tiles = -(-most_tokens // tile)
    return min(next_power_of_2(programs), next_power_of_2(tiles), MAX_SPLITS)


def _family(arch: int) -> str:
    if arch < 80:
        raise UserError(
            "environment",
            where="GPU",
            wrong=f"compute capability {arch / 10:.1f} has no bf16 tensor cores",
            fix="use a GPU of compute capability 8.0 or newer, or run this worker on the CPU",
        )
    return {9: "hopper", 10: "blackwell", 11: "blackwell"}.get(arch // 10, "ampere")
