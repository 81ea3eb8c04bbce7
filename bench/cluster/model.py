"""The model that the clusters serve: fit for two cores, and yet one where compute counts."""

from pathlib import Path
from typing import Final

from splitwise_worker.random_model import Preset, write_shape
from splitwise_worker.tiny.vocabulary import VOCABULARY

SHAPE: Final = Preset(
    layers=8,
    width=256,
    heads=8,
    kv_heads=4,
    head_dim=32,
    mlp=704,
    vocabulary=len(VOCABULARY),
    length=2048,
    theta=10_000.0,
    tied=True,
)
"""A Llama of 6 million parameters: with more, two cores answer too few requests a minute."""

MAX_LENGTH: Final = 1024
"""Context that the clusters give it: KV blocks on a CPU are whole sequences, of 8 MiB each."""


def written(directory: Path, shape: Preset = SHAPE) -> Path:
    """The directory of the checkpoint, written anew: it takes less time than to load it."""
    write_shape(directory, shape, seed=0)
    return directory
