"""Every fault at every step of a transfer, on either side.

Whatever the step: a token worker decodes only what was sent (INV-3), both workers hear of one end
(INV-16) within the lease's bound, the reason is counted, and afterwards KV moves as before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.config import TRANSPORTS
from tests.sidecar.fault_scene import (
    BOUND_S,
    DEAD,
    GONE,
    LEASES,
    NOTHING,
    STEPS,
    TRANSFERS,
    VERIFIED,
    Scene,
    scene,
)
from tests.support.sidecar_process import SidecarProcess

Strike = Callable[[Scene], Awaitable[None]]
Pair = tuple[SidecarProcess, SidecarProcess]
SLOW_S: Final = 0.05


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pair]]:
    """A prompt and a token sidecar for each transport; they live on from fault to fault."""
    place: Path = tmp_path_factory.mktemp("faults")
    made = {}
    for name in TRANSPORTS:
        prompt, token = (SidecarProcess(place, f"{side}-{name}", [name]) for side in "pt")
        made[name] = prompt, token
    try:
        yield made
    finally:
        for sidecar in (sidecar for pair in made.values() for sidecar in pair):
            if sidecar.program.is_running:
                sidecar.kill()


# ---- the faults ----


async def the_prompt_sidecar_dies(s: Scene) -> None:
    s.prompt.kill()


async def the_token_sidecar_dies(s: Scene) -> None:
    s.token.kill()


async def the_prompt_sidecar_hangs(s: Scene) -> None:
    """Until the token side has gone on without it."""
    s.prompt.freeze()
    s.release()
    await s.end_at_token()
    s.prompt.thaw()


async def the_token_sidecar_hangs(s: Scene) -> None:
    """Until the prompt side has gone on without it."""
    s.token.freeze()
    s.release()
    await s.end_at_prompt()
    s.token.thaw()


async def the_prompt_worker_dies(s: Scene) -> None:
    s.prompt_worker.hang_up()
    s.prompt_end = DEAD


async def the_token_worker_dies(s: Scene) -> None:
    s.token_worker.hang_up()
    s.token_end = s.token_end or DEAD


async def the_wire_is_cut(s: Scene) -> None:
    s.cut()
    s.go_on()


async def the_wire_falls_silent(s: Scene) -> None:
    """Connections stay, nothing passes, nobody is told."""
    s.silence()
    s.go_on()
    await s.end_at_prompt()
    await s.end_at_token()


async def the_wire_is_slow(s: Scene) -> None:
    s.release()
    s.slow_down(SLOW_S)
    s.go_on()
    await s.end_at_prompt()


class Fault(NamedTuple):
    """What strikes, and how it may end for each worker, unless all was over before."""

    strike: Strike
    at_prompt: set[str]
    at_token: set[str]


WITHDRAWN: Final = "cancelled"  # by the step `abort`
LOST: Final = "peer_lost"
FAULTS: Final = (
    Fault(the_prompt_sidecar_dies, {GONE}, {"expired"}),
    Fault(the_token_sidecar_dies, {LOST}, {GONE}),
    Fault(the_prompt_sidecar_hangs, {"unknown_transfer", LOST}, {"expired"}),
    Fault(the_token_sidecar_hangs, {LOST}, {"expired", LOST}),
    Fault(the_prompt_worker_dies, {DEAD}, {"expired", LOST}),
    Fault(the_token_worker_dies, {LOST, "stale_epoch", "unknown_transfer"}, {DEAD}),
    Fault(the_wire_is_cut, {LOST, "transport_failed"}, {"expired", LOST, "transport_failed"}),
    Fault(the_wire_falls_silent, {LOST}, {"expired"}),
    Fault(the_wire_is_slow, set(), set()),
)

_first = cycle(range(len(TRANSPORTS)))  # so that each step meets each transport
CASES: Final = [
    pytest.param(step, fault, transport, id=f"{step.__name__}-{fault.strike.__name__}-{transport}")
    for fault, first in zip(FAULTS, _first)
    for step, transport in zip(STEPS, cycle((*TRANSPORTS[first:], *TRANSPORTS[:first])))
]


@pytest.mark.parametrize(("step", "fault", "transport"), CASES)
async def test_a_fault_ends_fail_closed(
    pairs: dict[str, Pair], step: Strike, fault: Fault, transport: str
) -> None:
    prompt, token = pairs[transport]
    seed = sum(map(ord, step.__name__ + fault.strike.__name__))
    async with scene(prompt, token, seed) as s:
        before = await counted(s)
        await step(s)
        async with asyncio.timeout(BOUND_S):
            await fault.strike(s)
            s.release()
            await s.end_at_prompt()
            await s.end_at_token()
        assert s.prompt_end in fault.at_prompt | {WITHDRAWN, "ok"}, s.said
        assert s.token_end in fault.at_token | {WITHDRAWN, VERIFIED, NOTHING}, s.said
        await nothing_is_wrong(s)
        await the_reason_is_counted(s, before)
    async with scene(prompt, token, seed + 1) as s:
        await a_good_transfer(s)


async def nothing_is_wrong(s: Scene) -> None:
    """INV-3, and that nothing is left."""
    if s.token_end == VERIFIED:
        assert s.arrived()
    if s.prompt_end == "ok":
        assert s.token_end == VERIFIED
    for sidecar, worker, end in (
        (s.prompt, s.prompt_worker, s.prompt_end),
        (s.token, s.token_worker, s.token_end),
    ):
        if sidecar.program.is_running and worker.is_attached:
            assert worker.nothing_came(), end
    if s.token.program.is_running:
        await s.until_no_lease()
        assert await s.token.value(LEASES) == 0


def outcome_of(end: str) -> str:
    return "ok" if end == VERIFIED else end


async def counted(s: Scene) -> dict[tuple[str, str], float]:
    """The transfers that each side has counted, by outcome."""
    return {
        (direction, outcome): await sidecar.value(TRANSFERS, direction=direction, outcome=outcome)
        for sidecar, direction in ((s.prompt, "sent"), (s.token, "received"))
        for outcome in (name.lower() for name in kv_pb2.Outcome.keys()[1:])
    }


async def the_reason_is_counted(s: Scene, before: dict[tuple[str, str], float]) -> None:
    for sidecar, direction, end in (
        (s.prompt, "sent", s.prompt_end),
        (s.token, "received", s.token_end),
    ):
        if end in (GONE, DEAD, NOTHING) or not sidecar.program.is_running:
            continue
        outcome = outcome_of(end)
        now = await sidecar.value(TRANSFERS, direction=direction, outcome=outcome)
        assert now == before[direction, outcome] + 1


async def a_good_transfer(s: Scene) -> None:
    s.open_lease()
    s.start()
    s.layers()
    s.finish()
    await s.end_at_token()
    await s.end_at_prompt()
    assert (s.prompt_end, s.token_end) == ("ok", VERIFIED), s.said
    assert s.arrived()
