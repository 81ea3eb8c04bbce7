"""`python -m bench.gpu`: are the kernels right on this GPU, and how near to its limits are they?

Prints a table and writes a JSON file; exit status 0 when every check passed, 1 when not, 2 when it
cannot run here. Goals that are missed are shown, and change no status.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from bench.gpu.plan import PlannedCheck, PlannedFigure, run_check, run_figure
from splitwise_core.errors import UserError

if TYPE_CHECKING:
    from bench.gpu.report import Report

STARTED_S: Final = time.perf_counter()


def main() -> int:
    """The exit status."""
    asked = _arguments()
    if asked.interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels below are decorated
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        _check_environment(asked.interpret)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    from bench.gpu.report import Report, results_path

    seed = random.SystemRandom().randrange(2**31) if asked.seed is None else asked.seed
    torch.manual_seed(seed)
    report = Report("interpret" if asked.interpret else "gpu", seed)
    path = asked.output if asked.interpret or asked.output else results_path(report.started)
    _run(report, _interpreted(report) if asked.interpret else _on_gpu(report, asked.skip_8b), path)
    print(report.table())
    if path:
        sys.stderr.write(f"wrote {path}\n")
    return 0 if report.passed else 1


def _run(report: "Report", steps: Iterator[str], path: Path | None) -> None:
    """Takes every step, and writes the file after each: a run that is cut short leaves its part."""
    try:
        for done in steps:
            sys.stderr.write(f"{time.perf_counter() - STARTED_S:7.1f} s  {done}\n")
            if path:
                report.write(path)
        report.complete = True
    except Exception as error:  # a kernel that faults takes the CUDA context with it
        report.left_out.append(f"the run ended early: {type(error).__name__}: {error}")
    if path:
        report.write(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--output", type=Path, help="where to write the JSON file")
    parser.add_argument("--seed", type=int, help="of the random inputs; drawn afresh without it")
    parser.add_argument("--skip-8b", action="store_true", help="leave out the steps of Llama 3 8B")
    parser.add_argument(
        "--interpret",
        action="store_true",
        help="only a few small checks, on the CPU under Triton's interpreter; measures nothing "
        "and writes no file unless --output names one",
    )
    return parser.parse_args()


def _check_environment(interpret: bool) -> None:
    """Raises UserError when this machine cannot run what was asked."""
    try:
        import triton  # noqa: F401
    except ModuleNotFoundError:
        raise UserError(
            "environment",
            where=sys.executable,
            wrong="Triton is not installed",
            fix="pip install 'triton>=3.6,<4'",
        ) from None
    if not interpret and not torch.cuda.is_available():
        raise UserError(
            "environment",
            where="python -m bench.gpu",
            wrong=f"torch {torch.__version__} finds no CUDA device on this machine",
            fix="run it on a machine with an NVIDIA GPU, its driver and a CUDA build of torch; "
            "--interpret checks the small cases on a CPU",
        )


def _interpreted(report: "Report") -> Iterator[str]:
    from bench.gpu.checks import TINY, kernel_checks
    from bench.gpu.decoder_checks import TINY as TINY_MODELS
    from bench.gpu.decoder_checks import TINY_LOAD, decoder_checks

    report.left_out.append("nothing was run on a GPU, and nothing was measured")
    yield from _check(report, kernel_checks(TINY, "cpu"))
    yield from _check(report, decoder_checks(TINY_MODELS, TINY_LOAD, "cpu", report.seed))


def _on_gpu(report: "Report", skip_8b: bool) -> Iterator[str]:
    from bench.gpu import llama_8b
    from bench.gpu.checks import FULL, kernel_checks
    from bench.gpu.copies import copy_figures
    from bench.gpu.decoder_checks import FULL_LOAD, MODELS, decoder_checks
    from bench.gpu.device_checks import device_checks
    from bench.gpu.figures import kernel_figures
    from bench.gpu.timing import measure_ceilings

    report.ceilings = measure_ceilings()
    yield f"ceilings: {report.ceilings}"
    decoder = decoder_checks(MODELS, FULL_LOAD, "cuda", report.seed)
    yield from _check(report, chain(kernel_checks(FULL, "cuda"), device_checks(), decoder))
    yield from _measure(report, kernel_figures(report.ceilings))
    yield from _measure(report, copy_figures(report.ceilings))
    why_not = "--skip-8b" if skip_8b else llama_8b.why_not()
    if why_not:
        report.left_out.append(f"Llama 3 8B was left out: {why_not}")
    else:
        yield from _measure(report, llama_8b.step_figures(report.ceilings))


def _check(report: "Report", planned: Iterable[PlannedCheck]) -> Iterator[str]:
    for plan in planned:
        check = run_check(plan)
        report.checks.append(check)
        verdict = "ok" if check.passed else f"FAILED {check.problem}"
        yield f"{check.name}: error {check.error:.1e} of {check.tolerance:.0e}, {verdict}"


def _measure(report: "Report", planned: Iterable[PlannedFigure]) -> Iterator[str]:
    for plan in planned:
        figure = run_figure(plan)
        report.figures.append(figure)
        torch.cuda.empty_cache()
        yield f"{figure.name}: {figure.problem or f'{figure.value:,.1f} {figure.unit}'}"


if __name__ == "__main__":
    sys.exit(main())
