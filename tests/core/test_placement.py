"""Placement by whole columns is placement worker by worker: the same ones, for the same reason."""

from collections.abc import Callable, Mapping

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from splitwise_core.policy.fleet import FEW, NOWHERE, FleetView
from splitwise_core.policy.link import Link
from splitwise_core.policy.links import NO_LINKS, LinkView
from splitwise_core.policy.mixing import Disaggregation, Mixing
from splitwise_core.policy.routing import Role, place
from splitwise_core.policy.stages import NO_STAGES, StageView, token_s
from tests.core.plain_placement import linked, plain_place
from tests.core.test_routing import Worker, fleet

OVERFLOW = 60
MOST = 24

few = st.sampled_from([0, 30, 61, 90])
"""Lengths of queues, many of them equal, around the limit."""

workers = st.builds(
    Worker,
    role=st.sampled_from(Role),
    prompt_queue=few,
    tokens=few,
    free_blocks=st.sampled_from([100] * 8 + [0, 8]),
    free_sequences=st.sampled_from([1] * 9 + [0]),
    ready=st.sampled_from([True] * 9 + [False]),
    revision=st.sampled_from([0] * 9 + [1]),
)
fleets = st.integers(0, MOST).flatmap(lambda n: st.lists(workers, min_size=n, max_size=n))
link = st.sampled_from([Link(0.001, 1e6, False), Link(0.05, 1e6, False), Link(0.0, 0.0, True)])
works, fails = Link(0.001, 1e6, False), Link(0.0, 0.0, True)


@st.composite
def links(draw: Callable[..., object], count: int) -> LinkView:
    """Links of single pairs, on top of workers that are cut off; or of none."""
    index = st.integers(0, max(0, count - 1))
    alone: set[int] = draw(st.sets(index))  # type: ignore[assignment]
    pairs: Mapping[tuple[int, int], Link] = draw(  # type: ignore[assignment]
        st.dictionaries(st.tuples(index, index), link, max_size=20)
    )
    known: dict[int, dict[int, Link]] = {
        a: {b: fails if {a, b} & alone else works for b in range(count)} for a in range(count)
    }
    for (a, b), between in pairs.items():
        known.setdefault(a, {})[b] = between
    speeds = draw(st.lists(st.sampled_from([0.0, 900.0]), min_size=count, max_size=count))
    return linked(range(count), speeds, known)


@st.composite
def stages(draw: Callable[..., object], count: int) -> StageView:
    """Of two kinds of workers, so that many cost the same."""
    kinds = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    shares = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=count, max_size=count)
    decoding = np.array(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    base_s, slope_s = np.where(kinds, 0.01, 0.03), np.where(kinds, 0.01, 0.0)
    return StageView(
        prompt_tokens_per_s=np.where(kinds, 1000.0, 300.0),
        token_s=token_s(base_s, slope_s, decoding, np.array(draw(shares))),
        decoding=decoding,
    )


@settings(max_examples=80, deadline=None)
@given(data=st.data(), rows=fleets)
def test_the_decision_is_that_of_asking_worker_by_worker(
    data: st.DataObject, rows: list[Worker]
) -> None:
    index = st.integers(0, max(0, len(rows) - 1))
    seen = fleet(*rows, borrowed=data.draw(st.sets(index)))
    cached = data.draw(st.dictionaries(index, st.integers(0, 99))) if rows else {}
    asked = (
        seen,
        100,
        data.draw(st.sampled_from([1, 40, 40, 40])),
        OVERFLOW,
        data.draw(st.just(NO_LINKS) | links(len(rows))),
        cached,
        Mixing(data.draw(st.booleans()), data.draw(st.sampled_from(Disaggregation))),
        data.draw(st.just(NO_STAGES) | stages(len(rows))),
    )
    assert place(*asked) == plain_place(*asked)
    for now in data.draw(st.lists(st.lists(workers, min_size=len(rows), max_size=len(rows)))):
        rewrite(seen, fleet(*now, borrowed=data.draw(st.sets(index))))
        assert place(*asked) == plain_place(*asked), "whatever was placed before"


def rewrite(seen: FleetView, now: FleetView) -> None:
    """What the same members say now, written into the columns as routers do."""
    for name in ("pending_prompt_tokens", "pending_tokens", "room_tokens", "borrowed"):
        np.copyto(getattr(seen, name), getattr(now, name))


told = st.tuples(few, few, st.sampled_from([0, 0, 100]))


@given(
    st.integers(0, 3 * FEW).flatmap(lambda count: st.lists(told, min_size=count, max_size=count))
)
def test_workers_without_room_are_passed_over_however_many_they_are(
    told: list[tuple[int, int, int]],
) -> None:
    seen = fleet(*(Worker(Role.TOKEN, *one) for one in told))
    rows, key = seen.members.rows(0, Role.TOKEN), seen.pending_prompt_tokens
    room = [row for row, one in enumerate(told) if one[2]]
    assert list(seen.in_order(rows, 1600, key)) == sorted(room, key=lambda row: told[row][0])
    first = min(room, key=lambda row: told[row][:2], default=NOWHERE)
    assert seen.least(rows, 1600, key, seen.pending_tokens) == first
