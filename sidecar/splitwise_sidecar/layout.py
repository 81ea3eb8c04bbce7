"""Where a sequence lies in memory, for compiled code."""

import ctypes


class SpanLayout(ctypes.Structure):
    """`kv_span`: where a sequence lies."""

    _fields_ = (
        ("pool", ctypes.c_void_p),
        ("blocks", ctypes.POINTER(ctypes.c_uint32)),
        ("block_bytes", ctypes.c_uint64),
        ("layer_bytes", ctypes.c_uint64),
        ("token_bytes", ctypes.c_uint64),
        ("block_tokens", ctypes.c_uint32),
        ("num_tokens", ctypes.c_uint32),
    )


class _Buffer(ctypes.Structure):
    """`Py_buffer`, of which only the address is looked at."""

    _fields_ = (("address", ctypes.c_void_p), ("rest", ctypes.c_char * 128))


def address_of(memory: memoryview | bytes) -> int:
    """Where this memory begins; it need not be writable."""
    view = _Buffer()
    python = ctypes.pythonapi
    python.PyObject_GetBuffer(ctypes.py_object(memory), ctypes.byref(view), 0)
    python.PyBuffer_Release(ctypes.byref(view))
    return int(view.address or 0)
