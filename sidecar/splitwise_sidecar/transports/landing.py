"""A second mapping of a pool, for agents of others to write through: it can be taken from them.

Whoever holds the keys to memory writes it whenever it likes, and nothing here sees it happen. The
pool itself is therefore never given out. When a sender has vanished, the blocks that it could write
are replaced in this mapping by memory of no use: what it still writes lands there. Writes through a
network card go around mappings: for them the keys are withdrawn as well (`nixl_receiver`).
"""

import ctypes
import os
from collections.abc import Iterable
from mmap import (
    MAP_ANONYMOUS,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    PAGESIZE,
    PROT_READ,
    PROT_WRITE,
)
from typing import Any, Final

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.pool import Pool
from splitwise_sidecar.refusal import Refused

_MAP_FIXED: Final = 0x10  # as in the kernel's headers, like the next
_MAP_NORESERVE: Final = 0x4000
_READ_WRITE: Final = PROT_READ | PROT_WRITE
_WASTE: Final = MAP_PRIVATE | MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED


class Landing:
    """The mapping; `base` is its address in this process."""

    def __init__(self, pool: Pool) -> None:
        """Raises Refused when there is no room for it."""
        self.size = len(pool.memory)
        self._block_bytes = pool.geometry.block_bytes
        self._is_wasted = False
        fd = os.open(f"/proc/self/fd/{pool.fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            # Populated: a first write that waits for each page would be half as fast.
            self.base = _map(None, self.size, MAP_SHARED | MAP_POPULATE, fd)
        finally:
            os.close(fd)

    def waste(self, blocks: Iterable[int]) -> None:
        """From now on what is written to these blocks lands nowhere.

        A page that they share with others goes too; the digests of those others will tell.
        """
        self._is_wasted = True
        for block in blocks:
            start = block * self._block_bytes // PAGESIZE * PAGESIZE
            end = -(-(block + 1) * self._block_bytes // PAGESIZE) * PAGESIZE
            _map(self.base + start, end - start, _WASTE, -1)

    def close(self) -> None:
        """Unmaps it. Where someone may still write, the addresses stay taken, and empty."""
        if self._is_wasted:
            _map(self.base, self.size, _WASTE, -1)
        else:
            _libc.munmap(self.base, self.size)


def _map(address: int | None, size: int, flags: int, fd: int) -> int:
    at = _libc.mmap(address, size, _READ_WRITE, flags, fd, 0)
    if at == ctypes.c_void_p(-1).value:
        why = os.strerror(ctypes.get_errno())
        raise Refused(kv_pb2.NO_CAPACITY, f"{size} bytes of the pool cannot be mapped: {why}")
    return int(at)


def _load() -> Any:
    """The C library: Python's own mmap cannot say where."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library


_libc: Final = _load()
