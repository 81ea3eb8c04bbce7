"""`splitwise bench profile`: the phase times of a running cluster, as the planner reads them."""

import asyncio
import json
import secrets
import sys
from pathlib import Path
from typing import Final, Literal

from splitwise_cli.bench.client import Client
from splitwise_cli.bench.profiling import Grid, Measured, Profiler
from splitwise_cli.bench.prompts import Prompts
from splitwise_cli.endpoint import open_router, served_model
from splitwise_core.errors import UserError, writing
from splitwise_planner.benchmarks import Found, phase_times_csv
from splitwise_planner.phase_times import Key

TIMEOUT_S: Final = 600.0
MOST: Final = 1 << 20


def counts(option: str, text: str) -> list[int]:
    """The numbers of a list such as 64,128, each once, in their order. Raises UserError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= MOST for part in parts):
        raise UserError(
            "invalid-load",
            where=option,
            wrong=f"{text!r} is no list of numbers from 1 to {MOST}",
            fix="write it as 64,128,256",
        )
    return sorted({int(part) for part in parts})


def run(
    grid: Grid,
    key: Key,
    out: Path,
    url: str | None,
    state_dir: Path | None,
    output: Literal["table", "json"],
) -> None:
    """Measures, writes the times to `out`, and prints what a request costs beside them."""
    _check(grid, key[2])
    with open_router(url, state_dir, timeout_s=10) as router:
        name, base_url = served_model(router)["id"], str(router.base_url).rstrip("/")
    measured = asyncio.run(_measured(base_url, name, grid))
    found = [Found(shape, base_url) for shape in measured.shapes]
    with writing(f"--out {out}"):
        out.write_text(phase_times_csv(key, found), "utf-8")
    overheads = measured.overheads()
    if output == "json":
        print(json.dumps(overheads))
    else:
        print(f"{out}: {len(found)} shapes. Beside them, for the machine in the catalogue:")
        print("\n".join(f"    {name}: {value:.6f}" for name, value in overheads.items()))


async def _measured(url: str, model: str, grid: Grid) -> Measured:
    def tell(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    prompts = Prompts(model, False, secrets.randbits(64))  # an earlier profile's may be cached
    async with Client(url, TIMEOUT_S) as client:
        return await Profiler(client, prompts, tell).run(grid)


def _check(grid: Grid, tensor_parallel: int) -> None:
    """Raises UserError for a number that has no sense."""
    least = (
        ("--output-tokens", grid.output_tokens, 8),
        ("--repeats", grid.repeats, 1),
        ("--token-workers", grid.token_workers, 1),
        ("--tensor-parallel", tensor_parallel, 1),
    )
    for option, value, at_least in least:
        if value < at_least:
            wrong = f"is {value}"
            raise UserError(
                "invalid-load", where=option, wrong=wrong, fix=f"give {at_least} or more"
            )
    if len(grid.prompt_tokens) < 2:
        wrong = "is one size, which says nothing of others"
        raise UserError("invalid-load", where="--prompt-tokens", wrong=wrong, fix="give two")
