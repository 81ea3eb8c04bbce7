"""What a machine needs to move KV by RDMA: a device that speaks verbs, and NIXL's module."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

DEVICES: Final = Path("/dev/infiniband")
EXTRA: Final = "pip install 'splitwise[rdma]'"
"""What installs NIXL."""

_MODULES: Final = ("nixl_cu13", "nixl_cu12", "nixl")
"""The wheels name it after the CUDA that they are for."""


def has_device(devices: Path = DEVICES) -> bool:
    """Whether this container was given a device that speaks verbs."""
    return any(os.access(device, os.R_OK | os.W_OK) for device in devices.glob("uverbs*"))


def nixl_module() -> str | None:
    """The name of NIXL's Python module, where it is installed."""
    return next((name for name in _MODULES if find_spec(name) is not None), None)
