"""Writes what is made from the chart, and what the chart is made from: `python -m helm.generate`.

The CRDs go into the chart as they are, the values into a table of docs/install.md, the objects of a
default release into manifests/base, and the monitors that may be added to it into
manifests/monitoring; for these two helm is needed.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.kube_programs import NEEDS_HELM, helm_program

ROOT: Final = Path(__file__).parents[1]
CHART: Final = ROOT / "helm" / "splitwise"
CRDS: Final = ROOT / "crds"
COPIES: Final = CHART / "files" / "crds"
BASE: Final = ROOT / "manifests" / "base"
MONITORING: Final = ROOT / "manifests" / "monitoring"
INSTALL: Final = ROOT / "docs" / "install.md"

RELEASE: Final = "splitwise"
NAMESPACE: Final = "splitwise-system"

Object = dict[str, Any]

_HELMS_OWN: Final = ("app.kubernetes.io/managed-by", "helm.sh/chart", "helm.sh/resource-policy")
"""Labels and annotations that mean something to helm alone."""

_FILES: Final = {
    "CustomResourceDefinition": "crds.yaml",
    "ServiceAccount": "rbac.yaml",
    "Role": "rbac.yaml",
    "RoleBinding": "rbac.yaml",
    "ClusterRole": "rbac.yaml",
    "ClusterRoleBinding": "rbac.yaml",
}
_MONITORS: Final = ("ServiceMonitor", "PodMonitor")
_MARKS: Final = ("<!-- values -->\n", "<!-- end of values -->\n")


def main() -> None:
    """Writes every file. What needs helm is left as it is without one, and that is said."""
    for name, text in crd_copies().items():
        (COPIES / name).write_text(text, "utf-8")
    INSTALL.write_text(with_values(INSTALL.read_text("utf-8")), "utf-8")
    helm = helm_program()
    if helm is None:
        sys.stderr.write(f"SKIPPED manifests: {NEEDS_HELM}\n")
        return
    for name, text in base(helm).items():
        (BASE / name).write_text(text, "utf-8")
    (MONITORING / "monitors.yaml").write_text(monitors(helm), "utf-8")


def crd_copies() -> dict[str, str]:
    """File name -> text of each CRD. Helm reads nothing outside of a chart, so it has copies."""
    return {file.name: file.read_text("utf-8") for file in sorted(CRDS.glob("*.yaml"))}


def base(helm: Path) -> dict[str, str]:
    """File name -> text of the objects of a release with default values, without helm's marks."""
    files: dict[str, list[Object]] = {}
    for item in template(helm):
        files.setdefault(_FILES.get(item["kind"], "operator.yaml"), []).append(without_marks(item))
    return {name: _text(items) for name, items in files.items()}


def monitors(helm: Path) -> str:
    """What a Prometheus operator is told to scrape, of a release that is monitored."""
    switches = ",".join(
        f"monitoring.{name}.enabled=true" for name in ("serviceMonitor", "podMonitor")
    )
    items = template(helm, "--set", switches)
    return _text([without_marks(item) for item in items if item["kind"] in _MONITORS])


def _text(items: list[Object]) -> str:
    head = "# Generated from helm/splitwise by `make generate`.\n"
    return head + yaml.safe_dump_all(items, sort_keys=False, width=100)


def template(helm: Path, *arguments: str) -> list[Object]:
    """What `helm template` prints. Raises CalledProcessError with helm's message."""
    command = [str(helm), "template", RELEASE, str(CHART), "--namespace", NAMESPACE, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def without_marks(item: Object) -> Object:
    """The object as it is without helm."""
    metadata = dict(item["metadata"])
    for field in ("labels", "annotations"):
        kept = {key: text for key, text in metadata.pop(field, {}).items() if key not in _HELMS_OWN}
        metadata |= {field: kept} if kept else {}
    return item | {"metadata": metadata}


def with_values(document: str) -> str:
    """The document with the table of values between its marks."""
    start, end = _MARKS
    before, _, rest = document.partition(start)
    _, found, after = rest.partition(end)
    assert found, f"docs/install.md lost its marks {start.strip()} and {end.strip()}"
    return f"{before}{start}{_table()}{end}{after}"


def _table() -> str:
    text = (CHART / "values.yaml").read_text("utf-8")
    values = yaml.safe_load(text)
    rows = [
        f"| `{path}` | {_default(values, path)} | {about} |\n" for path, about in comments(text)
    ]
    return "| value | default | |\n|---|---|---|\n" + "".join(rows)


def comments(text: str) -> Iterator[tuple[str, str]]:
    """Path and comment of every value that has one (`# --`), in the file's order."""
    parents: list[tuple[int, str]] = []
    about = ""
    for line in text.splitlines():
        word = line.strip()
        if word.startswith("# -- "):
            about = word.removeprefix("# -- ")
        elif word and not word.startswith("#"):
            depth, key = len(line) - len(line.lstrip()), word.partition(":")[0]
            parents = [(level, name) for level, name in parents if level < depth]
            parents.append((depth, key))
            if about:
                yield ".".join(name for _, name in parents), about
            about = ""


def _default(values: Object, path: str) -> str:
    value: Any = values
    for part in path.split("."):
        value = value[part]
    if value in ("", [], {}):
        return "none"
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).strip()
    return f"`{text.removesuffix('...').strip()}`"


if __name__ == "__main__":
    main()
