"""One worker for both phases: borrowed where a pool is short, or chosen where that is cheaper."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.link import Link
from splitwise_core.policy.links import NO_LINKS, LinkView
from splitwise_core.policy.mixing import SHORT_PROMPT_TOKENS, Disaggregation, Mixing
from splitwise_core.policy.routing import Placement, Reason, place
from splitwise_core.policy.stages import NO_STAGES, StageView, token_s
from tests.core.plain_placement import linked
from tests.core.test_routing import OVERFLOW, M, P, T, Worker, fleet, workers

BORROWING = Mixing(borrowing=True)
AUTO = Mixing(borrowing=True, disaggregation=Disaggregation.AUTO)
NEVER = Mixing(borrowing=True, disaggregation=Disaggregation.NEVER)


@pytest.mark.parametrize(
    ("rows", "borrowed", "expected"),
    [
        pytest.param(
            [Worker(P, 1000), Worker(T)],
            [],
            Placement(0, 1, Reason.SPLIT),
            id="a queue at the limit borrows nobody",
        ),
        pytest.param(
            [Worker(P, 1001), Worker(T, tokens=5), Worker(T, tokens=3)],
            [],
            Placement(2, 2, Reason.BORROWED_TOKEN_WORKER),
            id="above it the token worker with the least to do serves both phases",
        ),
        pytest.param(
            [Worker(P, 5000), Worker(T), Worker(M, 900)],
            [],
            Placement(2, 1, Reason.PROMPT_OVERFLOW),
            id="the mixed pool goes first",
        ),
        pytest.param(
            [Worker(P, 5000), Worker(T), Worker(M, 2000)],
            [],
            Placement(1, 1, Reason.BORROWED_TOKEN_WORKER),
            id="unless it is crowded too",
        ),
        pytest.param(
            [Worker(P, 501), Worker(T), Worker(T, 100)],
            [2],
            Placement(2, 2, Reason.BORROWED_TOKEN_WORKER),
            id="who is borrowed already gets more above half of the limit",
        ),
        pytest.param(
            [Worker(P, 500), Worker(T), Worker(T, 100)],
            [2],
            Placement(0, 1, Reason.SPLIT),
            id="and nothing below, so that it can return",
        ),
        pytest.param(
            [Worker(P, 1500), Worker(T), Worker(T, 900)],
            [2],
            Placement(2, 2, Reason.BORROWED_TOKEN_WORKER),
            id="nobody else is borrowed while those that are have short queues",
        ),
        pytest.param(
            [Worker(P, 1500), Worker(T), Worker(T, 1100)],
            [2],
            Placement(1, 1, Reason.BORROWED_TOKEN_WORKER),
            id="one more is, when they are crowded themselves",
        ),
        pytest.param(
            [Worker(P, 1500), Worker(T, 1600)],
            [1],
            Placement(0, 1, Reason.SPLIT),
            id="a worker whose own queue is longer is of no help",
        ),
        pytest.param(
            [Worker(P, free_sequences=0), Worker(T)],
            [],
            Placement(1, 1, Reason.BORROWED_TOKEN_WORKER),
            id="a prompt pool without room is a long queue",
        ),
        pytest.param(
            [Worker(P), Worker(T, free_blocks=2)],
            [],
            Placement(0, 0, Reason.BORROWED_PROMPT_WORKER),
            id="a token pool without room borrows a prompt worker",
        ),
        pytest.param(
            [Worker(P, 1001), Worker(T, free_blocks=2)],
            [],
            Placement(None, None, Reason.NO_CAPACITY),
            id="but none that is crowded with prompts",
        ),
        pytest.param(
            [Worker(P, ready=False), Worker(T)],
            [],
            Placement(None, None, Reason.NO_PROMPT_WORKER),
            id="a pool that is not there is not replaced",
        ),
        pytest.param(
            [Worker(P, 5000), Worker(T, tokens=9), Worker(T, revision=1)],
            [],
            Placement(1, 1, Reason.BORROWED_TOKEN_WORKER),
            id="only workers of the revision that has both phases are borrowed",
        ),
    ],
)
def test_borrowing(rows: Sequence[Worker], borrowed: Sequence[int], expected: Placement) -> None:
    assert place(fleet(*rows, borrowed=borrowed), 100, 50, OVERFLOW, mixing=BORROWING) == expected


def test_a_borrowed_worker_computes_the_prompt_of_a_single_token() -> None:
    placement = place(fleet(Worker(P, 5000), Worker(T)), 100, 1, OVERFLOW, mixing=BORROWING)
    assert placement == Placement(1, None, Reason.SINGLE_TOKEN)


rows = st.lists(workers, max_size=12)
borrowed = st.sets(st.integers(0, 11))
mixings = st.sampled_from([BORROWING, AUTO, NEVER])


def stages(count: int, draw: Sequence[float]) -> StageView:
    """Five measured numbers for all of `count` workers."""
    speed, base_s, slope_s, decoding, share = draw
    columns = speed, token_s(base_s, slope_s, int(decoding), share), int(decoding)
    return StageView(*(np.full(count, number) for number in columns))


measured = st.one_of(
    st.none(),
    st.tuples(
        st.floats(1, 1e5), st.floats(0, 1), st.floats(0, 0.1), st.floats(0, 99), st.floats(0, 1)
    ),
)


@given(rows, borrowed, st.integers(1, 300), st.integers(1, 100), mixings, measured)
def test_one_worker_or_two_all_are_ready_have_room_and_are_of_one_revision(
    rows: list[Worker],
    borrowed: set[int],
    prompt_tokens: int,
    max_tokens: int,
    mixing: Mixing,
    measured: tuple[float, ...] | None,
) -> None:
    known = NO_STAGES if measured is None else stages(len(rows), measured)
    placement = place(
        fleet(*rows, borrowed=borrowed),
        prompt_tokens,
        max_tokens,
        OVERFLOW,
        mixing=mixing,
        stages=known,
    )
    prompt, token = placement.prompt, placement.token
    assert (token is not None) <= placement.found
    if prompt is None:
        return
    for worker, role in ((prompt, P), (token if token is not None else prompt, T)):
        whole = token is None or prompt == token
        assert rows[worker].ready
        assert whole or rows[worker].role in (role, M), "two workers are of their own phases"
        assert rows[worker].revision == rows[prompt].revision
    assert rows[prompt].free_sequences > 0
    assert rows[prompt].free_blocks * 16 >= prompt_tokens
    if token is not None:
        assert rows[token].free_blocks * 16 >= prompt_tokens + max_tokens
        assert rows[token].free_sequences > 0


@given(rows, borrowed, st.integers(1, 300), st.integers(1, 100))
def test_off_means_off(
    rows: list[Worker], borrowed: set[int], prompt_tokens: int, max_tokens: int
) -> None:
    plain = place(fleet(*rows), prompt_tokens, max_tokens, OVERFLOW)
    assert place(fleet(*rows, borrowed=borrowed), prompt_tokens, max_tokens, OVERFLOW) == plain


@given(rows, borrowed, st.integers(1, 300), st.integers(1, 100), mixings)
def test_who_was_served_by_fixed_pools_is_served(
    rows: list[Worker], borrowed: set[int], prompt_tokens: int, max_tokens: int, mixing: Mixing
) -> None:
    seen = fleet(*rows, borrowed=borrowed)
    if mixing.disaggregation is Disaggregation.NEVER:
        room = [row for row in rows if row.free_blocks * 16 >= prompt_tokens + max_tokens]
        served = any(row.ready and row.free_sequences for row in room)
    else:
        served = place(seen, prompt_tokens, max_tokens, OVERFLOW).found
    assert served <= place(seen, prompt_tokens, max_tokens, OVERFLOW, mixing=mixing).found


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_a_longer_queue_never_borrows_less(one: int, other: int) -> None:
    def borrows(queue: int, borrowed: Sequence[int]) -> bool:
        seen = fleet(Worker(P, queue), Worker(T), borrowed=borrowed)
        reason = place(seen, 100, 50, OVERFLOW, mixing=BORROWING).reason
        return reason is Reason.BORROWED_TOKEN_WORKER

    short, long = sorted((one, other))
    for state in ([], [1]):
        assert borrows(short, state) <= borrows(long, state)
    assert borrows(short, []) <= borrows(short, [1]), "who is borrowed stays so for longer"


# ---- by measured times ----


def gpu(
    slope_s: float = 0.0,
    decoding: tuple[int, int] = (0, 30),
    share: tuple[float, float] = (0.5, 0.0),
) -> StageView:
    """A prompt worker that is busy half of the time, and a token worker that decodes for many."""
    sequences = np.array(decoding)
    each_s = token_s(np.full(2, 0.03), slope_s, sequences, np.array(share))
    return StageView(np.full(2, 1000.0), each_s, sequences)


GPU = gpu()
PAIR = [Worker(P), Worker(T)]


def one_link(latency_s: float, failing: bool = False) -> LinkView:
    return linked(range(2), [1000.0] * 2, {0: {1: Link(latency_s, 1e9, failing)}})


@pytest.mark.parametrize(
    ("stages", "links", "prompt_tokens", "expected"),
    [
        pytest.param(
            NO_STAGES, NO_LINKS, 500, (0, 1), id="what nobody has measured is disaggregated"
        ),
        pytest.param(GPU, one_link(0.01), 500, (0, 1), id="many that decode are left in peace"),
        pytest.param(
            GPU, one_link(60.0), 500, (0, 0), id="by the prompt worker, where a transfer takes long"
        ),
        pytest.param(GPU, one_link(0.01, True), 500, (0, 0), id="or is not possible at all"),
        pytest.param(
            gpu(decoding=(0, 0)),
            one_link(0.01),
            500,
            (1, 1),
            id="nobody decodes: a transfer would only cost",
        ),
        pytest.param(
            gpu(slope_s=0.001, share=(0.0, 0.0)),
            one_link(0.01),
            500,
            (0, 0),
            id="an idle prompt worker decodes where each sequence makes steps longer",
        ),
        pytest.param(NO_STAGES, NO_LINKS, SHORT_PROMPT_TOKENS, (1, 1), id="but for a short prompt"),
    ],
)
def test_auto(
    stages: StageView, links: LinkView, prompt_tokens: int, expected: tuple[int, int]
) -> None:
    seen = fleet(*PAIR)
    placement = place(seen, prompt_tokens, 50, OVERFLOW, links, mixing=AUTO, stages=stages)
    assert (placement.prompt, placement.token) == expected


def test_a_prompt_that_the_token_worker_has_nearly_all_of_is_short() -> None:
    cached = {1: 500 - SHORT_PROMPT_TOKENS}
    placement = place(fleet(*PAIR), 500, 50, OVERFLOW, cached=cached, mixing=AUTO)
    assert placement == Placement(1, 1, Reason.SHORT_PROMPT)


def test_without_borrowing_no_prompt_worker_decodes() -> None:
    idle = gpu(slope_s=0.001, share=(0.0, 0.0))
    plain = replace(AUTO, borrowing=False)
    placement = place(fleet(*PAIR), 500, 50, OVERFLOW, one_link(0.01), mixing=plain, stages=idle)
    assert placement == Placement(0, 1, Reason.SPLIT)


@pytest.mark.parametrize("stages", [NO_STAGES, GPU], ids=["unmeasured", "measured"])
def test_never_is_one_worker_whatever_its_pool(stages: StageView) -> None:
    placement = place(
        fleet(Worker(P), Worker(T, 9, 9)), 500, 50, OVERFLOW, mixing=NEVER, stages=stages
    )
    assert placement == Placement(0, 0, Reason.ONE_WORKER)


sizes = st.tuples(
    st.integers(0, 10**4), st.integers(1, 10**4), st.integers(1, 10**4), st.floats(0, 10)
)


@given(sizes, st.integers(0, 1), st.floats(0, 100), st.floats(0, 1))
def test_more_to_wait_for_never_costs_less(
    sizes: tuple[int, int, int, float], prompt: int, more: float, share: float
) -> None:
    queued, tokens, most, seen_s = sizes
    calm = GPU.cost_s(prompt, 1, queued, tokens, most, seen_s)
    assert calm >= 0
    worse = (
        GPU.cost_s(prompt, 1, queued + int(more), tokens, most, seen_s),
        GPU.cost_s(prompt, 1, queued, tokens, most, seen_s + more),
        gpu(decoding=(int(more), 30 + int(more))).cost_s(prompt, 1, queued, tokens, most, seen_s),
        gpu(share=(0.0, share)).cost_s(prompt, 1, queued, tokens, most, seen_s),
    )
    assert min(worse) >= calm * (1 - 1e-9)
