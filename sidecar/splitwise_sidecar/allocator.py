"""How this process keeps memory that it has freed."""

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # as in the C library's malloc.h, like the next
_M_MMAP_THRESHOLD: Final = -3

FROM_HEAP_BYTES: Final = 32 << 20
"""The C library takes no more. Allocations above it go back to the system when they are freed."""

KEPT_BYTES: Final = 256 << 20
"""Freed memory that stays: more than gRPC has of bulk on its way at any time."""


def keep_freed_memory() -> None:
    """Lets messages of bulk reuse each other's pages, where the C library is GNU's.

    It would give each back and have the system clear another one: a third of what gRPC costs.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, FROM_HEAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
