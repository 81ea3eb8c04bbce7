"""The rules: rules.yaml beside this file is their source, in the form that Prometheus reads."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = Path(__file__).with_name("rules.yaml")
CHART: Final = ROOT / "helm" / "splitwise" / "files" / "rules.yaml"
MANIFEST: Final = ROOT / "manifests" / "monitoring" / "prometheusrule.yaml"

_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600}
_WINDOW: Final = re.compile(r"\[(\d+)([smh])\]")
_FOR: Final = re.compile(r"^(\s+for: )(\d+)([smh])$", re.MULTILINE)

Rule = dict[str, Any]


def manifest(text: str) -> str:
    """The rules as an object of the Prometheus operator."""
    head = (
        "# Generated from monitoring/rules.yaml by `make generate`.\n"
        "apiVersion: monitoring.coreos.com/v1\n"
        "kind: PrometheusRule\n"
        "metadata: {name: splitwise, namespace: splitwise-system}\n"
        "spec:\n"
    )
    body = text[text.index("groups:") :]
    return head + "".join(f"  {line}" if line.strip() else line for line in body.splitlines(True))


def rules(text: str) -> Iterator[Rule]:
    """Every rule, in order."""
    for group in yaml.safe_load(text)["groups"]:
        yield from group["rules"]


def hastened(text: str, factor: int) -> str:
    """The rules with every window, and the time that alerts wait, divided by `factor`.

    So that a test needs seconds where people have minutes; what is compared stays as it is.
    """
    text = _WINDOW.sub(lambda found: f"[{_shorter(found[1], found[2], factor)}]", text)
    return _FOR.sub(lambda found: found[1] + _shorter(found[2], found[3], factor), text)


def _shorter(number: str, unit: str, factor: int) -> str:
    return f"{round(int(number) * _UNIT_S[unit] * 1000 / factor)}ms"
