"""A command on a terminal of its own, as a person sees it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Terminal:
    """What a command has written to its terminal so far."""

    process: "subprocess.Popen[bytes]"
    descriptor: int
    raw: str = ""

    @property
    def lines(self) -> list[str]:
        """All lines that were ever drawn, without colours and movements."""
        return _CONTROL.sub("", self.raw).replace("\r", "\n").split("\n")

    def wait_for(self, text: str, within_s: float = 60.0) -> None:
        """Reads until `text` has been written since the last call."""
        give_up = time.monotonic() + within_s
        since = len(self.raw)
        while text not in _CONTROL.sub("", self.raw[since:]):
            assert time.monotonic() < give_up, f"no {text!r} in {self.raw[-3000:]!r}"
            self._read(0.1)

    def interrupt(self, within_s: float = 30.0) -> int:
        """Ctrl-C; the exit status, and the rest is read."""
        os.write(self.descriptor, b"\x03")
        give_up = time.monotonic() + within_s
        while self.process.poll() is None:
            assert time.monotonic() < give_up, self.raw[-3000:]
            self._read(0.1)
        self._read(0.0)
        return self.process.wait()

    def _read(self, within_s: float) -> None:
        if select.select([self.descriptor], [], [], within_s)[0]:
            try:
                self.raw += os.read(self.descriptor, 1 << 16).decode("utf-8", "replace")
            except OSError:  # the other end is closed
                time.sleep(within_s)


@contextmanager
def terminal(command: Sequence[str], columns: int = 80, rows: int = 30) -> Iterator[Terminal]:
    """Runs it; whatever happens it ends with the context."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    known = {name: value for name, value in os.environ.items() if name not in _DECISIVE}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=known | {"TERM": "xterm-256color"},
        preexec_fn=_own_terminal,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        os.close(ours)


_DECISIVE = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM")


def _own_terminal() -> None:
    """So that Ctrl-C reaches the command as from a keyboard."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
