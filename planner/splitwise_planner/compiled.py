"""Compiles the simulator's functions, and keeps what was compiled between runs.

Only `entry` points are kept on disk. numba looks at the file of a kept function alone, so that a
change in another file would go unseen: the folder is named after all sources that are compiled.
"""

import os
import tempfile
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])


def index(value: int) -> int:
    """A constant to pass on: of a plain int, numba would compile a version for each value."""
    return cast(int, np.int64(value))


_numba: Final = cast(Any, numba)  # its stubs lack options that are used here

_EXACT: Final[dict[str, Any]] = {
    # A division by zero gives infinity as in C; Python's check costs a branch each.
    "error_model": "numpy",
    # No compiled function makes an array, so none needs to count references to those it is given:
    # without, a simulation takes a quarter of the time (3 us a request instead of 11).
    "_nrt": False,
}
"""How all of it is compiled. LLVM may neither reorder nor fuse arithmetic: same digits anywhere."""


def kernel(function: Function) -> Function:
    """`function` compiled into whatever compiled function calls it; Python cannot call it."""
    compiled = _numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_EXACT)(function)
    return cast(Function, compiled)


def entry(function: Function) -> Function:
    """`function` compiled when it is called first, and read from disk from then on.

    It runs without Python's lock: threads run several at once.
    """
    before = _numba.config.CACHE_DIR
    _numba.config.CACHE_DIR = str(_cache_folder())
    try:
        return cast(Function, _numba.njit(cache=True, nogil=True, **_EXACT)(function))
    finally:
        _numba.config.CACHE_DIR = before


def is_kept(function: Callable[..., Any]) -> bool:
    """Whether an entry point was compiled before, as far as the disk tells; it then starts fast."""
    folder = Path(cast(Any, function).stats.cache_path)
    return any(folder.glob(f"*{function.__name__}*.nbi"))


@cache
def _cache_folder() -> Path:
    """A folder of this version of the code: the user's cache, else a private temporary one."""
    here = Path(__file__)
    sources = [here, *sorted((here.parent / "compat").rglob("*.py"))]
    version = sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    kept = Path(base) / "splitwise" / "planner" / version
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=kept):
            return kept
    except OSError:  # a read-only home: compile again in each run rather than not at all
        return Path(tempfile.mkdtemp(prefix="splitwise-planner-"))
