"""Programs that run beside, and are ended in any case."""

import subprocess
from typing import Final

STOP_S: Final = 30.0


def stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and SIGKILL after STOP_S. Returns when it is gone."""
    process.terminate()
    try:
        process.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
