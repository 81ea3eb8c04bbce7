"""`splitwise profile`: how well measured phase times are fitted, and such times from benchmarks."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from splitwise_cli.commands.simulate import need_planner
from splitwise_core.errors import UserError, writing


def profile(
    phase_times: Path | None,
    benchmarks: Sequence[Path],
    key: tuple[str | None, str | None, int],
    token_workers: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Prints the report, of the benchmarks' times where some are given. Raises UserError."""
    need_planner("splitwise profile")
    from splitwise_planner import phase_times as published
    from splitwise_planner.fit_table import fits_as_dict, fits_as_text, profiles_of

    if benchmarks:
        if out is None:
            raise UserError(
                "invalid-benchmark",
                where="--benchmark",
                wrong="needs a file for the phase times",
                fix="name one with --out, and give it to simulate and plan as --phase-times",
            )
        _convert(benchmarks, key, token_workers, out)
        phase_times = out
    profiles = profiles_of(published.load_phase_times(phase_times or published.PUBLISHED))
    found = fits_as_dict(profiles)
    print(json.dumps(found, indent=2) if as_json else fits_as_text(profiles).rstrip("\n"))


def _convert(
    benchmarks: Sequence[Path], key: tuple[str | None, str | None, int], workers: int, out: Path
) -> None:
    """Writes the phase times of benchmark files."""
    from splitwise_planner.benchmarks import phase_times_csv, read_benchmarks

    model, gpu, tensor_parallel = key
    if not model or not gpu:
        raise UserError(
            "invalid-benchmark",
            where="--benchmark",
            wrong="does not say what was measured",
            fix="add --model and --gpu, as the catalogue calls them",
        )
    for name, value in (("--tensor-parallel", tensor_parallel), ("--token-workers", workers)):
        if value < 1:
            raise UserError(
                "invalid-benchmark", where=name, wrong=f"is {value}", fix="give 1 or more"
            )
    found = [one for path in benchmarks for one in read_benchmarks(path, workers)]
    for one in found:
        if one.remark:
            sys.stderr.write(f"{one.where}: {one.remark}\n")
    with writing(f"--out {out}"):
        out.write_text(phase_times_csv((model, gpu, tensor_parallel), found), "utf-8")
