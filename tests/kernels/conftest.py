"""What was compiled once is kept beside the project, not in the home directory."""

import os
from pathlib import Path

os.environ.setdefault("TRITON_CACHE_DIR", str(Path(__file__).parents[2] / ".cache" / "triton"))
