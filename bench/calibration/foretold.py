"""A cluster of `bench.cluster` as the planner sees it, and what its simulator says of a trace."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
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

LARGER: Final = replace(SHAPE, width=512, heads=16, mlp=1408)
"""Four times the work a token of what `bench.cluster` serves, and no more KV. There routers,
sidecars and the client took 6 to 13 % of each worker's core, by the load, and prompts took as much
longer; of a model that computes for longer there are fewer tokens a second, and less of that."""

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
    weight_bytes = 4 * LARGER.width * LARGER.vocabulary  # any: the memory below is counted from it
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
        "layers": LARGER.layers,
        "hidden": LARGER.width,
        "kv_bytes_per_token": 2 * LARGER.layers * LARGER.kv_heads * LARGER.head_dim * 4,  # fp32
        "reference_gpu": GPU,
        **about,
    }
    file = directory / "catalogue.yaml"
    file.write_text(yaml.safe_dump({"machines": {GPU: machine}, "models": {MODEL: model}}))
    return file


def foretold(
    times: Path, catalog: Path, trace: Path, out: Path, cluster: str = DESIGN
) -> dict[str, Any]:
    """What the simulator says of a trace on a cluster; each request's times are in `out`."""
    where = ["--catalog", str(catalog), "--phase-times", str(times), "--trace", str(trace)]
    design = ["--model", MODEL, "--design", cluster, "--mode", "measured", "--no-borrowing"]
    answer: dict[str, Any] = json.loads(
        _told(["simulate", *design, *where, "--out", str(out), "--json"])
    )
    return answer


def _told(arguments: list[str]) -> str:
    """What a command prints; its own messages go on to ours."""
    command = [SPLITWISE, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
