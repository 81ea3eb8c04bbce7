"""A placement that was written down is made again the same, whatever it was chosen by."""

import json
from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.placement_record import chosen, recorded, replayed
from splitwise_core.policy.fleet import FleetView, Members, Numbers
from splitwise_core.policy.link import Link
from splitwise_core.policy.links import NO_LINKS, LinkView, failing_of
from splitwise_core.policy.mixing import Disaggregation, Mixing
from splitwise_core.policy.placement import Reason
from splitwise_core.policy.routing import Role, place
from splitwise_core.policy.stages import NO_STAGES, StageView

SIZE = 6
MOST = 2**63
"""A worker's number is as large as 64 bits can tell."""

counts = st.lists(st.integers(0, 5000), min_size=SIZE, max_size=SIZE).map(np.array)
rates = st.lists(st.floats(1e-6, 1e6), min_size=SIZE, max_size=SIZE).map(np.array)
roles = st.lists(st.sampled_from(list(Role)), min_size=SIZE, max_size=SIZE)
views = st.builds(
    FleetView,
    st.builds(
        lambda role, revision: Members(np.array(role, np.int8), np.array(revision, np.int64)),
        roles,
        st.lists(st.integers(-1, 1), min_size=SIZE, max_size=SIZE),
    ),
    counts,
    counts,
    st.lists(st.integers(-1, 9000), min_size=SIZE, max_size=SIZE).map(np.array),
    st.lists(st.booleans(), min_size=SIZE, max_size=SIZE).map(np.array),
)
links = st.builds(Link, st.floats(0, 1), st.floats(0, 1e11), st.booleans())
pairs = st.dictionaries(st.integers(0, SIZE - 1), links)


def _link_view(speed: Numbers, pairs: Mapping[int, Mapping[int, Link]]) -> LinkView:
    """As routers keep it: with those whose links fail beside what is known of all."""
    known = {MOST + a: {MOST + b: link for b, link in to.items()} for a, to in pairs.items()}
    numbers = np.arange(MOST, MOST + SIZE, dtype=np.uint64)
    return LinkView(numbers, speed, known, 100, 10, failing_of(known))


link_views = st.builds(_link_view, rates, st.dictionaries(st.integers(0, SIZE - 1), pairs))
stage_views = st.builds(StageView, rates, rates, counts)


@given(
    view=views,
    prompt=st.integers(1, 4000),
    most=st.integers(1, 500),
    link_view=st.just(NO_LINKS) | link_views,
    cached=st.dictionaries(st.integers(0, SIZE - 1), st.just(0)),
    mixing=st.builds(Mixing, st.booleans(), st.sampled_from(Disaggregation)),
    stages=st.just(NO_STAGES) | stage_views,
)
def test_it_is_placed_again_as_it_was(
    view: FleetView,
    prompt: int,
    most: int,
    link_view: LinkView,
    cached: dict[int, int],
    mixing: Mixing,
    stages: StageView,
) -> None:
    seen = (view, prompt, most, 1000, link_view, cached, mixing, stages)
    placement = place(*seen)
    record = json.loads(json.dumps(recorded(*seen, placement)))
    assert chosen(record) == placement
    assert replayed(record) == placement


def test_what_has_changed_since_is_not_in_it() -> None:
    """A router writes its columns on; what was recorded of them stays."""
    view = FleetView(
        Members(np.array([Role.PROMPT, Role.PROMPT, Role.TOKEN]), np.zeros(3, np.int64)),
        np.array([5, 9, 0]),
        np.zeros(3, np.int64),
        np.full(3, 1000),
        np.zeros(3, np.bool_),
    )
    seen = (10, 10, 1000, NO_LINKS, {}, Mixing(), NO_STAGES)
    placement = place(view, *seen)
    record = recorded(view, *seen, placement)
    view.pending_prompt_tokens[0] = 99
    assert place(view, *seen).prompt == 1
    assert replayed(record) == placement
    assert placement.prompt == 0
    assert placement.reason is Reason.SPLIT


def test_links_that_fail_are_avoided_again() -> None:
    """The two shortest queues cannot reach the token worker; a third one can."""
    count = 4
    view = FleetView(
        Members(np.array([*[Role.PROMPT] * 3, Role.TOKEN]), np.zeros(count, np.int64)),
        np.arange(count),
        np.zeros(count, np.int64),
        np.full(count, 1000),
        np.zeros(count, np.bool_),
    )
    known = {prompt: {3: Link(0.0, 1e9, failing=prompt < 2)} for prompt in range(3)}
    links = LinkView(np.arange(count), np.ones(count), known, 100, 10, failing_of(known))
    seen = (view, 10, 10, 1000, links, {}, Mixing(), NO_STAGES)
    placement = place(*seen)
    assert (placement.prompt, placement.token) == (2, 3)
    assert replayed(recorded(*seen, placement)) == placement
