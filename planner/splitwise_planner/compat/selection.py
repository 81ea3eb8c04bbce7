"""The batch that a machine of the released simulator runs next.

In order: tasks that were left out too often, prompts, preempted sequences, those that run, and what
else waits; each as far as memory, batch size and batch tokens go. Sequences that find no place any
more are preempted and keep their memory.
"""

from typing import Final

from splitwise_planner.compat.state import (
    BATCH,
    BLOCKED,
    MAX_BATCH,
    MAX_BATCH_TOKENS,
    MAX_PREEMPTIONS,
    POOL,
    PREEMPTED,
    PROMPTS,
    QUEUED,
    RUNNING,
    SELECTIONS,
    WAITING,
    Simulation,
    append,
    insert,
    remove,
)
from splitwise_planner.compiled import index, kernel

FULL: Final = index(-1)  # nothing more goes into the batch
PASSED_OVER: Final = index(0)
TAKEN: Final = index(1)


@kernel
def is_prompt(task: int) -> bool:
    """Whether a task is a prompt, not the tokens after it."""
    return task & 1 == 0


@kernel
def task_bytes(sim: Simulation, task: int) -> int:
    """Memory that a task takes when it runs first: a prompt and its token, or all later tokens."""
    request = sim.requests[task >> 1]
    tokens = request.prompt + 1 if is_prompt(task) else request.output - 1
    return int(request.kv_bytes * tokens)


@kernel
def task_tokens(sim: Simulation, task: int) -> int:
    """Tokens that a task adds to a batch."""
    return int(sim.requests[task >> 1].prompt) if is_prompt(task) else 1


@kernel
def task_state(sim: Simulation, task: int) -> int:
    """Queued, running or blocked."""
    request = sim.requests[task >> 1]
    return int(request.prompt_state if is_prompt(task) else request.token_state)


@kernel
def set_state(sim: Simulation, task: int, state: int) -> None:
    """Notes what a task does."""
    request = sim.requests[task >> 1]
    if is_prompt(task):
        request.prompt_state = state
    else:
        request.token_state = state


@kernel
def preemptions(sim: Simulation, task: int) -> int:
    """How often a task was left out of a batch."""
    request = sim.requests[task >> 1]
    return int(request.prompt_preemptions if is_prompt(task) else request.token_preemptions)


@kernel
def current_task(sim: Simulation, request: int) -> int:
    """The task of a request that could run."""
    return 2 * request + 1 if sim.requests[request].prompt_is_done else 2 * request


@kernel
def wait(sim: Simulation, machine: int, task: int) -> None:
    """Puts a task into its machine's queue.

    A search by halves finds its place, though tasks may have aged since they came and the queue
    need not be in order: where it ends is part of the rules.
    """
    row = sim.queues.items[WAITING, machine]
    age, arrival_s = preemptions(sim, task), sim.requests[task >> 1].arrival_s
    low, high = 0, int(sim.queues.length[WAITING, machine])
    while low < high:
        middle = (low + high) // 2
        other_age = preemptions(sim, row[middle])
        other_s = sim.requests[row[middle] >> 1].arrival_s
        if age < other_age or (age == other_age and arrival_s < other_s):
            high = middle
        else:
            low = middle + 1
    insert(sim.queues, WAITING, machine, low, task)
    if is_prompt(task):
        append(sim.queues, PROMPTS, machine, task)


@kernel
def select(sim: Simulation, machine: int) -> None:
    """Replaces a machine's batch by the next one; what is left out has waited once more."""
    state, queues = sim.machines[machine], sim.queues
    if queues.length[WAITING, machine] == 0:  # who runs goes on
        state.batch_tokens = queues.length[BATCH, machine]
        return
    sim.counts[SELECTIONS] += 1
    count, tokens, free = _take_old(sim, machine, state.capacity - state.memory)
    count, tokens, free = _take_prompts(sim, machine, count, tokens, free)
    count, tokens = _take_running(sim, machine, PREEMPTED, count, tokens)
    count, tokens = _take_running(sim, machine, BATCH, count, tokens)
    count, tokens = _take_others(sim, machine, count, tokens, free)
    state.batch_tokens = tokens
    _preempt(sim, machine)
    _enter(sim, machine, count)
    _age(sim, machine)


@kernel
def _consider(sim: Simulation, task: int, count: int, tokens: int, free: int) -> int:
    """Whether a task goes into the batch after `count` others, which have `tokens` tokens and
    leave `free` bytes.

    The caller has room in the batch for one more. FULL: too many tokens; PASSED_OVER: its request
    is there already, or memory lacks.
    """
    request = sim.requests[task >> 1]
    if count > 0 and tokens + task_tokens(sim, task) > MAX_BATCH_TOKENS:
        return FULL
    if request.chosen == sim.counts[SELECTIONS]:
        return PASSED_OVER
    if task_state(sim, task) != QUEUED or task_bytes(sim, task) <= free:
        return TAKEN
    return PASSED_OVER


@kernel
def _take(sim: Simulation, task: int, count: int) -> int:
    """Puts a task into the batch that is being selected; the bytes that it needs more."""
    sim.scratch[count] = task
    sim.requests[task >> 1].chosen = sim.counts[SELECTIONS]
    return task_bytes(sim, task) if task_state(sim, task) == QUEUED else 0


@kernel
def _take_old(sim: Simulation, machine: int, free: int) -> tuple[int, int, int]:
    """Tasks that were left out too often; who lacks memory lets others pass."""
    count, tokens = 0, 0
    row = sim.queues.items[WAITING, machine]
    for i in range(sim.queues.length[WAITING, machine]):
        task = row[i]
        if preemptions(sim, task) < MAX_PREEMPTIONS or count == MAX_BATCH:
            break
        verdict = _consider(sim, task, count, tokens, free)
        if verdict == FULL:
            break
        if verdict == TAKEN:
            free -= _take(sim, task, count)
            count += 1
            tokens += task_tokens(sim, task)
    return count, tokens, free


@kernel
def _take_prompts(
    sim: Simulation, machine: int, count: int, tokens: int, free: int
) -> tuple[int, int, int]:
    """Prompts as they came, until one lacks memory or tokens."""
    row = sim.queues.items[PROMPTS, machine]
    for i in range(sim.queues.length[PROMPTS, machine]):
        task = row[i]
        if count == MAX_BATCH:
            break
        verdict = _consider(sim, task, count, tokens, free)
        if verdict == TAKEN:
            free -= _take(sim, task, count)
            count += 1
            tokens += task_tokens(sim, task)
        elif verdict == FULL or sim.requests[task >> 1].chosen != sim.counts[SELECTIONS]:
            break
    return count, tokens, free


@kernel
def _take_running(
    sim: Simulation, machine: int, which: int, count: int, tokens: int
) -> tuple[int, int]:
    """Sequences that have their memory: those that were preempted, or those that run."""
    row = sim.queues.items[which, machine]
    for i in range(sim.queues.length[which, machine]):
        if count == MAX_BATCH or (count > 0 and tokens + 1 > MAX_BATCH_TOKENS):
            break
        if sim.requests[row[i] >> 1].chosen != sim.counts[SELECTIONS]:
            _take(sim, row[i], count)
            count += 1
            tokens += 1
    return count, tokens


@kernel
def _take_others(
    sim: Simulation, machine: int, count: int, tokens: int, free: int
) -> tuple[int, int]:
    """Whatever else waits, by the arrival of its request, until one lacks memory or tokens."""
    row = sim.queues.items[POOL, machine]
    for i in range(sim.queues.length[POOL, machine]):
        if count == MAX_BATCH:
            break
        if sim.requests[row[i]].chosen == sim.counts[SELECTIONS]:
            continue
        task = current_task(sim, row[i])
        if _consider(sim, task, count, tokens, free) != TAKEN:
            break
        free -= _take(sim, task, count)
        count += 1
        tokens += task_tokens(sim, task)
    return count, tokens


@kernel
def _preempt(sim: Simulation, machine: int) -> None:
    """Stops what runs and was not selected; the others close up."""
    queues = sim.queues
    row = queues.items[BATCH, machine]
    kept = 0
    for i in range(queues.length[BATCH, machine]):
        task = row[i]
        if sim.requests[task >> 1].chosen == sim.counts[SELECTIONS]:
            row[kept] = task
            kept += 1
        else:
            set_state(sim, task, BLOCKED)
            wait(sim, machine, task)
            append(queues, PREEMPTED, machine, task)
    queues.length[BATCH, machine] = kept


@kernel
def _enter(sim: Simulation, machine: int, count: int) -> None:
    """Moves what was selected and does not run yet from the queue into the batch."""
    state, queues = sim.machines[machine], sim.queues
    for i in range(count):
        task = sim.scratch[i]
        condition = task_state(sim, task)
        if condition == RUNNING:
            continue
        remove(queues, WAITING, machine, task)
        if condition == BLOCKED:
            remove(queues, PREEMPTED, machine, task)
        if is_prompt(task):
            remove(queues, PROMPTS, machine, task)
            state.prompts += 1
            state.prompt_tokens += sim.requests[task >> 1].prompt
        append(queues, BATCH, machine, task)


@kernel
def _age(sim: Simulation, machine: int) -> None:
    """Counts for each request here without a task in the batch that it was left out."""
    queues = sim.queues
    if queues.length[POOL, machine] == queues.length[BATCH, machine]:
        return
    row = queues.items[POOL, machine]
    for i in range(queues.length[POOL, machine]):
        request = sim.requests[row[i]]
        if request.chosen == sim.counts[SELECTIONS]:
            continue
        if request.prompt_is_done:
            request.token_preemptions += 1
        else:
            request.prompt_preemptions += 1
