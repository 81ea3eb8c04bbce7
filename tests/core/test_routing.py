"""Where a request goes: joint placement, shortest queues, and the mixed pool."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.fleet import NOT_READY, FleetView, Members
from splitwise_core.policy.routing import Placement, Reason, Role, place

OVERFLOW = 1000


class Worker(NamedTuple):
    """One row of a fleet, with room for everything unless said otherwise."""

    role: Role
    prompt_queue: int = 0
    tokens: int = 0
    free_blocks: int = 100
    free_sequences: int = 8
    ready: bool = True
    revision: int = 0


def fleet(*workers: Worker, block_tokens: int = 16, borrowed: Collection[int] = ()) -> FleetView:
    """These workers, of which those of some rows are borrowed."""

    def room(worker: Worker) -> int:
        return worker.free_blocks * block_tokens if worker.free_sequences else 0

    return FleetView(
        members=Members(
            np.array([w.role for w in workers], np.int8),
            np.array([w.revision for w in workers], np.int64),
        ),
        pending_prompt_tokens=np.array([w.prompt_queue for w in workers], np.int64),
        pending_tokens=np.array([w.tokens for w in workers], np.int64),
        room_tokens=np.array([room(w) if w.ready else NOT_READY for w in workers], np.int64),
        borrowed=np.array([row in borrowed for row in range(len(workers))], np.bool_),
    )


P, T, M = Role.PROMPT, Role.TOKEN, Role.MIXED


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        pytest.param(
            [Worker(P, 500), Worker(P, 100), Worker(T, tokens=9), Worker(T, tokens=3)],
            Placement(1, 3, Reason.SPLIT),
            id="each phase joins its shortest queue",
        ),
        pytest.param(
            [Worker(P, ready=False), Worker(P, 700), Worker(T)],
            Placement(1, 2, Reason.SPLIT),
            id="a worker that is not ready is passed over",
        ),
        pytest.param(
            [Worker(P), Worker(T, free_blocks=1), Worker(T, tokens=900)],
            Placement(0, 2, Reason.SPLIT),
            id="a token worker without room is passed over",
        ),
        pytest.param(
            [Worker(P, 1001), Worker(T), Worker(M, 10)],
            Placement(2, 1, Reason.PROMPT_OVERFLOW),
            id="a crowded prompt pool overflows into the mixed pool",
        ),
        pytest.param(
            [Worker(P, 1000), Worker(T), Worker(M, 10)],
            Placement(0, 1, Reason.SPLIT),
            id="a queue at the limit does not overflow yet",
        ),
        pytest.param(
            [Worker(P, 5000), Worker(T), Worker(M, 6000)],
            Placement(0, 1, Reason.SPLIT),
            id="no overflow into a mixed pool that is longer still",
        ),
        pytest.param(
            [Worker(P), Worker(T, tokens=1001), Worker(M)],
            Placement(0, 2, Reason.TOKEN_OVERFLOW),
            id="a crowded token pool overflows into the mixed pool",
        ),
        pytest.param(
            [Worker(M, 5), Worker(M, 2)],
            Placement(1, 1, Reason.ONE_WORKER),
            id="a mixed worker alone serves both phases and nothing is moved",
        ),
        pytest.param(
            [Worker(M, tokens=900), Worker(M), Worker(M, tokens=10)],
            Placement(1, 1, Reason.ONE_WORKER),
            id="of mixed workers with equal prompt queues the one that decodes least",
        ),
        pytest.param(
            [Worker(M, tokens=900), Worker(M, 5), Worker(M, tokens=10)],
            Placement(2, 2, Reason.ONE_WORKER),
            id="so too while the one that decodes least of all computes a prompt",
        ),
        pytest.param(
            [Worker(M, free_blocks=1), Worker(M, tokens=10)],
            Placement(1, 1, Reason.ONE_WORKER),
            id="a mixed worker without room to decode is passed over for one with",
        ),
        pytest.param(
            [Worker(P), Worker(T, revision=1), Worker(T, tokens=900)],
            Placement(0, 2, Reason.SPLIT),
            id="both workers are of one revision, however short the other's queue",
        ),
        pytest.param(
            [Worker(P, 50), Worker(T), Worker(P, 20, revision=1), Worker(T, revision=1)],
            Placement(2, 3, Reason.SPLIT),
            id="of two revisions the one with less to do",
        ),
        pytest.param(
            [Worker(P, revision=1), Worker(T)],
            Placement(None, None, Reason.NO_TOKEN_WORKER),
            id="half of each revision serves nobody",
        ),
        pytest.param(
            [Worker(P, revision=1), Worker(P), Worker(T, free_sequences=0)],
            Placement(None, None, Reason.NO_CAPACITY),
            id="a full revision is worth waiting for",
        ),
        pytest.param([], Placement(None, None, Reason.NO_PROMPT_WORKER), id="nobody at all"),
        pytest.param(
            [Worker(T)], Placement(None, None, Reason.NO_PROMPT_WORKER), id="no prompt worker"
        ),
        pytest.param(
            [Worker(P)], Placement(None, None, Reason.NO_TOKEN_WORKER), id="no token worker"
        ),
        pytest.param(
            [Worker(P), Worker(T, free_sequences=0)],
            Placement(None, None, Reason.NO_CAPACITY),
            id="full workers are told from missing ones",
        ),
    ],
)
def test_placement(workers: Sequence[Worker], expected: Placement) -> None:
    assert place(fleet(*workers), 100, 50, OVERFLOW) == expected


def test_a_request_for_one_token_needs_no_token_worker() -> None:
    placement = place(fleet(Worker(P)), 100, 1, OVERFLOW)
    assert placement == Placement(0, None, Reason.SINGLE_TOKEN)


workers = st.builds(
    Worker,
    role=st.sampled_from(Role),
    prompt_queue=st.integers(0, 3000),
    tokens=st.integers(0, 3000),
    free_blocks=st.integers(0, 20),
    free_sequences=st.integers(0, 2),
    ready=st.booleans(),
    revision=st.integers(0, 2),
)


@given(st.lists(workers, max_size=12), st.integers(1, 300), st.integers(1, 100))
def test_only_ready_workers_with_room_and_the_right_role_are_chosen(
    rows: list[Worker], prompt_tokens: int, max_tokens: int
) -> None:
    placement = place(fleet(*rows), prompt_tokens, max_tokens, OVERFLOW)
    if placement.prompt is not None:
        chosen = rows[placement.prompt]
        assert chosen.ready
        assert chosen.role in (P, M)
        assert chosen.free_blocks * 16 >= prompt_tokens
    if placement.token is not None:
        chosen = rows[placement.token]
        assert chosen.ready
        assert chosen.role in (T, M)
        assert chosen.free_blocks * 16 >= prompt_tokens + max_tokens
    assert (placement.token is not None) <= placement.found
    if placement.prompt is not None and placement.token is not None:
        assert rows[placement.prompt].revision == rows[placement.token].revision


@given(st.lists(workers, max_size=12), st.integers(1, 300), st.integers(2, 100))
def test_whoever_can_be_served_is_served(
    rows: list[Worker], prompt_tokens: int, max_tokens: int
) -> None:
    def can(worker: Worker, role: Role, tokens: int) -> bool:
        room = worker.free_blocks * 16 >= tokens and worker.free_sequences > 0
        return worker.ready and worker.role in (role, M) and room

    prompt = {row.revision for row in rows if can(row, P, prompt_tokens)}
    token = {row.revision for row in rows if can(row, T, prompt_tokens + max_tokens)}
    placement = place(fleet(*rows), prompt_tokens, max_tokens, OVERFLOW)
    assert placement.found == bool(prompt & token)


# ---- what workers have in their caches ----


@pytest.mark.parametrize(
    ("workers", "cached", "expected"),
    [
        pytest.param(
            [Worker(P, 60), Worker(P), Worker(T)],
            {0: 96},
            Placement(0, 2, Reason.SPLIT),
            id="a longer queue is worth it when the worker has more of the prompt than that",
        ),
        pytest.param(
            [Worker(P, 97), Worker(P), Worker(T)],
            {0: 96},
            Placement(1, 2, Reason.SPLIT),
            id="and not when it would wait longer than it saves",
        ),
        pytest.param(
            [Worker(P), Worker(T), Worker(T, tokens=60)],
            {2: 96},
            Placement(0, 2, Reason.SPLIT),
            id="a token worker that has it need not be sent it",
        ),
        pytest.param(
            [Worker(P, free_sequences=0), Worker(P, 900), Worker(T)],
            {0: 96},
            Placement(1, 2, Reason.SPLIT),
            id="a cache is no room",
        ),
        pytest.param(
            [Worker(P, 1090), Worker(T), Worker(M, 1050)],
            {0: 96},
            Placement(0, 1, Reason.SPLIT),
            id="a pool whose queue is short for this prompt does not overflow",
        ),
    ],
)
def test_placement_by_prefix(
    workers: Sequence[Worker], cached: dict[int, int], expected: Placement
) -> None:
    assert place(fleet(*workers), 100, 50, OVERFLOW, cached=cached) == expected


@given(
    st.lists(workers, min_size=1, max_size=12),
    st.dictionaries(st.integers(0, 11), st.integers(0, 99)),
)
def test_a_cache_changes_where_a_request_goes_and_never_whether(
    rows: list[Worker], cached: dict[int, int]
) -> None:
    here = {worker: tokens for worker, tokens in cached.items() if worker < len(rows)}
    plain = place(fleet(*rows), 100, 50, OVERFLOW)
    assert place(fleet(*rows), 100, 50, OVERFLOW, cached=here).found == plain.found
