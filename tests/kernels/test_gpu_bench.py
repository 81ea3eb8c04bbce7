"""The GPU benchmark, as far as a machine without a GPU can run it."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
FOUND_THERE = {"torch", "triton", "cuda", "safetensors", "psutil"}
"""What a GPU machine on which nothing can be installed is sure to have, of what we would use."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.gpu", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an interpreted run wrote."""
    path = tmp_path_factory.mktemp("gpu") / "result.json"
    done = run("--interpret", "--output", str(path))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "checks passed" in done.stdout
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def test_an_interpreted_run_checks_every_kernel_and_the_decoder(result: dict[str, Any]) -> None:
    names = {check["name"].split()[0] for check in result["checks"]}
    kernels = {"decode_attention", "prefill_attention", "rope_kv_write", "rms_norm"}
    assert names == kernels | {"add_rms_norm", "silu_mul", "decoder"}
    for check in result["checks"]:
        assert check["passed"]
        assert 0 <= check["error"] <= check["tolerance"]


def test_a_result_says_what_ran_where_and_whether_all_of_it_did(result: dict[str, Any]) -> None:
    assert set(result) == {
        *("date", "seconds", "mode", "seed", "complete", "passed", "versions", "device"),
        *("ceilings", "checks", "figures", "left_out"),
    }
    assert set(result["versions"]) == {"python", "torch", "triton", "cuda", "driver", "commit"}
    assert result["complete"]
    assert result["passed"]


def test_an_interpreted_run_claims_no_speed(result: dict[str, Any]) -> None:
    assert result["mode"] == "interpret"
    assert result["ceilings"] is None
    assert result["figures"] == []
    assert "nothing was run on a GPU" in result["left_out"][0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_names_the_fix_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    done = run("--output", str(path))
    assert done.returncode == 2
    assert "finds no CUDA device" in done.stderr
    assert "--interpret" in done.stderr
    assert not path.exists()


def test_a_figure_or_check_that_breaks_is_reported_and_fails_the_run() -> None:
    from bench.gpu.plan import PlannedCheck, PlannedFigure, run_check, run_figure
    from bench.gpu.report import Report

    def broken() -> float:
        raise RuntimeError("out of resources: shared memory\nat line 3")

    report = Report("gpu", 0, complete=True)
    report.checks = [run_check(PlannedCheck("right", 1e-3, lambda: 1e-4))]
    assert report.passed
    report.figures = [run_figure(PlannedFigure("speed", "GB/s", 2.0, broken))]
    report.checks += [run_check(PlannedCheck("wrong", 1e-3, lambda: float("nan")))]
    report.checks += [run_check(PlannedCheck("late", 1e-3, broken))]
    assert report.failures == ["wrong", "late", "speed"]
    assert not report.passed
    assert "RuntimeError: out of resources: shared memory" in report.table()
    assert report.fields()["checks"][1]["error"] is None  # JSON has no NaN


def test_it_imports_only_what_a_bare_gpu_machine_has() -> None:
    listing = "import bench.gpu.__main__, sys; from bench.gpu import checks, copies, figures"
    listing += ", llama_8b, decoder_checks, device_checks, report\n"
    listing += "print(*(m.__file__ for n, m in sys.modules.items()"
    listing += " if n.startswith(('bench', 'splitwise_')) and m.__file__), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [Path(line) for line in done.stdout.split()]
    assert len(files) > 20
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                ours = top == "bench" or top.startswith("splitwise_")
                assert ours or top in sys.stdlib_module_names | FOUND_THERE, f"{path}: {name}"
