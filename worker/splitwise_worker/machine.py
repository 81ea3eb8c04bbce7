"""What the worker's machine costs, draws and can do: as the spec says, or the device tells."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from splitwise_core.latency.power import PowerModel
from splitwise_worker.nvml import energy_counter

Joules = Callable[[], float]
"""All that a device has used since some moment; it never falls."""


@dataclass(frozen=True, slots=True)
class Machine:
    """None is what nobody has told."""

    dollars_per_hour: float | None = None
    power: PowerModel | None = None
    peak_flops_per_s: float | None = None
    peak_bytes_per_s: float | None = None
    joules: Joules | None = None


_PEAKS: Final = {
    "NVIDIA H200": (989.4e12, 4.8e12),
    "NVIDIA H100 80GB HBM3": (989.4e12, 3.35e12),
    "NVIDIA A100-SXM4-80GB": (312e12, 2.039e12),
    "NVIDIA A100-SXM4-40GB": (312e12, 1.555e12),
}
"""FLOP/s in bfloat16, dense, and bytes/s of memory, by the name that the driver gives: NVIDIA's
data sheets of H200, H100 SXM and A100 SXM, read 2026-11-26."""


def machine_of(asked: Machine, device: str, weights: str) -> Machine:
    """`asked` with what the device tells, where the spec says nothing. `weights` is their format.

    The peaks are those of bfloat16: for other weights on a GPU there are none.
    """
    if device == "cpu":
        return asked
    properties = torch.cuda.get_device_properties(0)
    known = _PEAKS.get(properties.name) if weights == "bfloat16" else None
    flops_per_s, bytes_per_s = known if known is not None else (None, None)
    return Machine(
        asked.dollars_per_hour,
        asked.power,
        asked.peak_flops_per_s or flops_per_s,
        asked.peak_bytes_per_s or bytes_per_s,
        energy_counter(f"GPU-{properties.uuid}"),
    )
