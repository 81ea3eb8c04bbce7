"""Events in order of time, as a binary heap whose ties fall as CPython's `heapq` lets them fall.

The released simulator orders events by time alone, so which of two events at one moment comes first
is a matter of how its heap moves them: the moves here are the same.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from splitwise_planner.compiled import index, kernel

ARRIVAL: Final = index(0)  # of a request
ITERATION: Final = index(1)  # a machine has done its iterations
MOVED: Final = index(2)  # a request's KV has arrived at its token machine
RETRY: Final = index(3)  # a request's KV asks for room again

_KIND: Final = 56  # bits below the kind; a machine's version takes the upper half of them
_VERSION: Final = 28
_INDEX: Final = (1 << _VERSION) - 1


class Heap(NamedTuple):
    """`time_s` and `code` of each event; `size[0]` of them are there."""

    time_s: NDArray[np.float64]
    code: NDArray[np.int64]
    size: NDArray[np.int64]


def empty(capacity: int) -> Heap:
    """A heap with room for `capacity` events."""
    return Heap(np.empty(capacity), np.empty(capacity, np.int64), np.zeros(1, np.int64))


@kernel
def encoded(kind: int, index: int, version: int) -> int:
    """An event in one number."""
    return (kind << _KIND) | (version << _VERSION) | index


@kernel
def kind_of(code: int) -> int:
    """What happens."""
    return code >> _KIND


@kernel
def index_of(code: int) -> int:
    """The request or machine that it happens to."""
    return code & _INDEX


@kernel
def version_of(code: int) -> int:
    """The machine's version for which an iteration was foreseen."""
    return (code >> _VERSION) & _INDEX


@kernel
def push(heap: Heap, time_s: float, code: int) -> None:
    """Adds an event."""
    heap.size[0] += 1
    _rise(heap, 0, heap.size[0] - 1, time_s, code)


@kernel
def pop(heap: Heap) -> tuple[float, int]:
    """Takes the first event: its time and code."""
    times, codes = heap.time_s, heap.code
    heap.size[0] -= 1
    last = heap.size[0]
    first_s, first = times[0], codes[0]
    moved_s, moved = times[last], codes[last]
    place = 0
    child = 1
    while child < last:  # down to a leaf, always past the smaller child, the right one of equals
        if child + 1 < last and not times[child] < times[child + 1]:
            child += 1
        times[place], codes[place] = times[child], codes[child]
        place = child
        child = 2 * place + 1
    if last > 0:
        _rise(heap, 0, place, moved_s, moved)
    return first_s, first


@kernel
def _rise(heap: Heap, top: int, place: int, time_s: float, code: int) -> None:
    """Puts an event at `place` or, while it is earlier than the one above, further up."""
    times, codes = heap.time_s, heap.code
    while place > top:
        above = (place - 1) >> 1
        if not time_s < times[above]:
            break
        times[place], codes[place] = times[above], codes[above]
        place = above
    times[place], codes[place] = time_s, code
