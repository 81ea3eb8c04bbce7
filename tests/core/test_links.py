"""What a link costs a placement."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.link import Link, seen_s
from splitwise_core.policy.links import LinkView
from splitwise_core.policy.routing import Placement, Reason, place
from tests.core.plain_placement import linked
from tests.core.test_routing import OVERFLOW, M, P, T, Worker, fleet, workers

FAST, SLOW = Link(0.001, 1e9, False), Link(0.001, 1e6, False)
FAR = Link(0.5, 1e9, False)
BROKEN = Link(0.0, 0.0, True)
UNKNOWN = Link(0.0, 0.0, False)

Links = Mapping[tuple[int, int], Link]


def view(links: Links, count: int, tokens_per_s: float = 1000.0) -> LinkView:
    """The links between workers of a fleet of `count`."""
    known: dict[int, dict[int, Link]] = {}
    for (prompt, token), link in links.items():
        known.setdefault(100 + prompt, {})[100 + token] = link
    return linked(range(100, 100 + count), [tokens_per_s] * count, known)


def placed(rows: Sequence[Worker], links: Links, tokens_per_s: float = 1000.0) -> Placement:
    return place(fleet(*rows), 100, 50, OVERFLOW, view(links, len(rows), tokens_per_s))


PAIRS = [Worker(P), Worker(P), Worker(T), Worker(T)]


@pytest.mark.parametrize(
    ("rows", "links", "expected"),
    [
        pytest.param(PAIRS, {}, Placement(0, 2, Reason.SPLIT), id="unknown links cost nothing"),
        pytest.param(
            PAIRS[1:],
            {(0, 1): FAR, (0, 2): FAST},
            Placement(0, 2, Reason.SPLIT),
            id="of equal queues the nearer one",
        ),
        pytest.param(
            PAIRS,
            {(0, 2): FAR, (0, 3): FAR, (1, 2): FAR, (1, 3): FAST},
            Placement(1, 3, Reason.SPLIT),
            id="both workers are chosen for their link",
        ),
        pytest.param(
            [Worker(P), Worker(T), Worker(T, tokens=5000)],
            {(0, 1): FAR, (0, 2): FAST},
            Placement(0, 1, Reason.SPLIT),
            id="a long queue costs more than a far link",
        ),
        pytest.param(
            [Worker(P), Worker(T), Worker(T, tokens=100)],
            {(0, 1): FAR, (0, 2): FAST},
            Placement(0, 2, Reason.SPLIT),
            id="a far link costs more than a short queue",
        ),
        pytest.param(
            [Worker(P), Worker(T), Worker(T, tokens=900)],
            {(0, 1): BROKEN, (0, 2): FAR},
            Placement(0, 2, Reason.SPLIT),
            id="a link that fails is not used while another is there",
        ),
        pytest.param(
            [Worker(P), Worker(T), Worker(T, tokens=900)],
            {(0, 1): BROKEN},
            Placement(0, 2, Reason.SPLIT),
            id="nor while one is there that nobody knows",
        ),
        pytest.param(
            [Worker(P), Worker(P, 900), Worker(T)],
            {(0, 2): BROKEN},
            Placement(1, 2, Reason.SPLIT),
            id="another prompt worker may be the way",
        ),
        pytest.param(
            [Worker(P), Worker(T), Worker(M, 900, 900)],
            {(0, 1): BROKEN, (2, 1): BROKEN, (0, 2): FAR},
            Placement(0, 2, Reason.TOKEN_OVERFLOW),
            id="and so may the mixed pool",
        ),
        pytest.param(
            [Worker(P), Worker(T), Worker(M, 900, 900)],
            {(0, 1): BROKEN, (0, 2): BROKEN, (2, 1): BROKEN},
            Placement(2, 2, Reason.ONE_WORKER),
            id="or one worker, where nothing is moved",
        ),
        pytest.param(
            [Worker(P), Worker(T), Worker(T)],
            {(0, 1): BROKEN, (0, 2): BROKEN},
            Placement(0, 1, Reason.SPLIT),
            id="a link that fails is used when nothing else is there",
        ),
        pytest.param(
            [Worker(P), Worker(T), Worker(P, 900, revision=1), Worker(T, revision=1)],
            {(0, 1): BROKEN},
            Placement(2, 3, Reason.SPLIT),
            id="another revision is tried before a link that fails",
        ),
    ],
)
def test_placement(rows: Sequence[Worker], links: Links, expected: Placement) -> None:
    assert placed(rows, links) == expected


def test_a_worker_far_down_the_queue_is_found_when_all_before_it_cannot_be_reached() -> None:
    rows = [Worker(P), *(Worker(T, tokens=n) for n in range(40)), Worker(T, tokens=999)]
    broken = {(0, token): BROKEN for token in range(1, 41)}
    assert placed(rows, broken).token == 41


def test_of_those_that_reach_anybody_links_decide_among_the_first_two() -> None:
    rows = [*(Worker(P, n) for n in range(5)), *(Worker(T) for _ in range(9))]
    tokens = range(5, 14)
    cut_off = {(prompt, token): BROKEN for prompt in (0, 1) for token in tokens}
    links = cut_off | {(2, t): FAR for t in tokens} | {(p, t): FAST for p in (3, 4) for t in tokens}
    assert placed(rows, links).prompt == 3
    assert placed(rows, links | {(3, t): FAR for t in tokens}).prompt == 2, "the next is not asked"


def test_while_no_speed_is_known_links_break_ties_alone() -> None:
    rows = [Worker(P), Worker(T, tokens=1), Worker(T), Worker(T)]
    assert placed(rows, {(0, 1): FAST, (0, 2): FAR, (0, 3): FAST}, tokens_per_s=0).token == 3


@pytest.mark.parametrize(
    ("link", "prompt_s", "expected_s"),
    [
        pytest.param(Link(0.1, 100.0, False), 0.0, 8.1, id="all of it without a prompt beside it"),
        pytest.param(Link(0.1, 100.0, False), 5.0, 3.1, id="what the prompt does not hide"),
        pytest.param(Link(0.1, 100.0, False), 60.0, 2.1, id="the last layer at least"),
        pytest.param(UNKNOWN, 0.0, 0.0, id="nothing while nothing is known"),
    ],
)
def test_what_a_request_sees_of_its_transfer(
    link: Link, prompt_s: float, expected_s: float
) -> None:
    assert seen_s(link, 800, prompt_s, layers=4) == pytest.approx(expected_s)


rates = st.builds(Link, st.floats(0, 1), st.floats(0, 1e10), st.booleans())
pairs = st.dictionaries(st.tuples(st.integers(0, 11), st.integers(0, 11)), rates, max_size=40)
fleets = st.lists(workers, max_size=12)


@given(fleets, pairs, st.floats(0, 1e5))
def test_links_change_who_serves_and_never_whether(
    rows: list[Worker], links: Links, tokens_per_s: float
) -> None:
    without, having = placed(rows, {}), placed(rows, links, tokens_per_s)
    assert having.found == without.found
    if having.prompt is not None:
        assert rows[having.prompt].ready
        assert rows[having.prompt].role in (P, M)
        assert rows[having.prompt].free_blocks * 16 >= 100
    if having.prompt is not None and having.token is not None:
        assert rows[having.token].role in (T, M)
        assert rows[having.token].free_blocks * 16 >= 150
        assert rows[having.prompt].revision == rows[having.token].revision


@given(fleets, st.floats(0, 1e5))
def test_links_of_which_nothing_is_known_change_nothing(
    rows: list[Worker], tokens_per_s: float
) -> None:
    every = {(p, t): UNKNOWN for p in range(len(rows)) for t in range(len(rows))}
    assert placed(rows, every, tokens_per_s) == placed(rows, {})
    assert placed(rows, {(98, 99): FAST}, tokens_per_s) == placed(rows, {})


@given(fleets, pairs)
def test_no_request_takes_a_failing_link_while_another_pair_could_serve_it(
    rows: list[Worker], links: Links
) -> None:
    placement = placed(rows, links)
    prompt, token = placement.prompt, placement.token
    if prompt is None or token is None or prompt == token:
        return
    if links.get((prompt, token), UNKNOWN).failing:
        for p in range(len(rows)):
            for t in range(len(rows)):
                only = [
                    row if n in (p, t) else row._replace(ready=False) for n, row in enumerate(rows)
                ]
                if (other := placed(only, {})).found:
                    pair = (other.prompt or 0, other.token or 0)
                    assert links.get(pair, UNKNOWN).failing
