"""Measured times of the two phases: a CSV file in, shapes for each model and GPU out."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from splitwise_core.errors import UserError

PUBLISHED: Final = Path(__file__).parent / "data" / "phase_times.csv"

COLUMNS: Final = (
    "model",
    "gpu",
    "tensor_parallel",
    "prompt_tokens",
    "sequences",
    "output_tokens",
    "prompt_ms",
    "token_ms",
)

MAX_ROWS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What was measured for one shape of batch; the repeats side by side, in milliseconds.

    One of the two phases may have none: a server under load tells how long it decodes alone.
    """

    prompt_tokens: int  # of each sequence
    sequences: int
    output_tokens: int  # that each decoded
    prompt_ms: tuple[float, ...]
    token_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Knots:
    """Median seconds of an iteration by the tokens of its prompts: arrays of one length."""

    tokens: NDArray[np.float64]
    prompt_s: NDArray[np.float64]
    token_s: NDArray[np.float64]


Key = tuple[str, str, int]
"""Model, GPU and tensor-parallel degree."""


@cache
def load_phase_times(path: Path = PUBLISHED) -> dict[Key, list[Shape]]:
    """The shapes in a file. Raises UserError (invalid-phase-times) naming line and column."""
    found: dict[Key, list[Shape]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in _rows(path, file):
                _add(found, f"{path}:{number}", row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _refused(str(path), f"cannot be read: {error}", "give a CSV file") from error
    if not found:
        raise _refused(str(path), "holds no rows", "measure at least two prompt sizes")
    return found


def knots_of(
    times: dict[Key, list[Shape]], model: str, gpu: str, tensor_parallel: int, slowdown: float = 1.0
) -> Knots:
    """The medians over all shapes with the same prompt tokens, as the released simulator takes
    them; prompts take `slowdown` times as long. Raises UserError (invalid-phase-times) when there
    are not two."""
    groups: dict[int, tuple[list[float], list[float]]] = {}
    for shape in shapes_of(times, model, gpu, tensor_parallel):
        if not shape.prompt_ms or not shape.token_ms:
            continue
        prompts, tokens = groups.setdefault(shape.prompt_tokens * shape.sequences, ([], []))
        # The order of these operations, milliseconds first, decides the last digit.
        prompts.extend(value * slowdown / 1000 for value in shape.prompt_ms)
        tokens.extend(value / 1000 for value in shape.token_ms)
    if len(groups) < 2:
        where = f"{model} on {gpu}"
        raise _refused(where, "has one prompt size only", "measure at least two")
    columns = sorted(groups)
    return Knots(
        np.array(columns, np.float64),
        np.array([np.median(groups[column][0]) for column in columns]),
        np.array([np.median(groups[column][1]) for column in columns]),
    )


def shapes_of(
    times: dict[Key, list[Shape]], model: str, gpu: str, tensor_parallel: int
) -> list[Shape]:
    """The shapes measured for a model. Raises UserError (invalid-phase-times) when none was."""
    shapes = times.get((model, gpu, tensor_parallel))
    if shapes is None:
        known = ", ".join("/".join(map(str, key)) for key in sorted(times))
        where = f"{model} on {gpu}, tensor-parallel {tensor_parallel}"
        raise _refused(where, "was not measured", f"use one of {known}")
    return shapes


def interpolated(
    knots: NDArray[np.float64], values: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`values` on the lines between the knots, the outer lines going on beyond them."""
    right = np.clip(np.searchsorted(knots, at), 1, len(knots) - 1)
    left = right - 1
    slope = (values[right] - values[left]) / (knots[right] - knots[left])
    return slope * (at - knots[left]) + values[left]


def _rows(path: Path, file: Iterator[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with their line numbers; lines that begin with # are remarks."""
    numbered = ((n, line) for n, line in enumerate(file, 1) if not line.startswith("#"))
    header: list[str] | None = None
    for number, line in numbered:
        cells = next(csv.reader([line]), [])
        if header is None:
            header = cells
            if missing := [name for name in COLUMNS if name not in header]:
                raise _refused(f"{path}:{number}", f"lacks {missing[0]}", ",".join(COLUMNS))
        elif number > MAX_ROWS:
            raise _refused(f"{path}:{number}", f"is beyond {MAX_ROWS} rows", "thin the points out")
        elif len(cells) != len(header):
            wrong = f"has {len(cells)} values instead of {len(header)}"
            raise _refused(f"{path}:{number}", wrong, "complete the row")
        else:
            yield number, dict(zip(header, cells))


def _add(found: dict[Key, list[Shape]], where: str, row: dict[str, str]) -> None:
    try:
        counts = [int(row[name]) for name in COLUMNS[2:6]]
        prompt, token = ([float(cell) for cell in row[name].split()] for name in COLUMNS[6:])
    except ValueError as error:
        raise _refused(where, str(error), "whole numbers, then milliseconds by spaces") from error
    fits = len(prompt) == len(token) or not prompt or not token
    if not fits or min(counts) < 1 or not (prompt or token):
        wrong = "holds a count that is not above zero, or repeats of the phases that do not match"
        raise _refused(where, wrong, "as many times of each phase, or none of one")
    if not all(0 < value < float("inf") for value in (*prompt, *token)):
        raise _refused(where, "holds a value that is not above zero", "measure that shape again")
    key = row["model"], row["gpu"], counts[0]
    shape = Shape(counts[1], counts[2], counts[3], tuple(prompt), tuple(token))
    found.setdefault(key, []).append(shape)


def _refused(where: str, wrong: str, fix: str) -> UserError:
    return UserError("invalid-phase-times", where=where, wrong=wrong, fix=fix)
