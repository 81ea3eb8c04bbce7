"""`splitwise down`: stops the cluster of a state directory."""

import os
import select
import signal
from contextlib import suppress
from pathlib import Path

from splitwise_cli.runner.state import StateDir, default_state_dir
from splitwise_core.errors import UserError


def down(state_dir: Path | None) -> None:
    """Returns when nothing of the cluster runs any more. Raises UserError when none is up."""
    state = StateDir((state_dir or default_state_dir()).absolute())
    running = state.running()
    pid, within_s = int(running["runner"]), float(running["stopsWithinSeconds"])
    with suppress(ProcessLookupError):  # it ended just now by itself
        runner = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(runner, signal.SIGTERM)
            ended, _, _ = select.select([runner], [], [], within_s)
        finally:
            os.close(runner)
        if not ended:
            raise UserError(
                "start-failed",
                where=str(state.path),
                wrong=f"the cluster did not stop within {within_s:.0f} s",
                fix=f"kill -9 {pid}: its containers end with it",
            )
