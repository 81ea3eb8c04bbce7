"""The loop: takes the next event, sets the clock and lets it happen, until nothing is left to."""

from splitwise_planner.compat.cluster import place
from splitwise_planner.compat.events import (
    ARRIVAL,
    ITERATION,
    MOVED,
    encoded,
    index_of,
    kind_of,
    pop,
    push,
    version_of,
)
from splitwise_planner.compat.machine import iterations_end, move, moved, task_arrives
from splitwise_planner.compat.state import LONGEST, MAX_BATCH, Simulation
from splitwise_planner.compiled import entry, kernel

END_S = 86_400.0
"""The released simulator stops after the first event a day after its start."""


@entry
def run(sim: Simulation) -> bool:
    """Runs a simulation on, to its end; False when first the lists of the machines need more room.

    Changes what is in its arrays, which hold all there is to know: it may be called again.
    """
    if sim.now_s[0] < 0.0:
        sim.now_s[0] = 0.0
        _foresee_arrivals(sim)
    room = sim.queues.items.shape[2] - MAX_BATCH - 2  # what one event may add
    while sim.heap.size[0] > 0 and sim.now_s[0] < END_S:
        if sim.counts[LONGEST] > room:
            return False
        time_s, code = pop(sim.heap)
        if kind_of(code) == ITERATION:
            machine = index_of(code)
            if version_of(code) == sim.machines[machine].version:
                sim.now_s[0] = time_s
                iterations_end(sim, machine, time_s)
            continue
        sim.now_s[0] = time_s
        _happen(sim, kind_of(code), index_of(code), time_s)
    return True


@kernel
def _foresee_arrivals(sim: Simulation) -> None:
    """Foresees the arrival of every request, in their order."""
    for number in range(len(sim.requests)):
        push(sim.heap, sim.requests[number].arrival_s, encoded(ARRIVAL, number, 0))


@kernel
def _happen(sim: Simulation, kind: int, number: int, now_s: float) -> None:
    """What happens to a request."""
    if kind == ARRIVAL:
        _arrive(sim, number, now_s)
    elif kind == MOVED:
        moved(sim, number, now_s)
    else:
        move(sim, number, now_s)


@kernel
def _arrive(sim: Simulation, number: int, now_s: float) -> None:
    """Places a request and queues its prompt; its tokens too, where the same machine has both."""
    place(sim, number)
    request = sim.requests[number]
    task_arrives(sim, request.prompt_machine, 2 * number, now_s)
    if request.token_machine == request.prompt_machine:
        task_arrives(sim, request.token_machine, 2 * number + 1, now_s)
