"""The result of a run: a table for people, one JSON object for everything else."""

import json
import math
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch
import triton

from bench.gpu import ROOT
from bench.gpu.plan import Check, Figure
from bench.gpu.timing import Ceilings


@dataclass(slots=True)
class Report:
    """Grows while the run goes on; what is written before its end says `complete: false`."""

    mode: str  # "gpu" or "interpret"
    seed: int
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    ceilings: Ceilings | None = None
    checks: list[Check] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    complete: bool = False

    @property
    def failures(self) -> list[str]:
        """Names of the checks that did not pass and of the figures that could not be measured."""
        failed = [check.name for check in self.checks if not check.passed]
        return failed + [figure.name for figure in self.figures if figure.problem]

    @property
    def passed(self) -> bool:
        """Whether everything was done, and every check passed."""
        return self.complete and bool(self.checks) and not self.failures

    def fields(self) -> dict[str, Any]:
        """What the JSON file holds; a number that is not there is null."""
        return {
            "date": self.started.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self.started).total_seconds(), 1),
            "mode": self.mode,
            "seed": self.seed,
            "complete": self.complete,
            "passed": self.passed,
            "versions": versions(),
            "device": device_properties(),
            "ceilings": None if self.ceilings is None else asdict(self.ceilings),
            "checks": [_plain(asdict(c) | {"passed": c.passed}) for c in self.checks],
            "figures": [_plain(asdict(f) | {"fraction": f.fraction}) for f in self.figures],
            "left_out": self.left_out,
        }

    def write(self, path: Path) -> None:
        """Writes the JSON file, over an earlier state of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.fields(), indent=1, allow_nan=False) + "\n", "utf-8")

    def table(self) -> str:
        """Every figure with its goal, and the checks: how many passed, and which did not."""
        return "\n".join([*self._figure_lines(), "", *self._check_lines(), *self.left_out])

    def _figure_lines(self) -> list[str]:
        if self.ceilings is None:
            return []
        c = self.ceilings
        head = f"{'':<52}{'measured':>18}{'of device':>11}{'goal':>10}"
        lines = [
            f"this device: copy {c.copy_gb_s:,.0f} GB/s, bf16 matmul {c.matmul_tflop_s:,.0f} "
            f"TFLOP/s, to pinned host {c.to_host_gb_s:,.1f} GB/s",
            head,
        ]
        for figure in self.figures:
            if figure.problem:
                lines.append(f"{figure.name:<52}  {figure.problem}")
                continue
            share = "" if figure.fraction is None else f"{figure.fraction:.0%}"
            goal = "" if figure.goal is None else f"{figure.goal:,.0f}"
            met = (
                ""
                if figure.goal is None
                else "  met"
                if figure.value >= figure.goal
                else "  MISSED"
            )
            value = f"{figure.value:,.1f} {figure.unit}"
            lines.append(f"{figure.name:<52}{value:>18}{share:>11}{goal:>10}{met}")
        return lines

    def _check_lines(self) -> list[str]:
        failed = [check for check in self.checks if not check.passed]
        lines = [
            f"FAILED {c.name}: error {c.error:.2e}, at most {c.tolerance:.0e} {c.problem}".rstrip()
            for c in failed
        ]
        return [*lines, f"{len(self.checks) - len(failed)} of {len(self.checks)} checks passed"]


def results_path(started: datetime, what: str = "") -> Path:
    """results/<gpu>-<what>-<date>.json beside this file."""
    gpu = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")
    name = "-".join(filter(None, [gpu, what, f"{started:%Y-%m-%d}"]))
    return Path(__file__).parent / "results" / f"{name}.json"


@cache
def versions() -> dict[str, str | None]:
    """What ran, and None for what cannot be found out."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "driver": _output(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
        ),
        "commit": _output(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
        ),
    }


def device_properties() -> dict[str, Any]:
    """The GPU, or the name of the CPU's architecture without one."""
    if not torch.cuda.is_available():
        return {"name": platform.machine()}
    facts = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "name": facts.name,
        "compute_capability": f"{facts.major}.{facts.minor}",
        "multiprocessors": facts.multi_processor_count,
        "memory_bytes": facts.total_memory,
        "l2_bytes": facts.L2_cache_size,
    }


def _output(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }
