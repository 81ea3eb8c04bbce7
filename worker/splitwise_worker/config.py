"""The worker's command line, checked, as one record. The environment is read in `main` alone."""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitwise_core.policy.batching import PROMPT_BATCH_TOKENS


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How this worker was started."""

    worker_id: str
    pool: str
    role: str
    revision: str
    model: Path
    model_name: str
    dtype: str
    max_length: int | None
    kv_memory: int
    max_sequences: int
    prompt_batch_tokens: int
    lease_seconds: float
    listen: str
    status: str
    sidecar_socket: Path
    sidecar_address: str


def parse(arguments: Sequence[str]) -> WorkerConfig:
    """The record for `arguments`. Exits with status 2 and a usage message when they are wrong."""
    parser = ArgumentParser(prog="splitwise-worker", description="One inference worker.")
    text: dict[str, Any] = {"type": str, "required": True}
    parser.add_argument("--worker-id", **text, help="unique name: the pod's")
    parser.add_argument("--pool", **text)
    parser.add_argument("--role", required=True, choices=["prompt", "token", "mixed"])
    parser.add_argument("--revision", default="", help="workers are paired within a revision")
    parser.add_argument("--model", type=Path, required=True, help="directory of the checkpoint")
    parser.add_argument("--model-name", **text, help="what clients call the model")
    dtypes = ["auto", "float32", "bfloat16", "float16", "int8"]
    parser.add_argument("--dtype", default="auto", choices=dtypes)
    parser.add_argument("--max-length", type=_positive, help="context; default: the model's own")
    parser.add_argument("--kv-memory", type=_positive, required=True, help="bytes")
    parser.add_argument("--max-sequences", type=_positive, default=64)
    parser.add_argument("--prompt-batch-tokens", type=_positive, default=PROMPT_BATCH_TOKENS)
    parser.add_argument("--lease-seconds", type=float, default=10.0)
    parser.add_argument("--listen", **text, help="host:port of the Worker service")
    parser.add_argument("--status", **text, help="host:port of /metrics, /healthz and /readyz")
    parser.add_argument("--sidecar-socket", type=Path, required=True)
    parser.add_argument("--sidecar-address", **text, help="host:port that peers push to")
    return WorkerConfig(**vars(parser.parse_args(arguments)))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(f"{value} is not above 0")
    return value
