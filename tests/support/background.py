"""Programs that run beside the tests, each with a log of its own."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from splitwise_cli.runner.process import die_with

STOP_S: Final = 30.0


@dataclass(slots=True)
class Background:
    """One program: started, stopped, killed, and started again with the same arguments."""

    command: Sequence[str]
    log: Path
    directory: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Starts it; it ends when this process does."""
        assert not self.is_running, f"{self.log.stem} runs already"
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                preexec_fn=partial(die_with, os.getpid()),
            )

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after STOP_S. Returns when it is gone."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL. Returns when it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_S)

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


@contextmanager
def running(program: Background) -> Iterator[Background]:
    """The program, started; stopped at the end."""
    program.start()
    try:
        yield program
    finally:
        program.stop()
