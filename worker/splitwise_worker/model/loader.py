"""A checkpoint's tensors, streamed from its safetensors files and checked one by one."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from splitwise_core.errors import UserError


class Checkpoint:
    """Named tensors of a model directory. Each is read when asked for, in the dtype asked for."""

    def __init__(self, directory: Path, dtype: torch.dtype, device: str) -> None:
        self._directory = directory
        self._dtype = dtype
        self._device = device
        self._files = ExitStack()
        self._where: Mapping[str, tuple[Path, Any, str]] = {}

    def __enter__(self) -> "Checkpoint":
        paths = sorted(self._directory.glob("*.safetensors"))
        if not paths:
            raise UserError(
                "model-missing",
                where=str(self._directory),
                wrong="there is no *.safetensors file",
                fix="use a checkpoint in safetensors format",
            )
        self._where = {name: found for path in paths for name, found in self._open(path)}
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def _open(self, path: Path) -> Iterator[tuple[str, tuple[Path, Any, str]]]:
        try:
            file = self._files.enter_context(safe_open(path, "pt"))
            for name in file.keys():  # noqa: SIM118 - not a mapping
                yield name.removeprefix("model."), (path, file, name)
        except (SafetensorError, OSError) as error:
            raise _corrupt(str(path), f"is damaged or truncated: {error}") from error

    def tensor(self, name: str, *shape: int) -> Tensor:
        """The tensor `name`, which has to have `shape`. Raises UserError naming file and tensor."""
        if name not in self._where:
            raise _corrupt(f"{self._directory}: {name}", "the checkpoint has no such tensor")
        path, file, stored = self._where[name]
        try:
            value: Tensor = file.get_tensor(stored)
        except (SafetensorError, OSError) as error:
            raise _corrupt(f"{path}: {name}", f"cannot be read: {error}") from error
        if tuple(value.shape) != shape:
            wrong = f"has shape {tuple(value.shape)}, config.json asks for {shape}"
            raise _corrupt(f"{path}: {name}", wrong)
        if not value.is_floating_point():
            wrong = f"has dtype {value.dtype}: quantized checkpoints are not implemented"
            raise UserError(
                "model-unsupported",
                where=f"{path}: {name}",
                wrong=wrong,
                fix="use a float32, float16 or bfloat16 checkpoint",
            )
        return value.to(self._device, self._dtype)

    def stacked(self, names: list[str], rows: list[int], *columns: int) -> Tensor:
        """Several tensors as one, under each other."""
        return torch.cat([self.tensor(n, r, *columns) for n, r in zip(names, rows, strict=True)])


def _corrupt(where: str, wrong: str) -> UserError:
    return UserError(
        "model-corrupt", where=where, wrong=wrong, fix="copy the checkpoint again, whole"
    )
