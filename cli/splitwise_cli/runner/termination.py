"""How a container's last run ended, and what it left to be said about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

MESSAGE_BYTES: Final = 4096
"""What a kubelet keeps of a termination message."""
LOG_TAIL_BYTES: Final = 2048
LOG_TAIL_LINES: Final = 80


@dataclass(frozen=True, slots=True)
class Ended:
    """One run that is over. Times are seconds since the epoch; a signal is a negative code."""

    exit_code: int
    began_s: float
    ended_s: float
    message: str


def termination_message(
    file: Path | None, policy: str, log_file: Path, log_from: int, exit_code: int
) -> str:
    """What the run wrote to `file`; after a failure its log's end, if `policy` says so.

    `log_from` is the log's size in bytes when the run began.
    """
    if file is not None and (said := _tail(file, 0, MESSAGE_BYTES)):
        return said
    if exit_code == 0 or policy != "FallbackToLogsOnError":
        return ""
    lines = _tail(log_file, log_from, LOG_TAIL_BYTES).splitlines(keepends=True)
    return "".join(lines[-LOG_TAIL_LINES:])


def _tail(file: Path, start: int, most_bytes: int) -> str:
    size = file.stat().st_size if file.exists() else 0
    if size <= start:
        return ""
    with file.open("rb") as stream:
        stream.seek(max(start, size - most_bytes))
        return stream.read(most_bytes).decode("utf-8", errors="replace")
