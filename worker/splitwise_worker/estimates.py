"""What follows from an engine's work and its machine: operations, bytes, energy, money."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from threading import Lock
from typing import Final

from splitwise_core.latency.power import PowerModel
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
_KINDS = (StepKind.PROMPT, StepKind.TOKEN, StepKind.MIXED)

MOST_WAITING: Final = 16
"""Steps that are kept until they are counted, which takes 2 us each in one go."""


class Estimates:
    """Counted from the moment that it is made. What the machine does not tell has no series.

    A step is counted when somebody scrapes or MOST_WAITING are there: its tokens go out sooner.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        work: ModelWork,
        machine: Machine,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._machine = machine
        self._clock = clock
        self._flops = dict.fromkeys(_KINDS, 0.0)
        self._bytes = dict.fromkeys(_KINDS, 0.0)
        self._prompt_s = self._token_s = 0.0
        self._waiting = deque[tuple[Stepped, Sequence[int], list[int]]]()
        self._counting = Lock()
        self._began_s = clock()
        telemetry.before_scrape(self._count_waiting)  # before the totals below are shown
        for kind in _KINDS:
            telemetry.show_total(MODEL_FLOPS, partial(self._flops.__getitem__, kind), kind=kind)
            telemetry.show_total(MODEL_BYTES, partial(self._bytes.__getitem__, kind), kind=kind)
        if machine.peak_flops_per_s is not None:
            telemetry.gauge(PEAK_FLOPS).set(machine.peak_flops_per_s)
        if machine.peak_bytes_per_s is not None:
            telemetry.gauge(PEAK_BYTES).set(machine.peak_bytes_per_s)
        self._show_energy_and_cost(telemetry)

    def stepped(self, step: Stepped, tokens: Sequence[int], contexts: Iterable[int]) -> None:
        """Takes a step; `tokens` and `contexts` as in `ModelWork.step`. For one thread."""
        self._waiting.append((step, tokens, list(contexts)))
        if len(self._waiting) >= MOST_WAITING:
            self._count_waiting()

    def _count_waiting(self) -> None:
        """In the thread of the steps, or in that of a scrape."""
        with self._counting:
            for _ in range(len(self._waiting)):  # others only add to them meanwhile
                step, tokens, contexts = self._waiting.popleft()
                flops, read = self._work.step(tokens, contexts)
                self._flops[step.kind] += flops
                self._bytes[step.kind] += read
                self._prompt_s += step.prompt_s
                self._token_s += step.token_s

    def _show_energy_and_cost(self, telemetry: Telemetry) -> None:
        """Both grow by themselves: they are reckoned when somebody looks."""
        machine = self._machine
        if (joules := machine.joules) is not None:
            began_joules = joules()
            telemetry.show_total(ENERGY, lambda: joules() - began_joules, source="nvml")
        elif (power := machine.power) is not None:
            telemetry.show_total(ENERGY, lambda: self._joules(power), source="machine")
        if (dollars_per_hour := machine.dollars_per_hour) is not None:
            telemetry.show_total(COST, lambda: dollars_per_hour * self._up_s() / _HOUR_S)

    def _joules(self, power: PowerModel) -> float:
        idle_s = max(0.0, self._up_s() - self._prompt_s - self._token_s)
        return power.joules(self._prompt_s, self._token_s, idle_s)

    def _up_s(self) -> float:
        return self._clock() - self._began_s
