"""The real helm, with a home of its own, and the chart that it installs."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "helm" / "splitwise"
SAMPLES: Final = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))
NAMESPACE: Final = "splitwise-system"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Helm:
    """Runs helm. Nothing of the user's own configuration is seen or changed."""

    program: Path
    home: Path
    kubeconfig: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """For helm, and for what runs it."""
        homes = {f"HELM_{what}_HOME": str(self.home / what) for what in ("CACHE", "CONFIG", "DATA")}
        return os.environ | homes | {"KUBECONFIG": str(self.kubeconfig or "/dev/null")}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Whatever comes of it."""
        return subprocess.run(
            [str(self.program), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def do(self, *arguments: str) -> str:
        """What it prints; a failure fails the test with helm's message."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def chart_version(self) -> str:
        """The chart's appVersion: the tag of its images."""
        return str(yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"])

    def template(self, *arguments: str) -> list[Object]:
        """The objects of a release `splitwise`."""
        command = ("template", "splitwise", str(CHART), "--namespace", NAMESPACE, *arguments)
        return [item for item in yaml.safe_load_all(self.do(*command)) if item]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [item for item in objects if item["kind"] == kind]


def operator(objects: list[Object]) -> Object:
    """The operator's Deployment."""
    (found,) = of_kind(objects, "Deployment")
    return found


def container(objects: list[Object]) -> Object:
    """The operator's container."""
    (found,) = operator(objects)["spec"]["template"]["spec"]["containers"]
    made: Object = found
    return made
