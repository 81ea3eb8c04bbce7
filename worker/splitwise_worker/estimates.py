"""What follows from an engine's work and its machine: operations, bytes, energy, money."""

import time
from collections.abc import Callable, Iterable

from splitwise_core.metrics.worker import (
    COST,
    ENERGY,
    MODEL_BYTES,
    MODEL_FLOPS,
    PEAK_BYTES,
    PEAK_FLOPS,
)
from splitwise_core.policy.batching import StepKind
from splitwise_core.telemetry import Telemetry
from splitwise_worker.load_meter import Stepped
from splitwise_worker.machine import Machine
from splitwise_worker.model_work import ModelWork

_HOUR_S = 3600.0


class Estimates:
    """Counted from the moment that it is made. What the machine does not tell has no series."""

    def __init__(
        self,
        telemetry: Telemetry,
        work: ModelWork,
        machine: Machine,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        kinds = (StepKind.PROMPT, StepKind.TOKEN, StepKind.MIXED)
        self._work = work
        self._machine = machine
        self._telemetry = telemetry
        self._clock = clock
        self._flops = {kind: telemetry.counter(MODEL_FLOPS, kind=kind) for kind in kinds}
        self._bytes = {kind: telemetry.counter(MODEL_BYTES, kind=kind) for kind in kinds}
        self._prompt_s = self._token_s = 0.0
        self._began_s = clock()
        self._began_joules = machine.joules() if machine.joules is not None else 0.0
        self._joules = self._dollars = 0.0  # as they were shown last
        if machine.peak_flops_per_s is not None:
            telemetry.gauge(PEAK_FLOPS).set(machine.peak_flops_per_s)
        if machine.peak_bytes_per_s is not None:
            telemetry.gauge(PEAK_BYTES).set(machine.peak_bytes_per_s)
        telemetry.before_scrape(self._show)

    def stepped(self, step: Stepped, parts: Iterable[tuple[int, int]]) -> None:
        """Counts a step; `parts` as in `ModelWork.step`."""
        flops, read = self._work.step(parts)
        self._flops[step.kind].inc(flops)
        self._bytes[step.kind].inc(read)
        self._prompt_s += step.prompt_s
        self._token_s += step.token_s

    def _show(self) -> None:
        """Energy and money grow by themselves: they are reckoned when somebody looks."""
        machine, up_s = self._machine, self._clock() - self._began_s
        if machine.joules is not None:
            self._show_joules("nvml", machine.joules() - self._began_joules)
        elif machine.power is not None:
            idle_s = max(0.0, up_s - self._prompt_s - self._token_s)
            joules = machine.power.joules(self._prompt_s, self._token_s, idle_s)
            self._show_joules("machine", joules)
        if machine.dollars_per_hour is not None:
            dollars = machine.dollars_per_hour * up_s / _HOUR_S
            self._telemetry.counter(COST).inc(max(0.0, dollars - self._dollars))
            self._dollars = dollars

    def _show_joules(self, source: str, joules: float) -> None:
        self._telemetry.counter(ENERGY, source=source).inc(max(0.0, joules - self._joules))
        self._joules = max(joules, self._joules)
