"""Where the released simulator sends a request: both machines are chosen when it arrives.

Split clusters have a pool for each phase and a mixed one between them; the machine with the fewest
pending tokens computes the prompt, the one with the most memory left decodes. What finds no place
takes a machine of the other phase into the mixed pool, until that machine is idle. Of equals, the
first in the pool's list: the order in which machines joined it counts.
"""

from typing import Final

from splitwise_planner.compat.state import (
    MIXED_POOL,
    PROMPT_POOL,
    TOKEN_POOL,
    WAITING,
    Pools,
    Simulation,
)
from splitwise_planner.compiled import index, kernel

NOWHERE: Final = index(-1)

MAX_PENDING_TOKENS: Final = 8192
"""Tokens that may wait for a prompt machine before the mixed pool is asked."""


@kernel
def place(sim: Simulation, number: int) -> None:
    """Chooses the machines of a request and counts it there."""
    request = sim.requests[number]
    if not sim.limits.splits:
        chosen = _least_pending(sim, PROMPT_POOL)
        request.prompt_machine = request.token_machine = chosen
        sim.machines[chosen].pending += request.prompt + 1
        return
    prompt, token = _pair(sim, number)
    request.prompt_machine, request.token_machine = prompt, token
    total = request.kv_bytes * (request.prompt + request.output)
    if prompt != token:
        sim.machines[prompt].reserved += request.kv_bytes * (request.prompt + 1)
    sim.machines[token].reserved += total
    sim.machines[prompt].pending += request.prompt
    sim.machines[token].pending += 1


@kernel
def give_back(sim: Simulation, machine: int) -> None:
    """An idle machine of the mixed pool returns to its own."""
    state = sim.machines[machine]
    if state.is_mixed:
        state.is_mixed = False
        _leave(sim.pools, MIXED_POOL, machine)
        _enter(sim.pools, state.home, machine)


@kernel
def _pair(sim: Simulation, number: int) -> tuple[int, int]:
    """The prompt and the token machine of a request, which may be one; borrows machines."""
    pools = sim.pools
    prompt = _prompt_machine(sim, number, PROMPT_POOL)
    if prompt == NOWHERE:
        prompt = _prompt_machine(sim, number, MIXED_POOL)
    token = _token_machine(sim, number, TOKEN_POOL)
    if token == NOWHERE:
        token = _token_machine(sim, number, MIXED_POOL)
    if prompt == NOWHERE and pools.length[TOKEN_POOL] > 0:
        prompt = _least_pending(sim, TOKEN_POOL)
        _borrow(sim, TOKEN_POOL, prompt)
    if token == NOWHERE and pools.length[PROMPT_POOL] > 0:
        token = _least_reserved(sim, PROMPT_POOL)
        _borrow(sim, PROMPT_POOL, token)
    if prompt == NOWHERE or token == NOWHERE:  # nothing has room: any machine, for both phases
        prompt = token = _least_pending_of_all(sim)
    return prompt, token


@kernel
def _prompt_machine(sim: Simulation, number: int, pool: int) -> int:
    """The machine of a pool with the fewest pending tokens, unless a long queue waits there."""
    machine = _least_pending(sim, pool)
    if machine == NOWHERE or sim.queues.length[WAITING, machine] == 0:
        return machine
    tokens = sim.machines[machine].pending + sim.requests[number].prompt
    return NOWHERE if tokens > MAX_PENDING_TOKENS else machine


@kernel
def _token_machine(sim: Simulation, number: int, pool: int) -> int:
    """The machine of a pool with the least memory reserved, unless the request fills it."""
    machine = _least_reserved(sim, pool)
    if machine == NOWHERE:
        return NOWHERE
    request = sim.requests[number]
    total = request.kv_bytes * (request.prompt + request.output)
    full = sim.machines[machine].reserved + total >= sim.machines[machine].capacity
    return NOWHERE if full else machine


@kernel
def _least_pending(sim: Simulation, pool: int) -> int:
    """The first machine of a pool with the fewest pending tokens."""
    row, best = sim.pools.items[pool], NOWHERE
    for i in range(sim.pools.length[pool]):
        if best == NOWHERE or sim.machines[row[i]].pending < sim.machines[best].pending:
            best = row[i]
    return best


@kernel
def _least_reserved(sim: Simulation, pool: int) -> int:
    """The first machine of a pool with the least memory reserved."""
    row, best = sim.pools.items[pool], NOWHERE
    for i in range(sim.pools.length[pool]):
        if best == NOWHERE or sim.machines[row[i]].reserved < sim.machines[best].reserved:
            best = row[i]
    return best


@kernel
def _least_pending_of_all(sim: Simulation) -> int:
    """The machine with the fewest pending tokens, of the prompt, the mixed, then the token pool."""
    best = NOWHERE
    for pool in (PROMPT_POOL, MIXED_POOL, TOKEN_POOL):
        machine = _least_pending(sim, pool)
        if machine == NOWHERE:
            continue
        if best == NOWHERE or sim.machines[machine].pending < sim.machines[best].pending:
            best = machine
    return best


@kernel
def _borrow(sim: Simulation, pool: int, machine: int) -> None:
    """Moves a machine into the mixed pool."""
    _leave(sim.pools, pool, machine)
    _enter(sim.pools, MIXED_POOL, machine)
    sim.machines[machine].is_mixed = True


@kernel
def _enter(pools: Pools, pool: int, machine: int) -> None:
    pools.items[pool, pools.length[pool]] = machine
    pools.length[pool] += 1


@kernel
def _leave(pools: Pools, pool: int, machine: int) -> None:
    row = pools.items[pool]
    place = 0
    while row[place] != machine:
        place += 1
    pools.length[pool] -= 1
    for i in range(place, pools.length[pool]):
        row[i] = row[i + 1]
