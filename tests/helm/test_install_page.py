"""docs/install.md: its commands are run, in order, on an API server."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.helm.release import ROOT, SAMPLES, Helm
from tests.support.control_plane import ControlPlane, control_plane

PAGE: Final = (ROOT / "docs" / "install.md").read_text("utf-8")
BLOCKS: Final = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS: Final = [line.removeprefix("$ ") for block in BLOCKS for line in block.splitlines()]
WITHIN_S: Final = 180
"""For one command: beside other tests an API server may take a minute for it."""


@pytest.fixture
def untouched(kube_programs: Path, tmp_path: Path) -> Iterator[ControlPlane]:
    """An API server for one try of the page: half of its commands leave something there."""
    with control_plane(kube_programs, tmp_path) as running:
        yield running


@pytest.mark.kubernetes
def test_every_command_does_what_is_asked(
    helm: Helm, untouched: ControlPlane, kube_programs: Path, tmp_path: Path
) -> None:
    installer = Helm(helm.program, helm.home, untouched.kubeconfig)
    (tmp_path / "helm").symlink_to(installer.program)
    path = f"{tmp_path}:{kube_programs}:{os.environ['PATH']}"
    cache = str(tmp_path / "kubectl")
    environment = installer.environment | {"PATH": path, "KUBECACHEDIR": cache}
    for command in COMMANDS:
        done = subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert untouched.get("deployments", "--all-namespaces")["items"]


def test_every_sample_is_in_the_page() -> None:
    for sample in SAMPLES:
        assert f"[{sample.stem}](../manifests/samples/{sample.name})" in PAGE


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
