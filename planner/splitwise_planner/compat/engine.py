"""Runs the released simulator's rules on a trace: builds its state, runs it, reads the result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from splitwise_core.errors import UserError
from splitwise_planner.catalog import Model
from splitwise_planner.compat.events import empty
from splitwise_planner.compat.run import run
from splitwise_planner.compat.state import (
    ENDED,
    MACHINE,
    MAX_BATCH,
    MIXED_POOL,
    PROMPT_POOL,
    REQUEST,
    TOKEN_POOL,
    Limits,
    Pools,
    Queues,
    Simulation,
    Timings,
)
from splitwise_planner.compiled import is_kept
from splitwise_planner.design import Design
from splitwise_planner.outcome import Outcome
from splitwise_planner.phase_times import Key, Knots, Shape, knots_of
from splitwise_planner.trace import Trace

TRANSFER_BYTES_PER_S: Final = 200.0 * 1024**3
"""Of each transfer by itself: `transfer_bandwidth` of the released simulator."""

FEWEST_PLACES: Final = 2 * MAX_BATCH
"""Room of a machine's lists at first."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A model on a design's machines: what the simulator needs to know of them."""

    model: Model
    prompt: Knots
    token: Knots


def rules_for(times: dict[Key, list[Shape]], name: str, model: Model, design: Design) -> Rules:
    """The rules for a design. Raises UserError (invalid-phase-times) for what was not measured, and
    (invalid-design) where the model does not fit."""
    for machine in (design.prompt_machine, design.token_machine):
        if machine.memory_bytes <= model.weight_bytes:
            wrong = f"a machine {machine.letter} is too small for {name}'s weights"
            raise UserError(
                "invalid-design", where=str(design), wrong=wrong, fix="use a larger one"
            )
    prompt, token = (
        knots_of(times, name, machine.gpu, model.tensor_parallel, machine.prompt_slowdown)
        for machine in (design.prompt_machine, design.token_machine)
    )
    return Rules(model, prompt, token)


def is_compiled() -> bool:
    """Whether the simulator need not be compiled first, which takes half a minute."""
    return is_kept(run)


def simulate(trace: Trace, design: Design, rules: Rules) -> Outcome:
    """What becomes of a trace on a design; deterministic."""
    sim = _prepared(trace, design, rules)
    while not run(sim):
        sim = sim._replace(queues=_with_room(sim.queues))
    return _outcome(trace, sim)


def _prepared(trace: Trace, design: Design, rules: Rules) -> Simulation:
    """A simulation in which nothing has happened."""
    requests, machines = len(trace), design.machines
    # Events: arrivals, one transfer each, one iteration a machine, and a void one for each of the
    # three times that a request may cut iterations short.
    heap = empty(5 * requests + machines + 1)
    return Simulation(
        requests=_requests(trace, rules.model),
        machines=_machines(design, rules.model),
        queues=Queues(
            np.empty((5, machines, FEWEST_PLACES), np.int64), np.zeros((5, machines), np.int64)
        ),
        pools=_pools(design),
        heap=heap,
        timings=_timings([rules.prompt, rules.token]),
        limits=Limits(TRANSFER_BYTES_PER_S, design.splits),
        ended=np.zeros(requests, np.int64),
        counts=np.zeros(3, np.int64),
        now_s=np.full(1, -1.0),
        scratch=np.zeros(MAX_BATCH, np.int64),
    )


def _requests(trace: Trace, model: Model) -> NDArray[np.void]:
    requests = np.zeros(len(trace), REQUEST)
    requests["arrival_s"] = trace.arrival_s
    requests["prompt"] = trace.prompt_tokens
    requests["output"] = trace.output_tokens
    requests["left"] = trace.output_tokens - 1
    # Keys and values of every head, grouped-query attention or not; two bytes a value.
    requests["kv_bytes"] = 2 * model.layers * model.hidden * 2
    return requests.view(np.recarray)


def _machines(design: Design, model: Model) -> NDArray[np.void]:
    machines = np.zeros(design.machines, MACHINE)
    machines["memory"] = machines["reserved"] = model.weight_bytes
    machines["capacity"] = design.prompt_machine.memory_bytes
    machines["capacity"][design.prompt :] = design.token_machine.memory_bytes
    machines["hardware"][design.prompt :] = 1
    machines["home"][: design.prompt] = PROMPT_POOL
    machines["home"][design.prompt :] = TOKEN_POOL
    return machines.view(np.recarray)


def _pools(design: Design) -> Pools:
    items = np.zeros((3, design.machines), np.int64)
    items[PROMPT_POOL, : design.prompt] = np.arange(design.prompt)
    items[TOKEN_POOL, : design.token] = np.arange(design.prompt, design.machines)
    length = np.zeros(3, np.int64)
    length[[PROMPT_POOL, MIXED_POOL, TOKEN_POOL]] = design.prompt, 0, design.token
    return Pools(items, length)


def _timings(knots: Sequence[Knots]) -> Timings:
    """One row for each kind of machine; what is beyond its `count` is not read."""
    count = np.array([len(one.tokens) for one in knots])
    tokens, prompt_s, token_s = np.zeros((3, len(knots), count.max()))
    timings = Timings(tokens, prompt_s, token_s, count)
    for row, one in enumerate(knots):
        timings.tokens[row, : len(one.tokens)] = one.tokens
        timings.prompt_s[row, : len(one.tokens)] = one.prompt_s
        timings.token_s[row, : len(one.tokens)] = one.token_s
    return timings


def _with_room(queues: Queues) -> Queues:
    """The same lists with twice the room."""
    larger = np.empty((*queues.items.shape[:2], 2 * queues.items.shape[2]), np.int64)
    larger[:, :, : queues.items.shape[2]] = queues.items
    return Queues(larger, queues.length)


def _outcome(trace: Trace, sim: Simulation) -> Outcome:
    """The requests that ended, in that order."""
    order = sim.ended[: sim.counts[ENDED]]
    done = np.asarray(sim.requests)[order]
    return Outcome(
        request_id=trace.request_id[order],
        e2e_s=done["end_s"] - done["arrival_s"],
        queue_s=done["prompt_start_s"] - done["arrival_s"],
        ttft_s=done["prompt_end_s"] - done["arrival_s"],
        second_token_s=done["token_start_s"] - done["prompt_end_s"],
        prompt_tokens=trace.prompt_tokens[order],
        output_tokens=trace.output_tokens[order],
        unfinished=len(trace) - len(order),
    )
