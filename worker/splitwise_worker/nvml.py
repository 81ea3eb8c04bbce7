"""The energy that a GPU has used, asked of NVML: a library that comes with NVIDIA's driver."""

import logging
from collections.abc import Callable
from ctypes import CDLL, byref, c_char_p, c_ulonglong, c_void_p
from typing import Final

log = logging.getLogger("splitwise.worker.nvml")

LIBRARY: Final = "libnvidia-ml.so.1"
_OK: Final = 0


def energy_counter(uuid: str, library: str = LIBRARY) -> Callable[[], float] | None:
    """Asks for the joules of the GPU `uuid` since its driver was loaded; None where it tells none.

    GPUs before Volta, and parts of a GPU, do not. The log says why.
    """
    try:
        nvml = CDLL(library)
        device = c_void_p()
        _check(nvml.nvmlInit_v2(), "nvmlInit_v2")
        found = nvml.nvmlDeviceGetHandleByUUID(c_char_p(uuid.encode()), byref(device))
        _check(found, "nvmlDeviceGetHandleByUUID")
        last = _millijoules(nvml, device)
    except (OSError, AttributeError) as error:
        log.warning("the GPU's energy is not measured", extra={"fields": {"why": str(error)}})
        return None

    def joules() -> float:
        nonlocal last
        try:
            last = _millijoules(nvml, device)
        except OSError as error:  # the GPU has fallen off the bus, say: the count stands still
            log.warning("the GPU's energy is not known now", extra={"fields": {"why": str(error)}})
        return last / 1000

    return joules


def _millijoules(nvml: CDLL, device: c_void_p) -> int:
    used = c_ulonglong()
    status = nvml.nvmlDeviceGetTotalEnergyConsumption(device, byref(used))
    _check(status, "nvmlDeviceGetTotalEnergyConsumption")
    return used.value


def _check(status: int, call: str) -> None:
    if status != _OK:
        raise OSError(f"{call} returned {status}")
