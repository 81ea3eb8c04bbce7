"""Pools and what they say, to build a case in a line."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from splitwise_core.policy.roles import Role
from splitwise_core.policy.scaling import (
    Counts,
    Decision,
    Held,
    Law,
    Pool,
    Ratio,
    Reading,
    State,
    decide,
    observe,
)

LOOK_S = 2.0
SPEED = 5000
"""Prompt tokens that a busy worker of these tests computes in a second."""

PROMPT = Law(Role.PROMPT, least=1, most=20)
TOKEN = Law(Role.TOKEN, least=1, most=20)
MIXED = Law(Role.MIXED, least=1, most=20)


def prompts(
    workers: int, offered: float = 0.0, backlog_s: float = 0.0, at_s: float = 0.0, **more: Any
) -> Reading:
    """A prompt pool: `offered` worker-seconds of work come in a second, `backlog_s` each wait."""
    said: dict[str, Any] = {
        "seconds": LOOK_S,
        "kv_capacity": workers * 65536,
        "max_sequences": workers * 64,
        "queued_tokens": round(workers * backlog_s * SPEED),
        "arrived_tokens": round(offered * LOOK_S * SPEED),
        "prompts": 10,
        "prompt_tokens": SPEED,
        "prompt_s": 1.0,
    }
    return Reading(at_s=at_s, workers=workers, **(said | more))


def tokens(workers: int, share: float, at_s: float = 0.0, **more: Any) -> Reading:
    """A token pool that holds `share` of its memory."""
    said: dict[str, Any] = {
        "seconds": LOOK_S,
        "kv_capacity": workers * 65536,
        "max_sequences": workers * 64,
        "kv_taken": round(share * workers * 65536),
        "taken": round(share * workers * 10),
    }
    return Reading(at_s=at_s, workers=workers, **(said | more))


def watched(
    law: Law, counts: Counts, said: Reading | None, looks: int = 5, to_s: float = 0.0
) -> State:
    """A pool that has said the same for so many looks, the last of them at `to_s`."""
    state = State()
    for index in range(looks):
        at_s = to_s - LOOK_S * (looks - 1 - index)
        now = replace(said, at_s=at_s) if said is not None else None
        state = observe(state, law, counts, now, at_s)
    return state


def alone(law: Law, counts: Counts, said: Reading | None, looks: int = 5) -> Decision:
    """What such a pool decides for itself."""
    return apart({"pool": Pool(counts, law.role, law, watched(law, counts, said, looks))})["pool"]


def apart(pools: dict[str, Pool], ratio: Ratio | None = None, held: int = 0) -> dict[str, Decision]:
    """The decisions on pools at second 0."""
    return {name: made for name, (made, _) in decide(pools, ratio, held, 0.0).items()}


def whole_window(law: Law) -> int:
    """Looks that fill the window before a step down."""
    return round(law.down_window_s / LOOK_S) + 1


LAWS = st.builds(
    lambda role, least, more: Law(role, least, least + more, down_window_s=20.0, pending_s=20.0),
    st.sampled_from(Role),
    st.integers(1, 30),
    st.integers(0, 60),
)
"""Windows are short, so that few looks fill them."""
WORKERS = st.integers(0, 80)
COUNTS = st.builds(Counts, WORKERS, WORKERS, st.integers(0, 10), st.booleans())
READINGS = st.builds(
    Reading,
    at_s=st.just(0.0),
    seconds=st.just(LOOK_S),
    workers=st.integers(1, 80),
    missing=st.integers(0, 2),
    held=st.builds(
        Held, *[st.integers(0, 10**4)] * 3, st.floats(0, 1), *[st.integers(0, 10**6)] * 2
    ),
    kv_capacity=st.integers(1, 10**7),
    max_sequences=st.integers(1, 5000),
    queued_tokens=st.integers(0, 10**7),
    waiting=st.integers(0, 5000),
    kv_waiting=st.integers(0, 10**7),
    taken=st.integers(0, 5000),
    kv_taken=st.integers(0, 10**7),
    reserved=st.integers(0, 5000),
    kv_reserved=st.integers(0, 10**7),
    arrived_tokens=st.integers(0, 10**6),
    prompts=st.integers(0, 100),
    prompt_tokens=st.integers(0, 10**5),
    prompt_s=st.floats(0, 20),
    steps=st.integers(0, 1000),
    step_s=st.floats(0, 2),
    step_tokens=st.integers(0, 10**5),
)
"""Anything that a pool might say, sense or none."""


@st.composite
def pools(draw: st.DrawFn, laws: st.SearchStrategy[Law] = LAWS) -> dict[str, Pool]:
    """A prompt pool, a token pool, and perhaps a mixed one, with a past of any length."""
    made = {}
    for role in (Role.PROMPT, Role.TOKEN, *draw(st.sampled_from([(), (Role.MIXED,)]))):
        law, counts = replace(draw(laws), role=role), draw(COUNTS)
        said = draw(st.one_of(st.none(), READINGS))
        looks = draw(st.sampled_from([1, 2, 12]))
        made[role.name] = Pool(counts, role, law, watched(law, counts, said, looks))
    return made
