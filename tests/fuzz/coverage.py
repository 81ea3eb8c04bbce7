"""Which lines of the sidecar have run: what is reached for the first time guides the fuzzing."""

import sys
from types import CodeType, FrameType
from typing import Any, Final, Protocol

PACKAGE: Final = "splitwise_sidecar"


class Coverage(Protocol):
    """Counts lines that have run since `start`."""

    lines: int

    def start(self) -> None:
        """Begins to look."""

    def stop(self) -> None:
        """Looks no more, if looking costs anything."""


class Monitored:
    """Python 3.12 and newer: each line reports once, and costs nothing afterwards."""

    def __init__(self) -> None:
        self.lines = 0
        self._monitoring: Any = vars(sys)["monitoring"]
        self._tool: int = self._monitoring.COVERAGE_ID
        self._looks = False

    def start(self) -> None:
        """Begins to look, for good: it costs nothing."""
        if not self._looks:
            self._looks = True
            line = self._monitoring.events.LINE
            self._monitoring.use_tool_id(self._tool, "splitwise-fuzz")
            self._monitoring.register_callback(self._tool, line, self._line)
            self._monitoring.set_events(self._tool, line)

    def stop(self) -> None:
        """Nothing."""

    def _line(self, code: CodeType, _: int) -> Any:
        self.lines += PACKAGE in code.co_filename
        return self._monitoring.DISABLE


class Traced:
    """Python 3.11: functions of which every line has run are not looked at any more."""

    def __init__(self) -> None:
        self.lines = 0
        self._left: dict[CodeType, set[int]] = {}

    def start(self) -> None:
        """Begins to look, in this thread."""
        sys.settrace(self._call)

    def stop(self) -> None:
        """Ends it."""
        sys.settrace(None)

    def _call(self, frame: FrameType, _: str, __: object) -> Any:
        left = self._left.get(frame.f_code)
        if left is None:
            left = self._left[frame.f_code] = _lines(frame.f_code)
        return self._line if left else None

    def _line(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            left = self._left[frame.f_code]
            if frame.f_lineno in left:
                left.discard(frame.f_lineno)
                self.lines += 1
        return self._line


def _lines(code: CodeType) -> set[int]:
    if PACKAGE not in code.co_filename:
        return set()
    return {line for _, _, line in code.co_lines() if line and line != code.co_firstlineno}


def new_coverage() -> Coverage:
    """What this Python has."""
    return Monitored() if hasattr(sys, "monitoring") else Traced()
