"""`move.c` and `turns.c` as ctypes sees them: records, and functions, which hold no interpreter
lock."""

import ctypes
from pathlib import Path
from typing import Any, Final

from splitwise_sidecar.layout import SpanLayout, address_of

PATH: Final = Path(__file__).with_name("libmove.so.2")

SHORT: Final = 240
"""Bytes up to which xxh3 is another function; it is left to `xxhash`, which gets `head`."""


class Digest(ctypes.Structure):
    """`kv_digest`."""

    _fields_ = (
        ("lanes", ctypes.c_uint64 * 8),
        ("total", ctypes.c_uint64),
        ("stripes", ctypes.c_uint32),
        ("pending", ctypes.c_uint32),
        ("before", ctypes.c_uint8 * 64),
        ("tail", ctypes.c_uint8 * 64),
        ("head", ctypes.c_uint8 * (SHORT + 16)),
    )


class MoveState(ctypes.Structure):
    """`kv_move`: how far a layer is, and its digest."""

    _fields_ = (
        ("at", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("hashed", ctypes.c_uint64),
        ("stop", ctypes.c_uint32),
        ("layer", ctypes.c_uint32),
        ("error", ctypes.c_int32),
        ("digest", Digest),
    )


def new_bytes(length: int) -> tuple[bytes, int]:
    """Bytes that nobody has seen yet, and where they are to be written before anybody does."""
    fresh: bytes = _python_bytes(None, length)
    return fresh, address_of(fresh)


_python_bytes: Final = ctypes.pythonapi.PyBytes_FromStringAndSize
_python_bytes.argtypes, _python_bytes.restype = (
    (ctypes.c_char_p, ctypes.c_ssize_t),
    ctypes.py_object,
)


def _load() -> Any:
    try:
        library = ctypes.CDLL(str(PATH))
    except OSError:
        return None
    span, move = ctypes.POINTER(SpanLayout), ctypes.POINTER(MoveState)
    memory, number = ctypes.c_void_p, ctypes.c_int
    arguments = {
        "kv_digest_begin": (ctypes.POINTER(Digest),),
        "kv_read": (span, move, memory, ctypes.c_uint64, number),
        "kv_copy": (span, span, move, number, memory),
        "kv_gather": (span, move, memory, ctypes.c_uint64),
        "kv_scatter": (span, move, memory, ctypes.c_uint64),
        "kv_send": (span, move, number, number),
        "kv_receive": (span, move, number, number),
    }
    for name, types in arguments.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, None
    library.kv_read.restype = number
    library.kv_turns_begin.argtypes = (ctypes.POINTER(memory),)
    library.kv_turns_begin.restype = number
    library.kv_turns_end.argtypes, library.kv_turns_end.restype = (memory,), None
    library.kv_digest_value.argtypes = (ctypes.POINTER(Digest),)
    library.kv_digest_value.restype = ctypes.c_uint64
    return library


LIBRARY: Final = _load()
"""None where it was not built."""
