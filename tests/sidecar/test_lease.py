"""The lease table: what it allows, and that nothing else happens."""

import pytest
from hypothesis import given
from hypothesis.strategies import lists, sampled_from

from splitwise_sidecar.lease import (
    LIVE,
    MAX_PUSHES,
    NEXT,
    WRITABLE,
    Event,
    Lease,
    ProtocolViolation,
    StaleEpoch,
    State,
    step,
)

MISSING = [(state, event) for state in State for event in Event if (state, event) not in NEXT]


@pytest.mark.parametrize(("state", "event"), MISSING, ids=[f"{s} {e}" for s, e in MISSING])
def test_what_the_table_lacks_is_refused_and_changes_nothing(state: State, event: Event) -> None:
    lease = Lease("t", 1, state)
    with pytest.raises(ProtocolViolation):
        step(lease, event, 1)
    assert lease == Lease("t", 1, state)


@pytest.mark.parametrize("state", LIVE)
@pytest.mark.parametrize("event", [Event.EXPIRE, Event.ABORT, Event.CLOSE])
def test_every_end_goes_through_the_fence(state: State, event: Event) -> None:
    fencing = step(Lease("t", 1, state), event, 1)
    assert fencing.state is State.FENCING
    assert step(fencing, Event.FENCED, 1).state is State.ENDED


def test_damage_is_forgiven_once() -> None:
    damaged = step(Lease("t", 1, State.CHECKING), Event.DAMAGE, 1)
    assert (damaged.state, damaged.pushes) == (State.ARRIVING, 2)
    with pytest.raises(ProtocolViolation):
        step(step(damaged, Event.COMMIT, 1), Event.DAMAGE, 1)


@pytest.mark.parametrize(("state", "event"), NEXT)
def test_an_event_of_an_earlier_worker_is_refused(state: State, event: Event) -> None:
    with pytest.raises(StaleEpoch):
        step(Lease("t", 2, state), event, 1)


@given(lists(sampled_from(Event), max_size=40))
def test_whatever_happens_blocks_come_back_fenced_or_verified(events: list[Event]) -> None:
    """INV-3 and INV-6: the two ends, and the only ways to them."""
    lease, told = Lease("t", 1), []
    for event in events:
        before = lease
        try:
            lease = step(lease, event, 1)
        except ProtocolViolation:
            assert lease is before
            continue
        told.append(event)
        if event is Event.CHUNK:
            assert before.state in WRITABLE
    if lease.state is State.ENDED:
        assert told[-1] is Event.FENCED
        assert Event.MATCH not in told
    if lease.state is State.VERIFIED:
        assert told[-2:] == [Event.COMMIT, Event.MATCH]
    assert told.count(Event.DAMAGE) < MAX_PUSHES
