"""What `splitwise bench` was asked for, checked before anything is sent."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

from splitwise_cli.bench.arrivals import Distribution, alike, arrival_times, limited, scaled
from splitwise_cli.bench.objectives import Objective, objective
from splitwise_cli.bench.summary import Slo
from splitwise_core.errors import UserError
from splitwise_core.trace import MOST_TOKENS, Arrival, read_trace

Answers = Literal["auto", "check", "ignore"]

MOST_RATE: Final = 100_000.0
MOST_REQUESTS: Final = 10**9
MOST_SECONDS: Final = 10.0**7
_LOAD: Final = (
    *("rate", "requests", "duration", "prompt_tokens", "output_tokens", "arrivals", "burst"),
    *("time_scale", "length_scale", "seed"),
)
_SYNTHETIC: Final = ("rate", "prompt_tokens", "output_tokens", "arrivals", "burst")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options by their names on the command line; times in seconds."""

    trace: Path | None = None
    rate: float | None = None
    requests: int | None = None
    duration: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    arrivals: Distribution | None = None
    burst: int | None = None
    time_scale: float = 1.0
    length_scale: float = 1.0
    seed: int = 0
    timeout: float = 600.0
    slo_ttft: float | None = None
    slo_tbt: float | None = None
    slo_e2e: float | None = None
    slo_run: Sequence[str] = ()
    answers: Answers = "auto"

    def check(self) -> None:
        """Raises UserError for a number out of its range, or options that do not go together."""
        for name in ("requests", "burst"):
            self._within(name, 1, MOST_REQUESTS)
        for name in ("prompt_tokens", "output_tokens"):
            self._within(name, 1, MOST_TOKENS)
        self._within("rate", 1e-6, MOST_RATE)
        for name in ("time_scale", "length_scale"):
            self._within(name, 1e-6, 1e6)
        for name in ("duration", "timeout", "slo_ttft", "slo_tbt", "slo_e2e"):
            self._within(name, 1e-6, MOST_SECONDS)
        self.objectives()
        if self.trace is None:
            self._check_synthetic()
        elif beside := [name for name in _SYNTHETIC if getattr(self, name) is not None]:
            raise _wrong(beside[0], "the trace says that already", "leave it out, or the trace")

    @property
    def slo(self) -> Slo:
        """What counts as good."""
        return Slo(self.slo_ttft, self.slo_tbt, self.slo_e2e)

    def objectives(self) -> list[Objective]:
        """What the whole run should keep to. Raises UserError."""
        return [objective(text) for text in self.slo_run]

    def body(self) -> dict[str, Any]:
        """The load as it stands in the report: what makes two runs comparable."""
        asked = {name: value for name, value in asdict(self).items() if name in _LOAD}
        return asked | {"trace": None if self.trace is None else self.trace.name}

    def load(self) -> Iterator[Arrival]:
        """The requests, one at a time. Raises UserError where the trace has a fault."""
        if self.trace is None:
            return limited(self._synthetic(), self.requests, self.duration)
        return limited(
            scaled(_lines(self.trace), self.time_scale, self.length_scale),
            self.requests,
            self.duration,
        )

    def count(self) -> int | None:
        """How many requests there will be; None when the clock decides.

        A trace is read once for this: its last line's fault is known before the first request.
        """
        if self.trace is None:
            return self.requests if self.duration is None else None
        return sum(1 for _ in self.load())

    def _synthetic(self) -> Iterator[Arrival]:
        assert self.rate is not None
        assert self.prompt_tokens is not None
        assert self.output_tokens is not None
        times_s = arrival_times(
            self.rate, self.arrivals or "poisson", self.burst or 1, Random(self.seed)
        )
        sizes = alike(times_s, self.prompt_tokens, self.output_tokens)
        return scaled(sizes, self.time_scale, self.length_scale)

    def _check_synthetic(self) -> None:
        for name in ("rate", "prompt_tokens", "output_tokens"):
            if getattr(self, name) is None:
                raise _wrong(name, "it is missing, and there is no trace", "add it, or a --trace")
        if self.requests is None and self.duration is None:
            raise _wrong("requests", "nothing says when to end", "add it, or a --duration")

    def _within(self, name: str, least: float, most: float) -> None:
        value = getattr(self, name)
        if value is not None and not (isfinite(value) and least <= value <= most):
            raise _wrong(name, f"{value:g} is out of range", f"use {least:g} to {most:g}")


def _lines(file: Path) -> Iterator[Arrival]:
    """The requests of a trace. Raises UserError when it cannot be read."""
    try:
        if not file.is_file():  # it is read twice: no pipe
            raise OSError("it is no regular file" if file.exists() else "there is no such file")
        with file.open(encoding="utf-8", errors="replace", newline="") as lines:
            yield from read_trace(lines, str(file))
    except OSError as error:
        fix = "name a CSV file; docs/bench.md shows its columns"
        raise UserError("unreadable-file", where=str(file), wrong=str(error), fix=fix) from error


def _wrong(name: str, wrong: str, fix: str) -> UserError:
    where = f"--{name.replace('_', '-')}"
    return UserError("invalid-load", where=where, wrong=wrong, fix=fix)
