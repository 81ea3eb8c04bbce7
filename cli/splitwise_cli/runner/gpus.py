"""GPUs of this machine, as a device plugin would tell a kubelet of them."""

import os
import re
from itertools import takewhile
from pathlib import Path
from typing import Final

RESOURCE: Final = "nvidia.com/gpu"
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"

_DEVICE: Final = re.compile(r"nvidia(\d+)")


def gpus(devices: Path = Path("/dev")) -> list[str]:
    """The ids of the GPUs that this process may use; CUDA_VISIBLE_DEVICES limits them."""
    if (visible := os.environ.get(VISIBLE)) is not None:
        listed = (part.strip() for part in visible.split(","))
        return list(takewhile(lambda part: part not in ("", "-1"), listed))  # as CUDA reads it
    found = (_DEVICE.fullmatch(path.name) for path in devices.glob("nvidia*"))
    return sorted((match[1] for match in found if match), key=int)
