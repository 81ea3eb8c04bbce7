"""Memory that processes share by a descriptor, and that keeps its size.

A file that could shrink under a mapping would kill who has it mapped at the next read.
"""

import fcntl
import os
from typing import Final

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def new_sealed(name: str, size: int) -> int:
    """A descriptor of so many zero bytes; `name` is for people. Raises OSError."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def is_sealed(fd: int) -> bool:
    """Whether it keeps its size. Raises OSError for what is no such memory."""
    seals: int = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    return seals & _SEALS == _SEALS


def only_to_read(fd: int) -> int:
    """Another descriptor of the same memory: who is handed it cannot write. Raises OSError."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
