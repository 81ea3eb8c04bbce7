"""Called when Splitwise is installed or packed: compiles the sidecar's moves into their package."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILD = Path(__file__).parent / "splitwise_sidecar" / "moves" / "build.py"


class BuildHook(BuildHookInterface[Any]):
    """Without a compiler the package is complete, and its sidecar slower."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds it, and takes it into the wheel."""
        built = subprocess.run([sys.executable, str(BUILD)], check=False)
        if built.returncode == 0:
            build_data["artifacts"].append("sidecar/splitwise_sidecar/moves/libmove.so.2")
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
