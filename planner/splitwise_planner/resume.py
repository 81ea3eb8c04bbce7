"""What was simulated before: a file that a search which was broken off goes on from.

One JSON object a line, appended as soon as a verdict is known; a line that was cut short by the end
of a process is the last one, and is left out. The first line says what was asked, so that verdicts
of another question are never taken for this one's.
"""

import json
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from splitwise_core.errors import UserError
from splitwise_planner.design import Design
from splitwise_planner.slo import Verdict

_Key = tuple[str, float, int, int | None]


class Notebook:
    """Verdicts by design, rate, seed and hour. For any thread."""

    def __init__(self, path: Path, question: str) -> None:
        """Reads what is there; `question` is what all verdicts depend on but these. Raises
        UserError (invalid-plan) for a file of another question."""
        self._path = path
        self._lock = Lock()
        self._known: dict[_Key, Verdict] = {}
        self._asked = sha256(question.encode()).hexdigest()
        self._read()

    def find(self, design: Design, rate: float, seed: int, hour: int | None) -> Verdict | None:
        """What was found before."""
        return self._known.get((str(design), rate, seed, hour))

    def add(
        self, design: Design, rate: float, seed: int, hour: int | None, verdict: Verdict
    ) -> None:
        """Notes a verdict, on disk too; nothing when it is known."""
        key = str(design), rate, seed, hour
        with self._lock:
            if key in self._known:
                return
            self._known[key] = verdict
            found = {"slowdown": verdict.slowdown, "unfinished": verdict.unfinished}
            self._write({"design": key[0], "rate": rate, "seed": seed, "hour": hour} | found)

    def _read(self) -> None:
        try:
            lines = self._path.read_text("utf-8").splitlines() if self._path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise self._refused(f"cannot be read: {error}") from error
        if not lines:
            self._write({"question": self._asked})
            return
        if self._parsed(lines[0]).get("question") != self._asked:
            raise self._refused("is of another question: trace, model, times, mode or objectives")
        for number, line in enumerate(lines[1:], 2):
            try:
                row = json.loads(line)
                hour = None if row.get("hour") is None else int(row["hour"])
                key = str(row["design"]), float(row["rate"]), int(row["seed"]), hour
                verdict = Verdict(dict(row["slowdown"]), int(row["unfinished"]))
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines):  # cut short by the end of its process
                    self._rewrite(lines[:-1])
                    return
                raise self._refused(f"has a line {number} that does not read") from error
            self._known[key] = verdict

    def _rewrite(self, lines: list[str]) -> None:
        try:
            self._path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        except OSError as error:
            raise self._refused(f"cannot be written: {error.strerror}") from error

    def _parsed(self, line: str) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}

    def _write(self, row: dict[str, Any]) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise self._refused(f"cannot be written: {error.strerror}") from error

    def _refused(self, wrong: str) -> UserError:
        where, fix = f"--resume {self._path}", "name another file, which need not be there yet"
        return UserError("invalid-plan", where=where, wrong=wrong, fix=fix)
