"""The worker's command line, checked, as one record. The environment is read in `main` alone."""

import math
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from splitwise_core.arguments import address
from splitwise_core.latency.power import PowerModel
from splitwise_core.policy.batching import CHUNK_TOKENS, PROMPT_BATCH_TOKENS
from splitwise_core.policy.duty import REPURPOSE_S

MAX_COUNT: Final = 1 << 24
"""Sequences, or tokens, that one worker could ever be asked to hold."""

MAX_LEASE_S: Final = 86_400.0


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
    max_tbt_seconds: float | None
    prompt_batch_tokens: int
    chunk_tokens: int
    prefix_caching: bool
    repurpose_seconds: float
    lease_seconds: float
    listen: str
    status: str
    sidecar_socket: Path
    sidecar_address: str
    drain_seconds: int
    dollars_per_hour: float | None = None
    power: PowerModel | None = None
    peak_flops_per_second: float | None = None
    peak_bytes_per_second: float | None = None


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
    parser.add_argument("--max-length", type=_count, help="context; default: the model's own")
    parser.add_argument("--kv-memory", type=_positive, required=True, help="bytes")
    parser.add_argument("--max-sequences", type=_count, default=64)
    tbt_help = "of one sequence, on average; fewer decode together where steps take longer"
    parser.add_argument("--max-tbt-seconds", type=_seconds, help=tbt_help)
    parser.add_argument("--prompt-batch-tokens", type=_count, default=PROMPT_BATCH_TOKENS)
    parser.add_argument("--chunk-tokens", type=_count, default=CHUNK_TOKENS)
    parser.add_argument("--prefix-caching", default="on", choices=["on", "off"])
    parser.add_argument(
        "--repurpose-seconds",
        type=_seconds,
        default=REPURPOSE_S,
        help="borrowed for so long, it proposes to be of the other pool",
    )
    parser.add_argument("--lease-seconds", type=_seconds, default=10.0)
    place: dict[str, Any] = {"type": address, "required": True}
    parser.add_argument("--listen", **place, help="host:port of the Worker service")
    parser.add_argument("--status", **place, help="host:port of /metrics, /healthz and /readyz")
    parser.add_argument("--sidecar-socket", type=Path, required=True)
    parser.add_argument("--sidecar-address", **place, help="host:port that peers push to")
    parser.add_argument("--drain-seconds", type=_count, default=20, help="for running sequences")
    _add_machine(parser)
    values = vars(parser.parse_args(arguments))
    values["power"] = _power(parser, [values.pop(name) for name in _WATTS])
    values["prefix_caching"] = values["prefix_caching"] == "on"
    return WorkerConfig(**values)


_WATTS: Final = ("idle_watts", "prompt_watts", "token_watts")


def _add_machine(parser: ArgumentParser) -> None:
    """What metrics are estimated from, and nothing else."""
    for flag in ("--dollars-per-hour", "--idle-watts", "--prompt-watts", "--token-watts"):
        parser.add_argument(flag, type=_amount, help="of this worker, for metrics")
    peak = "that the device reaches at most, for metrics; known of some GPUs"
    parser.add_argument("--peak-flops-per-second", type=_amount, help=peak)
    parser.add_argument("--peak-bytes-per-second", type=_amount, help=peak)


def _power(parser: ArgumentParser, watts: Sequence[float | None]) -> PowerModel | None:
    given = [one for one in watts if one is not None]
    if 0 < len(given) < len(watts):
        parser.error("--idle-watts, --prompt-watts and --token-watts go together")
    return PowerModel(*given) if given else None


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"{text!r} is no number from 0 on")
    return value


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 63:
        raise ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _count(text: str) -> int:
    value = _positive(text)
    if value > MAX_COUNT:
        raise ArgumentTypeError(f"{value} is above {MAX_COUNT}")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.001 <= value <= MAX_LEASE_S:
        raise ArgumentTypeError(f"{text!r} is no time of 0.001 to {MAX_LEASE_S:.0f} seconds")
    return value
