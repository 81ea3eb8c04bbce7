"""Kernels, copies and the decoder on a GPU: right, and how near to what the device itself can do.

Runs from a bare checkout: nothing of this project needs to be installed.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

for room in ("core", "worker"):
    if (path := str(ROOT / room)) not in sys.path:
        sys.path.insert(0, path)
