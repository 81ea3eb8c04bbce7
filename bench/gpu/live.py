"""`python -m bench.gpu.live`: a whole cluster on one GPU, its prompts and its tokens apart.

Random weights in the shape of Llama 3 8B; a prompt and a token worker, each a process, share the
GPU, and between them KV goes through both sidecars. Requests come one after the other, so that no
phase takes the GPU from another; beside it one worker that does both. Needs the project installed.
Prints the medians, and writes all of it to `results/<gpu>-live-<date>.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch

from bench.gpu.report import device_properties, results_path, versions
from splitwise_worker.random_model import PRESETS, write_shape
from tests.support.ports import free_port

SPLITWISE: Final = str(Path(sys.executable).parent / "splitwise")
LENGTHS: Final = (256, 512, 1024, 2048, 4096, 8000)
SETUPS: Final = ("mixed", "shm", "tcp")
REQUESTS: Final = 6
ANSWER_TOKENS: Final = 32
RATE: Final = 1.0
"""Requests a second: each is over before the next one comes."""

START_S: Final = 300.0
READY_S: Final = 280.0


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of some requests in milliseconds. `transfer` is what was seen of it: the time from
    the first token until the token worker had verified the KV."""

    setup: str
    prompt_tokens: int
    ttft: float
    tbt: float
    transfer: float | None
    first_decode: float | None

    @property
    def second_token(self) -> float:
        """From the first token to the second."""
        if self.transfer is None or self.first_decode is None:
            return self.tbt
        return self.transfer + self.first_decode


def main() -> int:
    """Exit status 2 without a GPU."""
    asked = _arguments()
    if not torch.cuda.is_available():
        sys.stderr.write("there is no GPU: this measures one\n")
        return 2
    started = datetime.now(UTC)
    path = asked.output or results_path(started, "live")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    print(f"{'ms':<8}{'prompt':>8}{'TTFT':>10}{'transfer':>10}{'second':>10}{'TBT':>10}")
    for row in _rows(asked):
        rows.append(row)
        seen = f"{row.transfer or 0:>10.1f}{row.second_token:>10.1f}{row.tbt:>10.2f}"
        print(f"{row.setup:<8}{row.prompt_tokens:>8}{row.ttft:>10.1f}{seen}", flush=True)
        result = _result(started, asked.preset, rows)  # a run that is cut short leaves its part
        path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    sys.stderr.write(f"wrote {path}\n")
    return 0


def _rows(asked: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(dir=asked.directory) as place:
        model = Path(place) / "model"
        write_shape(model, PRESETS[asked.preset], 0, torch.bfloat16, "cuda")
        torch.cuda.empty_cache()
        for setup in asked.setups.split(","):
            with _cluster(setup, model, Path(place) / setup) as state:
                for length in map(int, asked.lengths.split(",")):
                    yield _measured(setup, length, state)


def _result(started: datetime, preset: str, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "date": started.isoformat(timespec="seconds"),
        "model": preset,
        "requests": REQUESTS,
        "answer_tokens": ANSWER_TOKENS,
        "versions": versions(),
        "device": device_properties(),
        "rows": [asdict(row) | {"second_token": round(row.second_token, 2)} for row in rows],
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.live", description=__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="llama-3-8b")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="of prompts")
    parser.add_argument("--setups", default=",".join(SETUPS), help="mixed, or a transport")
    parser.add_argument("--directory", help="where 16 GB of weights go while it runs")
    parser.add_argument("--output", type=Path, help="where to write the JSON file")
    return parser.parse_args()


@contextmanager
def _cluster(setup: str, model: Path, directory: Path) -> Iterator[Path]:
    """The state directory of a cluster that is ready; it is stopped at the end."""
    directory.mkdir()
    file, state = directory / "cluster.json", directory / "state"
    file.write_text(json.dumps(_document(setup, model)))
    where = ["--state-dir", str(state)]
    up = [SPLITWISE, "up", "-f", str(file), "--detach", f"--port={free_port()}", *where]
    # Both workers are given the first GPU, as if it were two.
    shared = os.environ | {"CUDA_VISIBLE_DEVICES": "0,0"}
    subprocess.run([*up, f"--wait={READY_S}"], env=shared, timeout=START_S, check=True)
    try:
        yield state
    finally:
        subprocess.run([SPLITWISE, "down", *where], stdout=subprocess.DEVNULL, check=True)


def _document(setup: str, model: Path) -> dict[str, Any]:
    """The cluster file. JSON is YAML."""
    roles: Sequence[str] = ["mixed"] if setup == "mixed" else ["prompt", "token"]
    pools = [
        {"name": role, "role": role, "replicas": 1, "kvMemory": "4Gi", "gpu": {"count": 1}}
        for role in roles
    ]
    spec: dict[str, Any] = {"model": {"name": "live", "path": str(model)}, "pools": pools}
    if setup != "mixed":
        spec["transfer"] = {"transport": setup.upper()}
    return {
        "apiVersion": "splitwise.dev/v1alpha1",
        "kind": "SplitwiseCluster",
        "metadata": {"name": "live"},
        "spec": spec,
    }


def _measured(setup: str, prompt_tokens: int, state: Path) -> Row:
    """Raises CalledProcessError when a request failed."""
    report = state.parent / f"{prompt_tokens}.json"
    load = {
        "rate": RATE,
        "arrivals": "constant",
        "requests": REQUESTS,
        "prompt-tokens": prompt_tokens,
        "output-tokens": ANSWER_TOKENS,
        "seed": prompt_tokens,  # no prompt begins as one of another length did
        "json": report,
        "state-dir": state,
    }
    flags = [f"--{name}={value}" for name, value in load.items()]
    subprocess.run([SPLITWISE, "bench", *flags], stdout=subprocess.DEVNULL, check=True)
    found = json.loads(report.read_text())
    stages = found["stages_s"]
    medians = [found["ttft_s"], found["tbt_s"], stages["transfer"], stages["first_decode"]]
    ttft, tbt, transfer, first_decode = (
        None if each["p50"] is None else round(1e3 * each["p50"], 2) for each in medians
    )
    assert ttft is not None
    assert tbt is not None
    return Row(setup, prompt_tokens, ttft, tbt, transfer, first_decode)


if __name__ == "__main__":
    sys.exit(main())
