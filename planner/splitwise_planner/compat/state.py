"""What the simulator knows at a moment: requests, machines, their queues, the pools, the events.

All of it lies in a few flat arrays, so that compiled code passes little around. A task is a number:
twice its request's index for the prompt, one more for the tokens.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from splitwise_planner.compat.events import Heap
from splitwise_planner.compiled import index, kernel

MAX_BATCH: Final = 512
"""Tasks in a batch: `max_batch_size` of the released simulator's machines."""

MAX_BATCH_TOKENS: Final = 2048
"""Tokens in a batch, a prompt's length or one for each sequence that decodes."""

MAX_PREEMPTIONS: Final = 4
"""A task that was left out this often goes first."""

QUEUED: Final = index(0)
RUNNING: Final = index(1)
BLOCKED: Final = index(2)  # preempted: it holds its memory

BATCH: Final = index(0)  # tasks that run
WAITING: Final = index(1)  # tasks that do not, by preemptions and arrival when they came
PROMPTS: Final = index(2)  # those of them that are prompts, as they came
PREEMPTED: Final = index(3)  # those of them that ran before, as they were stopped
POOL: Final = index(4)  # requests with a task here, by arrival

PROMPT_POOL: Final = index(0)
MIXED_POOL: Final = index(1)
TOKEN_POOL: Final = index(2)

REQUEST: Final = np.dtype(
    [
        ("arrival_s", np.float64),
        ("prompt_start_s", np.float64),
        ("prompt_end_s", np.float64),
        ("token_start_s", np.float64),
        ("end_s", np.float64),
        ("kv_bytes", np.int64),  # of one token
        ("prompt", np.int64),  # tokens
        ("output", np.int64),  # tokens, the prompt's own first one among them
        ("left", np.int64),  # tokens still to decode
        ("chosen", np.int64),  # the last selection that had a task of it
        ("prompt_machine", np.int64),
        ("token_machine", np.int64),
        ("prompt_preemptions", np.int64),
        ("token_preemptions", np.int64),
        ("prompt_state", np.int64),
        ("token_state", np.int64),
        ("prompt_is_done", np.int64),
    ],
    align=True,
)

MACHINE: Final = np.dtype(
    [
        ("capacity", np.int64),  # bytes in all
        ("memory", np.int64),  # bytes that hold weights and KV
        ("reserved", np.int64),  # bytes that placements count on
        ("pending", np.int64),  # tokens that placements count on
        ("batch_tokens", np.int64),  # of the batch as it was selected
        ("prompt_tokens", np.int64),  # of the prompts in the batch
        ("prompts", np.int64),  # in the batch
        ("iteration_s", np.float64),
        ("iterations", np.int64),  # foreseen, one after the other
        ("due_s", np.float64),  # when they are done
        ("version", np.int64),  # of what is foreseen: an event of an older one is void
        ("hardware", np.int64),  # row of the timings
        ("home", np.int64),  # pool that it belongs to
        ("is_mixed", np.int64),
        ("is_paused", np.int64),  # after the iteration that runs, a new batch is selected
    ],
    align=True,
)


class Queues(NamedTuple):
    """Five lists of each machine: `items[list, machine, place]`, of which `length` are there."""

    items: NDArray[np.int64]
    length: NDArray[np.int64]


class Timings(NamedTuple):
    """Seconds of an iteration by tokens in the batch: `[hardware, knot]`."""

    tokens: NDArray[np.float64]
    prompt_s: NDArray[np.float64]
    token_s: NDArray[np.float64]
    knots: NDArray[np.int64]  # how many there are in each row


class Pools(NamedTuple):
    """Machines that serve prompts, both or tokens, in the order in which they joined."""

    items: NDArray[np.int64]
    length: NDArray[np.int64]


class Limits(NamedTuple):
    """Of the whole cluster."""

    bytes_per_s: float  # of a transfer, which no other slows
    splits: bool  # False: each request stays on one machine


class Simulation(NamedTuple):
    """Everything; `counts` holds the selections so far, the requests that ended, and the most
    items in a list."""

    requests: NDArray[np.void]
    machines: NDArray[np.void]
    queues: Queues
    pools: Pools
    heap: Heap
    timings: Timings
    limits: Limits
    ended: NDArray[np.int64]  # requests in the order in which they ended
    counts: NDArray[np.int64]
    now_s: NDArray[np.float64]  # one value, below zero before anything has happened
    scratch: NDArray[np.int64]  # the batch that is being selected


SELECTIONS: Final = index(0)
ENDED: Final = index(1)
LONGEST: Final = index(2)


@kernel
def append(queues: Queues, which: int, machine: int, item: int) -> None:
    """Adds an item at the end."""
    queues.items[which, machine, queues.length[which, machine]] = item
    queues.length[which, machine] += 1


@kernel
def insert(queues: Queues, which: int, machine: int, place: int, item: int) -> None:
    """Adds an item before the one at `place`."""
    row = queues.items[which, machine]
    for i in range(queues.length[which, machine], place, -1):
        row[i] = row[i - 1]
    row[place] = item
    queues.length[which, machine] += 1


@kernel
def remove(queues: Queues, which: int, machine: int, item: int) -> None:
    """Takes out an item, which is there; what follows closes up."""
    row = queues.items[which, machine]
    place = 0
    while row[place] != item:
        place += 1
    queues.length[which, machine] -= 1
    for i in range(place, queues.length[which, machine]):
        row[i] = row[i + 1]
