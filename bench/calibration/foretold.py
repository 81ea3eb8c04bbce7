"""A cluster of `bench.cluster` as the planner sees it, and what its simulator says of a trace."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from bench.cluster.model import SHAPE
from bench.cluster.setups import KV_BYTES, SPLITWISE
from splitwise_planner.measured.rules import KV_SHARE

MODEL: Final = "bench"
GPU: Final = "cpu-core"
DESIGN: Final = "CC-1P-1T"

NEXT_TO_NOTHING: Final = 1e-9
"""Measured prompts have in them what telling of their layers costs; and prices are of no account
here, but the catalogue asks for some."""


def profiled(url: str, directory: Path, options: list[str]) -> tuple[Path, dict[str, float]]:
    """The phase times of a running cluster, and what a request costs beside them."""
    times = directory / "times.csv"
    asked = ["--url", url, "--model", MODEL, "--gpu", GPU, "--out", str(times), "-o", "json"]
    overheads: dict[str, float] = json.loads(_told(["bench", "profile", *asked, *options]))
    return times, overheads


def link_bytes_per_s(url: str) -> float:
    """What the router has measured between the two pools."""
    (link,) = httpx.get(f"{url}/transfer").raise_for_status().json()["transfer"]
    return float(link["bytesPerSecond"])


def catalogue(directory: Path, overheads: Mapping[str, float], bytes_per_s: float) -> Path:
    """One worker as a machine: its memory for KV, its link, and what requests cost there."""
    about = {"source": "measured by bench.calibration", "read": "when it ran"}
    weight_bytes = 4 * SHAPE.width * SHAPE.vocabulary  # any: the memory below is counted from it
    machine = {
        "letter": "C",
        "gpu": GPU,
        "gpus": 1,
        "gpu_memory_bytes": round((KV_BYTES + weight_bytes) / KV_SHARE),
        "dollars_per_hour": NEXT_TO_NOTHING,
        "power_units": NEXT_TO_NOTHING,
        "network_bytes_per_s": bytes_per_s,
        "layer_push_s": NEXT_TO_NOTHING,
        **overheads,
        **about,
    }
    model = {
        "tensor_parallel": 1,
        "weight_bytes": weight_bytes,
        "layers": SHAPE.layers,
        "hidden": SHAPE.width,
        "kv_bytes_per_token": 2 * SHAPE.layers * SHAPE.kv_heads * SHAPE.head_dim * 4,  # fp32
        "reference_gpu": GPU,
        **about,
    }
    file = directory / "catalogue.yaml"
    file.write_text(yaml.safe_dump({"machines": {GPU: machine}, "models": {MODEL: model}}))
    return file


def foretold(times: Path, catalog: Path, trace: Path, out: Path) -> dict[str, Any]:
    """What the simulator says of a trace; each request's times are in `out`."""
    where = ["--catalog", str(catalog), "--phase-times", str(times), "--trace", str(trace)]
    design = ["--model", MODEL, "--design", DESIGN, "--mode", "measured"]
    answer: dict[str, Any] = json.loads(
        _told(["simulate", *design, *where, "--out", str(out), "--json"])
    )
    return answer


def _told(arguments: list[str]) -> str:
    """What a command prints; its own messages go on to ours."""
    command = [SPLITWISE, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
