"""`python -m splitwise_sidecar.moves.build`: compiles `move.c` and `turns.c`.

Installing Splitwise does it too, where there is a C compiler. Without one the sidecar moves bytes
in Python: the same bytes, slower.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = tuple(Path(__file__).with_name(name) for name in ("move.c", "turns.c"))
TARGET = Path(__file__).with_name("libmove.so.2")  # a name that no import takes for a module's
FLAGS = ("-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared")


def build() -> bool:
    """Whether `TARGET` was built; False when there is no C compiler. Raises CalledProcessError."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return False
    fresh = TARGET.with_suffix(f".{os.getpid()}")  # a sidecar may have the old one mapped
    command = [*compiler.split(), *FLAGS, "-o", str(fresh), *map(str, SOURCES), "-lrt"]
    subprocess.run(command, check=True)
    fresh.replace(TARGET)
    return True


if __name__ == "__main__":
    sys.exit(0 if build() else "no C compiler: set CC, or install one")
