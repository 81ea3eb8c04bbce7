"""A small random model, and engines around it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from splitwise_worker.model.decoder import Decoder
from splitwise_worker.random_model import PRESETS, Preset, write
from tests.worker.support import LAYERS, LENGTH, VOCAB, Rig

SMALL = Preset(LAYERS, 32, 4, 2, 8, 48, VOCAB, LENGTH, 10_000.0, False)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the small model."""
    directory = tmp_path_factory.mktemp("small") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "small", SMALL)
        write(directory, "small", seed=7)
    return directory


@pytest.fixture(scope="session")
def decoder(checkpoint: Path) -> Decoder:
    return Decoder.load(checkpoint, max_model_len=LENGTH)


MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig(decoder: Decoder, tmp_path: Path) -> Iterator[MakeRig]:
    """`make_rig(blocks=2)`: an engine that a sidecar is attached to."""
    made: list[Rig] = []

    def make(**options: Any) -> Rig:
        rig = Rig(**{"decoder": decoder, "directory": tmp_path} | options)
        made.append(rig)
        rig.attach()
        return rig

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    """An engine with 4 blocks, each a whole sequence, and room for 8 sequences."""
    return make_rig()
