"""The checkpoint in memory, with what follows from it: device, geometry, how many blocks fit."""

import logging
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import torch

from splitwise_core.errors import UserError
from splitwise_core.kv import KvGeometry
from splitwise_worker.config import WorkerConfig
from splitwise_worker.kv.host_pool import blocks_in
from splitwise_worker.model.config import ModelConfig
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.model.linear import Weights

log = logging.getLogger("splitwise.worker.loaded")

BLOCK_TOKENS: Final = 32
"""A page that fills a tile row of the decode kernel and is still one large read per layer; and
prefixes are shared by whole pages, so that a larger one would leave more of a prompt unshared."""

_SAMPLE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to run, and the pool that goes with it. `tokenizer` is a fingerprint."""

    decoder: Decoder
    device: str
    max_model_len: int
    geometry: KvGeometry
    num_blocks: int
    tokenizer: bytes
    weights: Weights

    def fields(self) -> dict[str, object]:
        """What the log says about it."""
        return {
            "model": self.geometry.model,
            "device": self.device,
            "context": self.max_model_len,
            "kv_blocks": self.num_blocks,
            "kv_bytes": self.num_blocks * self.geometry.block_bytes,
        }


def load(config: WorkerConfig) -> Loaded:
    """Loads the checkpoint that `config` names. Raises UserError for what the reader can fix."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = _weights(config.dtype, device)
    model = ModelConfig.load(config.model)
    max_model_len = _max_model_len(config, model)
    geometry = KvGeometry(
        model=f"{config.model_name}:{checkpoint_id(config.model)}",
        dtype="bfloat16" if weights == "bfloat16" else "float32",
        num_layers=model.num_layers,
        kv_heads=model.kv_heads,
        head_dim=model.head_dim,
        block_tokens=BLOCK_TOKENS,
    )
    num_blocks = blocks_in(geometry, config.kv_memory, config.max_sequences, max_model_len)
    decoder = Decoder.load(
        config.model, max_model_len=max_model_len, device=device, weights=weights
    )
    tokenizer = tokenizer_fingerprint(config.model)
    return Loaded(decoder, device, max_model_len, geometry, num_blocks, tokenizer, weights)


def _weights(dtype: str, device: str) -> Weights:
    """The weight format for `--dtype` on a device. Raises UserError for a pair that is not there.

    `auto` is exact on a CPU: float32, equal to the reference token for token.
    """
    formats: dict[tuple[str, str], Weights] = {
        ("auto", "cpu"): "float32",
        ("float32", "cpu"): "float32",
        ("float16", "cpu"): "float16",
        ("int8", "cpu"): "int8",
        ("auto", "cuda"): "bfloat16",
        ("bfloat16", "cuda"): "bfloat16",
        ("float32", "cuda"): "float32",
    }
    if (dtype, device) in formats:
        return formats[dtype, device]
    offered = ", ".join(sorted(kind for kind, where in formats if where == device))
    raise UserError(
        "model-unsupported",
        where="model.dtype",
        wrong=f"{dtype} is not implemented on {device}",
        fix=f"use one of {offered}",
    )


def _max_model_len(config: WorkerConfig, model: ModelConfig) -> int:
    if config.max_length is None:
        return model.max_positions
    if config.max_length > model.max_positions:
        raise UserError(
            "model-unsupported",
            where="model.maxLength",
            wrong=f"{config.max_length} tokens exceed the {model.max_positions} of the model",
            fix=f"set it to at most {model.max_positions}, or leave it out",
        )
    return config.max_length


def checkpoint_id(directory: Path) -> str:
    """16 hex digits that differ when two workers were given different checkpoints.

    It covers the configuration and the first and last MiB of each weight file: enough to tell
    checkpoints apart without reading all of them twice.
    """
    digest = sha256((directory / "config.json").read_bytes())
    for path in sorted(directory.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE_BYTES))
            file.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def tokenizer_fingerprint(directory: Path) -> bytes:
    """What a router compares with its own: sha256 of tokenizer.json, or nothing without one.

    The worker itself needs no tokenizer, but no router gives work to one that has another.
    """
    path = directory / "tokenizer.json"
    if not path.exists():
        log.warning("no tokenizer.json: no router will give work", extra={"fields": {"path": path}})
        return b""
    return sha256(path.read_bytes()).digest()
