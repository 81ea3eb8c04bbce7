"""Every kernel against its formula: interpreted on a CPU here, compiled where there is a GPU.

TRITON_INTERPRET is read when a kernel is decorated, so each way is a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

ROOT = Path(__file__).parents[2]
FILES = sorted(Path(__file__).with_name("cases").glob("*.py"))
CASES = [path for path in FILES if path.name != "conftest.py"]
ENVIRONMENTS = {
    "interpreted": {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
    "compiled": {"TRITON_INTERPRET": "0"},
}

BY_KERNEL = pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)


def run_cases(cases: Path, way: str, report: Path) -> None:
    """Fails with what the run printed unless it ran at least one case and each one passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", str(cases)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | ENVIRONMENTS[way], capture_output=True, text=True
    )
    assert done.returncode == 0, f"\n{done.stdout}\n{done.stderr}"
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    ran = int(suite.attrib["tests"]) - int(suite.attrib["skipped"])
    assert ran > 0, f"no case of {cases.name} ran:\n{done.stdout}"


@BY_KERNEL
def test_a_kernel_agrees_with_its_formula(cases: Path, tmp_path: Path) -> None:
    run_cases(cases, "interpreted", tmp_path / "report.xml")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@BY_KERNEL
def test_a_compiled_kernel_agrees_with_its_formula(cases: Path, tmp_path: Path) -> None:
    run_cases(cases, "compiled", tmp_path / "report.xml")


def test_every_kernel_has_cases() -> None:
    kernels = ROOT / "worker/splitwise_worker/kernels"
    with_a_formula = {path.stem for path in kernels.glob("*.py") if "_torch(" in path.read_text()}
    assert {path.stem for path in CASES} == with_a_formula
