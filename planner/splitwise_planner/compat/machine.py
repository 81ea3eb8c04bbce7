"""A machine of the released simulator: tasks arrive, iterations run one after the other, tasks end.

As long as its batch stays the same a machine runs its iterations in one go; a task that arrives
meanwhile cuts them short after the one that runs.
"""

import numpy as np
from numpy.typing import NDArray

from splitwise_planner.compat.cluster import give_back
from splitwise_planner.compat.events import ITERATION, MOVED, RETRY, encoded, push
from splitwise_planner.compat.selection import is_prompt, select, task_bytes, task_tokens, wait
from splitwise_planner.compat.state import (
    BATCH,
    ENDED,
    LONGEST,
    MAX_BATCH,
    MAX_BATCH_TOKENS,
    POOL,
    QUEUED,
    RUNNING,
    WAITING,
    Simulation,
    insert,
    remove,
)
from splitwise_planner.compiled import kernel

MIXED_SLOWDOWN = 1.1  # of a prompt in whose batch sequences decode: released simulator

RETRY_S = 1.0  # until KV that found no room asks again


@kernel
def task_arrives(sim: Simulation, machine: int, task: int, now_s: float) -> None:
    """Queues a task; it starts at once, or after the iteration that runs, where it may."""
    request = task >> 1
    state, queues = sim.machines[machine], sim.queues
    if is_prompt(task) or sim.requests[request].prompt_machine != machine:
        _join(sim, machine, request)
    wait(sim, machine, task)
    sim.counts[LONGEST] = max(sim.counts[LONGEST], queues.length[WAITING, machine])
    running = queues.length[BATCH, machine]
    if running == 0:
        if state.memory + task_bytes(sim, task) <= state.capacity:
            start(sim, machine, now_s)
        return
    own = task_tokens(sim, task)
    if running < MAX_BATCH and state.batch_tokens + own <= MAX_BATCH_TOKENS:
        pause(sim, machine, now_s)
    elif is_prompt(task) and state.prompts < running:
        prompt_tokens = state.batch_tokens - (running - state.prompts)
        if prompt_tokens + own <= MAX_BATCH_TOKENS:
            pause(sim, machine, now_s)


@kernel
def _join(sim: Simulation, machine: int, request: int) -> None:
    """Lists a request at a machine, after those that arrived before it or with it."""
    row, place = sim.queues.items[POOL, machine], sim.queues.length[POOL, machine]
    arrival_s = sim.requests[request].arrival_s
    while place > 0 and sim.requests[row[place - 1]].arrival_s > arrival_s:
        place -= 1
    insert(sim.queues, POOL, machine, place, request)
    sim.counts[LONGEST] = max(sim.counts[LONGEST], sim.queues.length[POOL, machine])


@kernel
def start(sim: Simulation, machine: int, now_s: float) -> None:
    """Selects the next batch and runs it; what takes no time at all is done at once."""
    while _begin(sim, machine, now_s):
        _finish_iterations(sim, machine, now_s)


@kernel
def iterations_end(sim: Simulation, machine: int, now_s: float) -> None:
    """Ends the iterations that were foreseen, and the tasks that they complete; starts the next."""
    _finish_iterations(sim, machine, now_s)
    start(sim, machine, now_s)


@kernel
def _begin(sim: Simulation, machine: int, now_s: float) -> bool:
    """Starts a batch, if there is one; True when it takes no time, and no event tells its end."""
    state = sim.machines[machine]
    select(sim, machine)
    count = sim.queues.length[BATCH, machine]
    if count == 0:
        if sim.queues.length[POOL, machine] == 0:
            give_back(sim, machine)
        return False
    state.iteration_s = _iteration_s(sim, machine)
    state.iterations = _run(sim, machine, now_s)
    whole_s = state.iteration_s * state.iterations
    if whole_s == 0.0:
        return True
    _foresee(sim, machine, now_s + whole_s)
    return False


@kernel
def _foresee(sim: Simulation, machine: int, due_s: float) -> None:
    """Notes when the iterations end; what was foreseen before is void."""
    state = sim.machines[machine]
    state.version += 1
    state.due_s = due_s
    push(sim.heap, due_s, encoded(ITERATION, machine, state.version))


@kernel
def _run(sim: Simulation, machine: int, now_s: float) -> int:
    """Marks the batch's tasks as running, those new with their memory; the iterations to run."""
    state = sim.machines[machine]
    row = sim.queues.items[BATCH, machine]
    fewest = sim.requests[row[0] >> 1].output
    for i in range(sim.queues.length[BATCH, machine]):
        task = row[i]
        request = sim.requests[task >> 1]
        if is_prompt(task):
            request.prompt_state = RUNNING
            request.prompt_start_s = now_s
            state.memory += task_bytes(sim, task)
            continue
        if request.token_state == QUEUED:
            request.token_start_s = now_s
            state.memory += task_bytes(sim, task)
        request.token_state = RUNNING
        fewest = min(fewest, request.left)
    return 1 if state.prompts > 0 else fewest


@kernel
def _iteration_s(sim: Simulation, machine: int) -> float:
    """Seconds of one iteration of the batch, which depend on its number of tokens alone."""
    state, timings = sim.machines[machine], sim.timings
    row, count = state.hardware, timings.knots[state.hardware]
    decoding = sim.queues.length[BATCH, machine] - state.prompts
    knots = timings.tokens[row, :count]
    if state.prompts == 0:
        return interpolated(knots, timings.token_s[row], decoding)
    tokens = state.prompt_tokens + decoding
    prompt_s = interpolated(knots, timings.prompt_s[row], tokens)
    return prompt_s if decoding == 0 else prompt_s * MIXED_SLOWDOWN


@kernel
def interpolated(knots: NDArray[np.float64], values: NDArray[np.float64], at: int) -> float:
    """The line through the two knots around `at`, the outer ones going on; as scipy rounds it."""
    right = 1
    while right < len(knots) - 1 and knots[right] < at:
        right += 1
    left = right - 1
    slope = (values[right] - values[left]) / (knots[right] - knots[left])
    return float(slope * (at - knots[left]) + values[left])


@kernel
def pause(sim: Simulation, machine: int, now_s: float) -> None:
    """Cuts the iterations of a batch without prompts short: they end after the one that runs."""
    state = sim.machines[machine]
    if state.is_paused or state.prompts > 0:
        return
    state.is_paused = True
    whole_s = state.iteration_s * state.iterations
    elapsed_s = now_s - (state.due_s - whole_s)
    state.iterations = int(elapsed_s // state.iteration_s) + 1
    left_s = state.iteration_s * state.iterations - elapsed_s
    if left_s == 0.0:  # at the very end of an iteration
        state.version += 1
        iterations_end(sim, machine, now_s)
    else:
        _foresee(sim, machine, now_s + left_s)


@kernel
def _finish_iterations(sim: Simulation, machine: int, now_s: float) -> None:
    """Counts the tokens of the iterations that ran; tasks that have all of theirs leave."""
    state, queues = sim.machines[machine], sim.queues
    row = queues.items[BATCH, machine]
    kept, count = 0, queues.length[BATCH, machine]
    for i in range(count):
        task = row[i]
        request = sim.requests[task >> 1]
        if is_prompt(task):
            state.pending -= request.prompt
            _end_prompt(sim, machine, task >> 1, now_s)
            continue
        request.left -= state.iterations
        if request.left <= 0:
            state.pending -= 1
            _end_request(sim, machine, task >> 1, now_s)
        else:
            row[kept] = task
            kept += 1
    queues.length[BATCH, machine] = kept
    state.prompts = 0
    state.prompt_tokens = 0
    state.is_paused = False


@kernel
def _end_prompt(sim: Simulation, machine: int, number: int, now_s: float) -> None:
    """The first token is there; where another machine decodes, the KV goes to it."""
    request = sim.requests[number]
    request.prompt_end_s = now_s
    request.prompt_is_done = True
    if request.token_machine != machine:
        remove(sim.queues, POOL, machine, number)
        move(sim, number, now_s)


@kernel
def _end_request(sim: Simulation, machine: int, number: int, now_s: float) -> None:
    """The last token is there; the memory is free again."""
    request, state = sim.requests[number], sim.machines[machine]
    request.end_s = now_s
    held = request.kv_bytes * (request.prompt + request.output)
    state.memory -= held
    state.reserved -= held
    remove(sim.queues, POOL, machine, number)
    sim.ended[sim.counts[ENDED]] = number
    sim.counts[ENDED] += 1


@kernel
def move(sim: Simulation, number: int, now_s: float) -> None:
    """Sends the KV of a prompt to its token machine, or asks again later when that is full."""
    request = sim.requests[number]
    target = sim.machines[request.token_machine]
    held = request.kv_bytes * (request.prompt + 1)
    if target.memory + held > target.capacity:
        push(sim.heap, now_s + RETRY_S, encoded(RETRY, number, 0))
        return
    target.memory += held
    transfer_s = request.kv_bytes * request.prompt / sim.limits.bytes_per_s
    push(sim.heap, now_s + transfer_s, encoded(MOVED, number, 0))


@kernel
def moved(sim: Simulation, number: int, now_s: float) -> None:
    """The KV has arrived: its source is free of it, and the tokens may be decoded."""
    request = sim.requests[number]
    source = sim.machines[request.prompt_machine]
    held = request.kv_bytes * (request.prompt + 1)
    source.memory -= held
    source.reserved -= held
    task_arrives(sim, request.token_machine, 2 * number + 1, now_s)
    _room_again(sim, request.prompt_machine, now_s)


@kernel
def _room_again(sim: Simulation, machine: int, now_s: float) -> None:
    """A machine whose memory became free looks whether what waits there can run."""
    state, queues = sim.machines[machine], sim.queues
    if queues.length[WAITING, machine] == 0:
        return
    running = queues.length[BATCH, machine]
    if running == 0:
        first = queues.items[WAITING, machine, 0]
        if state.memory + task_bytes(sim, first) <= state.capacity:
            start(sim, machine, now_s)
    elif running < MAX_BATCH and state.batch_tokens < MAX_BATCH_TOKENS:
        pause(sim, machine, now_s)
